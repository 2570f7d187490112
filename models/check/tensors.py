"""Reads the table of tensors in a GGUF, and checks their types, sizes and offsets."""

import math
from typing import NamedTuple

from models.check.reader import Reader
from models.check.value import BadFile, Fact, decoded

MOST_NAME, MOST_DIMENSIONS, MOST_LENGTH = 63, 4, 1 << 40  # bytes of a name; dimensions; elements of one dimension
NEEDED_ALIGNMENT = 32  # bytes; another alignment of a mapped tensor crashes llama.cpp

# id: (name, elements in a block, bytes of a block)
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18),
}  # fmt: skip
NOT_WEIGHTS = {"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"}  # llama.cpp cannot multiply by these


class Tensor(NamedTuple):
    """An entry of the table. `offset`: bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    elements: int
    bytes: int


def alignment_of(facts: dict[str, Fact]) -> int:
    """The alignment of tensors, in bytes."""
    fact = facts.get("general.alignment", Fact("u32", 32))
    if fact.kind != "u32":
        raise BadFile(f"its general.alignment is of type {fact.kind} instead of u32")
    alignment = int(fact.value)
    if not 8 <= alignment <= 65_536 or alignment & (alignment - 1):
        raise BadFile(f"its general.alignment is {alignment:,}, which is not a power of two between 8 and 65,536")
    return alignment


def read_tensors(reader: Reader, count: int) -> dict[str, Tensor]:
    """Read a table of `count` entries. Raises BadFile for an entry that is not valid."""
    seen, tensors = set(), {}
    for _ in range(count):
        reader.check_limits()
        name = reader.name(MOST_NAME)
        if name in seen:
            raise BadFile(f"it has two tensors named {decoded(name)}")
        seen.add(name)
        tensor = _entry(reader, decoded(name))
        tensors[tensor.name] = tensor
    return tensors


def _entry(reader: Reader, name: str) -> Tensor:
    (dimensions,) = reader.numbers("<I")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise BadFile(f"its tensor {name} has {dimensions:,} dimensions instead of 1 to 4")
    shape = reader.numbers(f"<{dimensions}q")
    if not all(1 <= length <= MOST_LENGTH for length in shape):
        raise BadFile(f"its tensor {name} has an invalid shape: {shape_text(shape)}")
    number, offset = reader.numbers("<IQ")
    if number not in TYPES:
        raise BadFile(f"its tensor {name} is of unknown type {number:,}")
    kind, block, size = TYPES[number]
    if shape[0] % block:
        raise BadFile(f"its tensor {name} has rows of {shape[0]:,}, which {kind} cannot divide into blocks of {block}")
    elements = math.prod(shape)
    return Tensor(name, shape, kind, offset, elements, elements // block * size)


def check_offsets(tensors: dict[str, Tensor], start: int, alignment: int, size: int) -> None:
    """Raise BadFile unless the tensors follow one another without gaps and end within the file.

    `start`: the offset of the end of the table, before its padding. `size`: of the file.
    """
    data, expected, end = _padded(start, alignment), 0, start
    for tensor in tensors.values():
        if tensor.offset % alignment:
            raise BadFile(
                f"its tensor {tensor.name} begins at {tensor.offset:,}, which is not a multiple of {alignment}"
            )
        if tensor.offset != expected:
            raise BadFile(f"its tensor {tensor.name} begins at {tensor.offset:,} instead of {expected:,}")
        if (data + expected) % NEEDED_ALIGNMENT:
            raise BadFile(f"its tensor {tensor.name} is not aligned to {NEEDED_ALIGNMENT} bytes, as llama.cpp needs it")
        end = data + expected + tensor.bytes
        expected += _padded(tensor.bytes, alignment)
    if end > size:
        raise BadFile(f"it is incomplete: its header requires {end:,} bytes and the file has {size:,}")


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape for a sentence, such as "8 x 4"."""
    return " x ".join(f"{length:,}" for length in shape)


def _padded(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment
