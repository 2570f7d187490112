"""Writes a GGUF in the shapes of Llama 3.2 without weights, to measure sizes.

The vocabulary has the true number of tokens and merges, with invented words. The weights are zeros in a sparse file.
"""

from pathlib import Path

import gguf
import numpy as np

from backend.gguf.llama import LINEARS, NORMS, Shape
from backend.gguf.model import add_shape, add_tensor_info, add_vocabulary, write_header
from backend.gguf.vocabulary import Vocabulary

TOKENS, MERGES = 128_256, 280_147
SHAPES = {"1B": (16, 2048, 8192, 32, 8, 64), "3B": (28, 3072, 8192, 24, 8, 128)}
Q4_K_M = 15  # llama.cpp's number for this mixture of types


def shape_of(name: str) -> Shape:
    """The numbers of Llama 3.2; `name` is 1B or 3B."""
    blocks, width, inner, heads, kv_heads, head = SHAPES[name]
    rope = {"rope_theta": 500000.0, "rope_type": "default"}
    return Shape(blocks, width, inner, heads, kv_heads, head, 131072, TOKENS, 1e-5, 500000.0, rope, True)


def write_shape(path: Path, name: str) -> int:
    """Write a file in Q4_K with the embedding in Q6_K. Return its apparent size in bytes."""
    shape = shape_of(name)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(f"the shape of Llama 3.2 {name}")
    writer.add_file_type(Q4_K_M)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_shape(writer, shape)
    add_vocabulary(writer, words())
    end = _announce_all(writer, shape)
    write_header(writer)
    writer.close()
    head = path.stat().st_size
    start = -(-head // 32) * 32
    with path.open("r+b") as file:
        file.truncate(start + end)
    return path.stat().st_size


def words() -> Vocabulary:
    """As many tokens and merges as Llama 3 has; the last 256 tokens are control tokens."""
    tokens = [f"w{number:x}" for number in range(TOKENS - 256)] + [f"<|c{number}|>" for number in range(256)]
    merges = [f"w{number:x} x{number % 977}" for number in range(MERGES)]
    return Vocabulary(
        tokens=tuple(tokens),
        types=tuple([1] * (TOKENS - 256) + [3] * 256),
        merges=tuple(merges),
        bos=TOKENS - 256,
        eos=TOKENS - 255,
        pad=None,
        add_bos=True,
        template="{{ messages[0]['content'] }}",
    )


def _announce_all(writer: gguf.GGUFWriter, shape: Shape) -> int:
    """Write the table of tensors. Return the bytes of all tensors."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    sizes = {
        "attn_q": (queries, shape.width), "attn_k": (keys, shape.width), "attn_v": (keys, shape.width),
        "attn_output": (shape.width, queries), "ffn_gate": (shape.inner, shape.width),
        "ffn_up": (shape.inner, shape.width), "ffn_down": (shape.width, shape.inner),
    }  # fmt: skip
    total = _quantised(writer, "token_embd.weight", (TOKENS, shape.width), gguf.GGMLQuantizationType.Q6_K)
    add_tensor_info(writer, "output_norm.weight", (shape.width,), "F32")
    total += _padded(4 * shape.width)
    for block in range(shape.blocks):
        for short in LINEARS.values():
            name = f"blk.{block}.{short}.weight"
            total += _quantised(writer, name, sizes[short], gguf.GGMLQuantizationType.Q4_K)
        for short in NORMS.values():
            add_tensor_info(writer, f"blk.{block}.{short}.weight", (shape.width,), "F32")
            total += _padded(4 * shape.width)
    return total


def _quantised(writer: gguf.GGUFWriter, name: str, shape: tuple[int, int], kind: gguf.GGMLQuantizationType) -> int:
    values, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = shape
    row = columns // values * size
    writer.add_tensor_info(name, (rows, row), np.dtype(np.uint8), rows * row, kind)
    return _padded(rows * row)


def _padded(size: int) -> int:
    return -(-size // 32) * 32
