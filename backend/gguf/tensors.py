"""Tensors of safetensors files, one at a time and without torch: the file is mapped, never read whole.

numpy has no bf16. Such a tensor is seen as uint16, which is the upper half of the float32 it stands for.
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
LARGEST_HEADER = 100_000_000
BLOCK = 1 << 22  # values converted at a time, so that the peak is the tensor itself and not its float32 copy


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    def read(self) -> Array:
        """The stored values, mapped."""
        kind = np.dtype(STORED[self.dtype])
        values: Array = np.memmap(self.file, dtype=kind, mode="r", offset=self.start, shape=self.shape)
        return values


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or a sentence about why not."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"{path.parent.name} has no {path.name}. Choose a complete Hugging Face folder.") from None
    except (ValueError, OSError) as error:
        raise LabError(f"{path.name} cannot be read as JSON ({error}). Download or save it again.") from error
    if not isinstance(found, dict):
        raise LabError(f"{path.name} does not hold a JSON object. Download or save it again.")
    return found


def header(path: Path) -> tuple[dict[str, Any], int]:
    """The table at the head of a safetensors file, and where the data begins."""
    broken = LabError(f"{path.name} is not a whole safetensors file. Download or save it again.")
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
    """One row of the table, checked against the room it claims."""
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    if dtype not in STORED:
        raise LabError(
            f"{name} is stored as {dtype}; only 16- and 32-bit floats can be converted. "
            "Merge or save the model in bf16 first."
        )
    start, end = entry["data_offsets"]
    if end - start != math.prod(shape) * np.dtype(STORED[dtype]).itemsize:
        raise LabError(f"{path.name} is damaged: {name} has the wrong size. Download or save it again.")
    return Tensor(path, dtype, shape, base + start)


def tensors_in(path: Path) -> dict[str, Tensor]:
    """All tensors of one file."""
    table, base = header(path)
    return {name: tensor_at(path, name, entry, base) for name, entry in table.items()}


def model_files(folder: Path) -> list[Path]:
    """The weight files of a model folder: one, or the shards an index names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file() or not index.is_file():
        return [single]
    names = sorted(set(load_json(index).get("weight_map", {}).values()))
    if any(Path(name).name != name for name in names):
        raise LabError(f"{index.name} names files outside its folder. Choose another copy of this model.")
    return [folder / name for name in names]


def model_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model folder."""
    found: dict[str, Tensor] = {}
    for path in model_files(folder):
        if not path.is_file():
            raise LabError(f"{folder.name} has no {path.name}. Choose a complete Hugging Face folder.")
        found |= tensors_in(path)
    return found


def to_float(values: Array) -> Array:
    """Stored values as float32."""
    wide: Array = values.astype(np.uint32 if values.dtype == np.uint16 else np.float32)
    return (wide << 16).view(np.float32) if values.dtype == np.uint16 else wide


def to_type(values: Array, kind: str) -> Array:
    """float32 values as they will be written."""
    if kind != "BF16":
        return values.astype(WRITTEN[kind])
    halves: Array = quantize(values.reshape(1, -1), GGMLQuantizationType.BF16).view(np.uint16)
    return halves.reshape(values.shape)


def converted(tensor: Tensor, kind: str, order: Callable[[Array], Array]) -> Array:
    """The tensor, its rows reordered, in the type it will be written in."""
    source: Array = np.ascontiguousarray(order(tensor.read()))
    if tensor.dtype == kind:
        return source
    flat: Array = source.reshape(-1)
    result: Array = np.empty(source.size, WRITTEN[kind])
    with np.errstate(over="ignore"):
        for i in range(0, flat.size, BLOCK):
            block = result[i : i + BLOCK] = to_type(to_float(flat[i : i + BLOCK]), kind)
            if kind == "F16" and not np.isfinite(block).all():
                raise LabError("A weight does not fit into f16. Choose a quantised type, bf16 or f32 instead.")
    return result.reshape(source.shape)


@dataclass(frozen=True, eq=False)
class Update:
    """scale * b @ a, to be added to a weight. Both are float32."""

    a: Array
    b: Array
    scale: float


@dataclass(frozen=True, eq=False)
class Merged(Tensor):
    """A stored weight that reads as if the update were part of it."""

    update: Update

    def read(self) -> Array:
        stored = super().read()
        found: Array = np.empty(self.shape, STORED[self.dtype])
        a, b, scale = self.update.a, self.update.b, np.float32(self.update.scale)
        rows = max(1, BLOCK // self.shape[1])
        with np.errstate(over="ignore"):
            for i in range(0, self.shape[0], rows):
                total = to_float(stored[i : i + rows])
                total += (b[i : i + rows] @ a) * scale
                found[i : i + rows] = to_type(total, self.dtype)
        if self.dtype == "F16" and not np.isfinite(found).all():
            raise LabError("A merged weight does not fit into f16, the type of its base. Train from a bf16 base.")
        return found


def merged(tensor: Tensor, update: Update | None) -> Tensor:
    """The tensor as it is where there is no update."""
    if update is None:
        return tensor
    return Merged(tensor.file, tensor.dtype, tensor.shape, tensor.start, update)
