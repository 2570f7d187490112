"""Damage that `mangle` does to the tensors of a GGUF, or to its bytes. Each kind says what it did; those that answer
with bytes too have made the whole file.
"""

import math
import random
import struct

from models.check.tensors import TYPES
from support.gguf_layout import F32, I32, TEXT, U32, Gguf, Row, one_bytes, size_of


def row_type(chance: random.Random, file: Gguf) -> str:
    """Another type, for data that is as long as before."""
    row = chance.choice(file.rows)
    row.type = chance.choice([*range(44), 100, 2**31, 2**32 - 1])
    return f"{row.name!r} as {row.type}"


def retyped(chance: random.Random, file: Gguf) -> str:
    """Another type, and as much data as it needs: a file that is honest, and may not be computed with."""
    ends = chance.choice([b"", b"norm.weight", b"attn_q.weight", b"token_embd.weight", b"ffn_down.weight", b"freqs"])
    kind = chance.choice(list(TYPES))
    for row in file.rows:
        if ends in row.name and row.shape[0] % TYPES[kind][1] == 0:
            row.type, row.data = kind, chance.randbytes(size_of(row.shape, kind, TYPES))
    file.lay()
    return f"{ends!r} as {TYPES[kind][0]}"


def shape(chance: random.Random, file: Gguf) -> str:
    row = chance.choice(file.rows)
    place = chance.randrange(len(row.shape))
    how = chance.choice(["value", "value", "turned", "more", "fewer", "flat"])
    if how == "value":
        row.shape[place] = chance.choice([0, -1, -(2**63), 2**63 - 1, 2**32, 2**62, 1, row.shape[place] * 2, 2**31])
    elif how == "turned":
        row.shape.reverse()
    elif how == "more":
        row.shape += chance.choice([[1], [1, 1], [2], [0], [1, 1, 1]])
    elif how == "fewer":
        row.dimensions = chance.choice([0, 5, 2**31, 2**32 - 1])
    else:
        row.shape = [math.prod(row.shape)]
    if chance.random() < 0.3:
        row.data = bytes(size_of(row.shape, row.type, TYPES))
        file.lay()
    return f"{row.name!r} {how} {row.shape}"


def row_name(chance: random.Random, file: Gguf) -> str:
    row = chance.choice(file.rows)
    before = row.name
    other = chance.choice(file.rows).name
    row.name = chance.choice([other, before + b"\0", before[:-1], b"x" * 63, b"x" * 64, b"x" * 65, b"", b"\xff" * 8,
                              b"blk.99999999999.x", b"blk.-1.attn_q.weight", b"blk.600.attn_q.weight"])  # fmt: skip
    return f"{before!r} to {row.name[:30]!r}"


def removed(chance: random.Random, file: Gguf) -> str:
    row = chance.choice(file.rows)
    file.rows.remove(row)
    file.lay()
    return repr(row.name)


def added(chance: random.Random, file: Gguf) -> str:
    """A tensor more, some of which a Llama may have."""
    name, dimensions = chance.choice([
        (b"output.weight", [256, 1024]), (b"blk.0.attn_q.bias", [256]), (b"blk.1.attn_output.bias", [256]),
        (b"blk.0.ffn_up.bias", [768]), (b"blk.0.attn_qkv.weight", [256, 512]), (b"blk.0.ffn_gate_inp.weight", [256, 8]),
        (b"blk.4.attn_q.weight", [256, 256]), (b"rope_factors_long.weight", [32]), (b"rope_freqs.weight\0", [32]),
        (b"rope_factors_short.weight", [32]), (b"blk.0.attn_q.scale", [1]), (b"blk.0.ffn_up.input_scale", [1]),
        (b"output_norm.bias", [256]), (b"nonsense", [4, 4, 4, 4]), (b"token_types.weight", [256, 2]),
    ])  # fmt: skip
    kind = chance.choice([0, 0, 1, 2, 26, 28, 12])
    dimensions = dimensions if chance.random() < 0.7 else [length * 2 for length in dimensions]
    kind = kind if dimensions[0] % TYPES[kind][1] == 0 else 0
    file.rows.append(Row(name, dimensions, kind, chance.randbytes(size_of(dimensions, kind, TYPES))))
    file.lay()
    return f"{name!r} {dimensions} as {TYPES[kind][0]}"


def offset(chance: random.Random, file: Gguf) -> str:
    row, other = chance.sample(file.rows, 2)
    if chance.random() < 0.3:
        row.offset, other.offset = other.offset, row.offset
    else:
        row.offset = chance.choice([0, row.offset + 1, row.offset + 32, other.offset, 2**40, 2**63, 2**64 - 32])
    return f"{row.name!r} at {row.offset}"


def order(chance: random.Random, file: Gguf) -> str:
    chance.shuffle(file.rows)
    if relaid := chance.random() < 0.5:
        file.lay()
    return "sound" if relaid else "and their offsets"


