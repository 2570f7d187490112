"""A GGUF taken apart into keys and tensors, and put together again, right or wrong."""

import struct
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

TEXT, LIST = 8, 9
FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
U32, I32, F32, BOOL = 4, 5, 6, 7


@dataclass
class Key:
    """`value` is a number, bytes for a text, or a list of those; `item` is the kind of a list's items."""

    name: bytes
    kind: int
    value: Any
    item: int = 0
    count: int | None = None
    """What a list says its length is, when it lies."""


@dataclass
class Row:
    """A tensor: its line in the table, and its data."""

    name: bytes
    shape: list[int]
    type: int
    data: bytes
    offset: int = 0
    dimensions: int | None = None
    """How many the line says it has, when it lies."""


@dataclass
class Gguf:
    keys: list[Key] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    magic: bytes = b"GGUF"
    version: int = 3
    counts: tuple[int, int] | None = None
    """How many tensors and keys it says it has, when it lies."""
    alignment: int = 32

    def key(self, name: str) -> Key:
        return next(key for key in self.keys if key.name == name.encode())

    def set(self, name: str, value: Any, kind: int = U32, item: int = 0) -> "Gguf":
        """Give a key this value, at its place or at the end."""
        fresh = Key(name.encode(), kind, value, item)
        for index, key in enumerate(self.keys):
            if key.name == fresh.name:
                self.keys[index] = fresh
                return self
        self.keys.append(fresh)
        return self

    def drop(self, name: str) -> "Gguf":
        self.keys = [key for key in self.keys if key.name != name.encode()]
        return self

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name.encode())

    def lay(self) -> "Gguf":
        """Give every tensor the offset at which its data will stand."""
        at = 0
        for row in self.rows:
            row.offset = at
            at += len(padded(row.data, self.alignment))
        return self

    def copy(self) -> "Gguf":
        return deepcopy(self)

    def head(self) -> bytes:
        """Everything before the data, without the padding."""
        tensors, keys = self.counts or (len(self.rows), len(self.keys))
        parts = [self.magic, struct.pack("<IQQ", self.version, tensors, keys)]
        for key in self.keys:
            parts += [text(key.name), struct.pack("<I", key.kind), value_bytes(key)]
        for row in self.rows:
            dimensions = len(row.shape) if row.dimensions is None else row.dimensions
            parts += [text(row.name), struct.pack("<I", dimensions), struct.pack(f"<{len(row.shape)}q", *row.shape)]
            parts += [struct.pack("<IQ", row.type, row.offset)]
        return b"".join(parts)

    def bytes(self) -> bytes:
        return padded(self.head(), self.alignment) + b"".join(padded(row.data, self.alignment) for row in self.rows)


def padded(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment)


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def value_bytes(key: Key) -> bytes:
    if key.kind == LIST:
        count = len(key.value) if key.count is None else key.count
        items = b"".join(one_bytes(key.item, item) for item in key.value)
        return struct.pack("<IQ", key.item, count) + items
    return one_bytes(key.kind, key.value)


def one_bytes(kind: int, value: Any) -> bytes:
    if kind == TEXT:
        return text(value)
    return struct.pack("<" + FORMS[kind], value) if kind in FORMS else b""


def parse(data: bytes, sizes: dict[int, tuple[str, int, int]]) -> Gguf:
    """A sound file taken apart. `sizes` says the block of each tensor type, in elements and bytes."""
    at = 24
    _, version, tensors, keys = struct.unpack_from("<4sIQQ", data)
    found = Gguf(version=version)

    def some(form: str) -> Any:
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def words() -> bytes:
        nonlocal at
        length = some("Q")
        at += length
        return data[at - length : at]

    def one(kind: int) -> Any:
        return words() if kind == TEXT else some(FORMS[kind])

    for _ in range(keys):
        name, kind = words(), some("I")
        if kind == LIST:
            item, count = some("IQ")
            found.keys.append(Key(name, kind, [one(item) for _ in range(count)], item))
        else:
            found.keys.append(Key(name, kind, one(kind)))
    for _ in range(tensors):
        name, dimensions = words(), some("I")
        shape = [some("q") for _ in range(dimensions)]
        kind, offset = some("IQ")
        found.rows.append(Row(name, shape, kind, b"", offset))
    start = -(-at // 32) * 32
    for row in found.rows:
        row.data = data[start + row.offset :][: size_of(row.shape, row.type, sizes)]
    return found


def size_of(shape: list[int], kind: int, sizes: dict[int, tuple[str, int, int]]) -> int:
    """The bytes a tensor takes; 0 for shapes and types that make no sense."""
    _, block, size = sizes.get(kind, ("", 1, 0))
    elements = 1
    for length in shape:
        elements *= max(0, length)
    return min(elements // block * size, 1 << 24)


def miniature(name: bytes = b"A model") -> Gguf:
    """The smallest Llama: one block, eight numbers wide, four tokens."""
    found = Gguf()
    found.set("general.architecture", b"llama", TEXT).set("general.name", name, TEXT)
    for key, value in {
        "block_count": 1, "context_length": 64, "embedding_length": 8, "feed_forward_length": 12,
        "attention.head_count": 2, "attention.head_count_kv": 1,
    }.items():  # fmt: skip
        found.set(f"llama.{key}", value)
    found.set("llama.attention.layer_norm_rms_epsilon", 1e-5, F32)
    found.set("tokenizer.ggml.model", b"gpt2", TEXT)
    found.set("tokenizer.ggml.tokens", [b"a", b"bc", "\U0001f600".encode(), b""], LIST, TEXT)
    found.set("tokenizer.ggml.token_type", [1, 1, 1, 3], LIST, I32)
    found.set("tokenizer.ggml.merges", [b"b c"], LIST, TEXT)
    shapes = {
        "token_embd": [8, 4], "output_norm": [8], "blk.0.attn_norm": [8], "blk.0.ffn_norm": [8], "blk.0.attn_q": [8, 8],
        "blk.0.attn_k": [8, 4], "blk.0.attn_v": [8, 4], "blk.0.attn_output": [8, 8], "blk.0.ffn_gate": [8, 12],
        "blk.0.ffn_up": [8, 12], "blk.0.ffn_down": [12, 8],
    }  # fmt: skip
    found.rows = [plain(f"{part}.weight", shape) for part, shape in shapes.items()]
    return found.lay()


def plain(name: str, shape: list[int]) -> Row:
    """A tensor of zeros in F32."""
    return Row(name.encode(), shape, 0, bytes(size_of(shape, 0, {0: ("F32", 1, 4)})))


def adapter() -> Gguf:
    """The smallest LoRA for the miniature."""
    found = Gguf()
    found.set("general.architecture", b"llama", TEXT).set("general.type", b"adapter", TEXT)
    found.set("adapter.type", b"lora", TEXT).set("adapter.lora.alpha", 4.0, F32)
    found.rows = [plain("blk.0.attn_q.weight.lora_a", [8, 2]), plain("blk.0.attn_q.weight.lora_b", [2, 8])]
    return found.lay()
