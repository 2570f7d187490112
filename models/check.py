"""A bounded look at a GGUF's header: what the file says it is, without loading a tensor.

The file is not trusted: every count and length is checked before it is used, nothing longer than a chat template is
kept, and arrays are passed over. Whether its tensors are sound is for the worker to find out.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

MOST_KEYS, MOST_TENSORS, MOST_ITEMS, MOST_TEXT, KEPT_TEXT = 10_000, 10_000, 2_000_000, 1 << 20, 1 << 16
MOST_BYTES = 64 << 20  # of all keys together; a large vocabulary takes 20 MB
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_QUANTISATIONS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip


class BadFile(ValueError):
    """Not a GGUF this app can use; the message says why."""


@dataclass(frozen=True)
class Header:
    """What a GGUF says of itself. `keys` holds numbers and short texts, not arrays."""

    tensors: int
    keys: dict[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        return str(self.keys.get("general.architecture", ""))

    @property
    def is_adapter(self) -> bool:
        return self.keys.get("general.type") == "adapter"

    @property
    def name(self) -> str:
        return str(self.keys.get("general.name", ""))

    @property
    def quantisation(self) -> str:
        return _QUANTISATIONS.get(self.keys.get("general.file_type", -1), "")

    @property
    def context(self) -> int:
        length = self.keys.get(f"{self.architecture}.context_length", 0)
        return length if isinstance(length, int) else 0

    @property
    def licence(self) -> str:
        return str(self.keys.get("general.license", "")) or "unknown"

    @property
    def template(self) -> str:
        return str(self.keys.get("tokenizer.chat_template", ""))


def read_header(path: Path) -> Header:
    """The header of a GGUF version 2 or 3, little endian. BadFile if it is none; OSError if it cannot be read."""
    with path.open("rb") as file:
        reader = _Reader(file, path.stat().st_size)
        if reader.take(4) != b"GGUF":
            raise BadFile("it does not begin as a GGUF does")
        version, tensors, keys = reader.numbers("<IQQ")
        if version not in (2, 3) or tensors > MOST_TENSORS or keys > MOST_KEYS:
            raise BadFile(f"its counts make no sense (version {version}, {tensors} tensors, {keys} keys)")
        found = {}
        for _ in range(keys):
            name = reader.text(256)
            value = reader.value(reader.number("<I"))
            if value is not None:
                found[name] = value
            if file.tell() > MOST_BYTES:
                raise BadFile(f"its header is longer than {MOST_BYTES >> 20} MB")
    header = Header(tensors, found)
    if header.architecture != "llama":
        raise BadFile(f"its architecture is {header.architecture[:40] or 'not given'}, and only llama runs here")
    return header


class _Reader:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.items = 0
        """Of all lists together."""

    def take(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) != count:
            raise BadFile("it ends before its header does")
        return data

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def number(self, form: str) -> Any:
        return self.numbers(form)[0]

    def skip(self, count: int) -> None:
        if count > self.size - self.file.tell():
            raise BadFile("it names a length that passes its own end")
        self.file.seek(count, 1)

    def text(self, kept: int) -> str:
        length = self.number("<Q")
        if length > MOST_TEXT:
            raise BadFile(f"it holds a text of {length} bytes in its header")
        data = self.take(min(length, kept))
        self.skip(length - len(data))
        return data.decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self.number("<" + _NUMBERS[kind])
        if kind == _TEXT:
            return self.text(KEPT_TEXT)
        if kind == _ARRAY:
            return self.pass_over(*self.numbers("<IQ"))
        raise BadFile(f"it holds a value of unknown type {kind}")

    def pass_over(self, kind: int, count: int) -> None:
        self.items += count
        if self.items > MOST_ITEMS:
            raise BadFile(f"its header holds lists of {self.items} items")
        if kind in _NUMBERS:
            self.skip(struct.calcsize("<" + _NUMBERS[kind]) * count)
        elif kind == _TEXT:
            for _ in range(count):
                self.skip(self.number("<Q"))
        else:
            raise BadFile(f"it holds a list of unknown type {kind}")