def alignment(chance: random.Random, file: Gguf) -> str:
    value, kind = chance.choice([0, 1, 8, 16, 24, 64, 4096, 65_536, 2**31]), chance.choice([U32, U32, U32, I32, 10])
    file.set("general.alignment", value if kind != I32 else value % 2**31, kind)
    if 8 <= value <= 65_536:
        file.alignment = value
        file.lay()
    return str(value)


def aligned_oddly(chance: random.Random, file: Gguf) -> str:
    """A sound file whose data does not begin at a multiple of 32."""
    file.set("general.alignment", chance.choice([8, 16]))
    file.alignment = file.key("general.alignment").value
    file.set("general.name", b"x" * chance.randrange(64), TEXT)
    file.lay()
    return f"{file.alignment}, head of {len(file.head())}"


def counts(chance: random.Random, file: Gguf) -> str:
    tensors, keys = len(file.rows), len(file.keys)
    wrong = chance.choice([0, 1, tensors - 1, tensors + 1, keys + 1, keys - 1, 10_001, 2**31, 2**63, 2**64 - 1])
    file.counts = (wrong, keys) if chance.random() < 0.5 else (tensors, wrong)
    if chance.random() < 0.2:
        file.version = chance.choice([0, 1, 2, 4, 2**31, 3 << 24])
    return f"{file.counts}, version {file.version}"


def geometry(chance: random.Random, file: Gguf) -> str:
    """Heads of another size: the header agrees with itself and with the tensors."""
    size = chance.choice([1, 2, 4, 8, 16, 32, 128])
    heads, shared = 256 // size, 128 // size
    for key, value in {"head_count": heads, "head_count_kv": shared, "key_length": size, "value_length": size}.items():
        file.set(f"llama.attention.{key}", value)
    file.set("llama.rope.dimension_count", size)
    freqs = file.row("rope_freqs.weight")
    freqs.shape, freqs.data = [size // 2], bytes(2 * size)
    file.lay()
    return f"heads of {size}"


def fewer_blocks(chance: random.Random, file: Gguf) -> str:
    left = chance.choice([0, 1, 2, 3])
    file.set("llama.block_count", left)
    if chance.random() < 0.7:
        file.rows = [row for row in file.rows if not row.name.startswith(b"blk.") or int(row.name[4:5]) < left]
        file.lay()
    return str(left)


def weights(chance: random.Random, file: Gguf) -> str:
    how = chance.choice(["zero", "ones", "chance", "nan"])
    for row in chance.sample(file.rows, chance.choice([1, 5, len(file.rows)])):
        size = len(row.data)
        row.data = {
            "zero": bytes(size), "ones": b"\xff" * size, "chance": chance.randbytes(size),
            "nan": (struct.pack("<f", math.nan) * (size // 4 + 1))[:size],
        }[how]  # fmt: skip
    return how


def cut(chance: random.Random, file: Gguf) -> tuple[str, bytes]:
    whole = file.bytes()
    length = chance.randrange(len(file.head())) if chance.random() < 0.5 else chance.randrange(len(whole))
    return f"to {length}", whole[:length] + (b"" if chance.random() < 0.8 else bytes(len(whole) - length))


def head_bytes(chance: random.Random, file: Gguf) -> tuple[str, bytes]:
    data, size = bytearray(file.bytes()), len(file.head())
    many = chance.choice([1, 1, 2, 8, 100])
    places = [chance.randrange(4, size) for _ in range(many)]
    for place in places:
        data[place] = chance.choice([0, 1, 0xFF, 0x7F, 0x80, chance.randrange(256)])
    return f"at {places[:4]}", bytes(data)


def rank(chance: random.Random, file: Gguf) -> str:
    """Another rank, for one matrix or for a pair."""
    row = chance.choice([row for row in file.rows if row.name.endswith(b"lora_a")])
    value = chance.choice([1, 3, 8, 17, 64, 4096])
    row.shape[1] = value
    pair = file.row(row.name.decode()[:-1] + "b")
    if chance.random() < 0.5:
        pair.shape[0] = value
    for changed in (row, pair):
        changed.data = bytes(size_of(changed.shape, changed.type, TYPES))
    file.lay()
    return f"{row.name!r} {value}"


def embedding_pair(chance: random.Random, file: Gguf) -> str:
    """A pair for the token embedding, whose matrices lie the other way."""
    first, second = chance.choice([(8, 8), (8, 9), (1, 1), (4, 8)])
    shapes = [[first, 1024], [second, 256]] if chance.random() < 0.7 else [[256, first], [second, 1024]]
    for end, dimensions in zip("ab", shapes, strict=True):
        name = b"token_embd.weight.lora_" + end.encode()
        file.rows.append(Row(name, dimensions, 0, one_bytes(F32, 0.1) * math.prod(dimensions)))
    file.lay()
    return str(shapes)
