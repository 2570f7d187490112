"""Tensors of safetensors files as numpy arrays, without torch: reading, conversion of types, LoRA updates; JSON files.

Files are memory-mapped, so that only the used tensors are read. numpy has no bf16: such a tensor is an array of uint16,
the upper halves of the float32 values.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from backend.core.errors import LabError

Array = np.ndarray[Any, Any]
STORED = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
WRITTEN = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
LARGEST_HEADER = 100_000_000  # bytes
BLOCK = 1 << 22  # values converted at a time, so that no float32 copy of a tensor is in memory


@dataclass(frozen=True)
class Tensor:
    """The place of a tensor: file, type, shape and offset in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    def read(self) -> Array:
        """Map the stored values into memory."""
        kind = np.dtype(STORED[self.dtype])
        values: Array = np.memmap(self.file, dtype=kind, mode="r", offset=self.start, shape=self.shape)
        return values


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises LabError if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"{path.parent.name} has no {path.name}. Choose a complete Hugging Face folder.") from None
    except (ValueError, OSError) as error:
        raise LabError(f"{path.name} cannot be read as JSON ({error}). Download or save it again.") from error
    if not isinstance(value, dict):
        raise LabError(f"{path.name} is not a JSON object. Download or save it again.")
    return value


def read_table(path: Path) -> tuple[dict[str, Any], int]:
    """Read the table of a safetensors file, and the offset of the data. Raises LabError for a damaged file."""
    broken = LabError(f"{path.name} is not a complete safetensors file. Download or save it again.")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= LARGEST_HEADER:
                raise broken
            table = json.loads(file.read(length))
    except (OSError, ValueError) as error:
        raise broken from error
    table.pop("__metadata__", None)
    size = path.stat().st_size - 8 - length
    if any(entry["data_offsets"][1] > size for entry in table.values()):
        raise broken
    return table, 8 + length


def tensor_at(path: Path, name: str, entry: dict[str, Any], base: int) -> Tensor:
    """Convert one entry of the table. Raises LabError for other types and for a size that does not fit the shape."""
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    if dtype not in STORED:
        raise LabError(
            f"{name} has the type {dtype}; only BF16, F16 and F32 can be converted. Save the model as bf16 first."
        )
    start, end = entry["data_offsets"]
    if end - start != math.prod(shape) * np.dtype(STORED[dtype]).itemsize:
        raise LabError(f"{path.name} is damaged: {name} has the wrong size. Download or save it again.")
    return Tensor(path, dtype, shape, base + start)


def tensors_in(path: Path) -> dict[str, Tensor]:
    """All tensors of one file, by name."""
    table, base = read_table(path)
    return {name: tensor_at(path, name, entry, base) for name, entry in table.items()}


def model_files(folder: Path) -> list[Path]:
    """The weight files of a model folder: one file, or the shards of the index."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file() or not index.is_file():
        return [single]
    names = sorted(set(load_json(index).get("weight_map", {}).values()))
    if any(Path(name).name != name for name in names):
        raise LabError(f"{index.name} refers to files outside its folder. Choose another copy of this model.")
    return [folder / name for name in names]


def model_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model folder, by name. Raises LabError if a file is missing."""
    tensors: dict[str, Tensor] = {}
    for path in model_files(folder):
        if not path.is_file():
            raise LabError(f"{folder.name} has no {path.name}. Choose a complete Hugging Face folder.")
        tensors |= tensors_in(path)
    return tensors


def to_float(values: Array) -> Array:
    """Convert stored values to float32."""
    wide: Array = values.astype(np.uint32 if values.dtype == np.uint16 else np.float32)
    return (wide << 16).view(np.float32) if values.dtype == np.uint16 else wide


def to_type(values: Array, kind: str) -> Array:
    """Convert float32 values to `kind`: F32, F16 or BF16."""
    if kind != "BF16":
        return values.astype(WRITTEN[kind])
    halves: Array = quantize(values.reshape(1, -1), GGMLQuantizationType.BF16).view(np.uint16)
    return halves.reshape(values.shape)


def converted(tensor: Tensor, kind: str, order: Callable[[Array], Array]) -> Array:
    """Read a tensor, reorder its rows and convert it to `kind`. Raises LabError if a value is too large for F16."""
    source: Array = np.ascontiguousarray(order(tensor.read()))
    if tensor.dtype == kind:
        return source
    flat: Array = source.reshape(-1)
    result: Array = np.empty(source.size, WRITTEN[kind])
    with np.errstate(over="ignore"):
        for i in range(0, flat.size, BLOCK):
            block = result[i : i + BLOCK] = to_type(to_float(flat[i : i + BLOCK]), kind)
            if kind == "F16" and not np.isfinite(block).all():
                raise LabError("A weight is too large for f16. Choose a quantised type, bf16 or f32 instead.")
    return result.reshape(source.shape)


@dataclass(frozen=True, eq=False)
class Update:
    """The update scale * b @ a of a weight. `a` is [rank, in], `b` is [out, rank]; both are float32."""

    a: Array
    b: Array
    scale: float


@dataclass(frozen=True, eq=False)
class Merged(Tensor):
    """A stored weight to which `read` adds the update. Raises LabError if a sum is too large for F16."""

    update: Update

    def read(self) -> Array:
        stored = super().read()
        result: Array = np.empty(self.shape, STORED[self.dtype])
        a, b, scale = self.update.a, self.update.b, np.float32(self.update.scale)
        rows = max(1, BLOCK // self.shape[1])
        with np.errstate(over="ignore"):
            for i in range(0, self.shape[0], rows):
                total = to_float(stored[i : i + rows])
                total += (b[i : i + rows] @ a) * scale
                result[i : i + rows] = to_type(total, self.dtype)
        if self.dtype == "F16" and not np.isfinite(result).all():
            raise LabError("A merged weight is too large for f16, the type of its base. Train from a bf16 base.")
        return result


def merged(tensor: Tensor, update: Update | None) -> Tensor:
    """The tensor with the update; the tensor itself if there is none."""
    if update is None:
        return tensor
    return Merged(tensor.file, tensor.dtype, tensor.shape, tensor.start, update)
