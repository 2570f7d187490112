"""A Hugging Face folder to a GGUF model, one tensor in memory at a time."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np

from backend.core import files
from backend.core.errors import LabError
from backend.gguf import llama
from backend.gguf.llama import Shape
from backend.gguf.tensors import WRITTEN, Array, Tensor, Update, converted, merged, model_tensors
from backend.gguf.vocabulary import Vocabulary, vocabulary_of

FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
}
IGNORED = (".rotary_emb.inv_freq",)
NONE: Mapping[str, Update] = MappingProxyType({})


def named(tensors: dict[str, Tensor], shape: Shape) -> dict[str, tuple[Tensor, str]]:
    """GGUF names for all tensors, with the short name that decides their layout."""
    found: dict[str, tuple[Tensor, str]] = {}
    for name, tensor in tensors.items():
        stem, _, ending = name.rpartition(".")
        if name.endswith(IGNORED) or (shape.tied and stem == "lm_head"):
            continue  # a tied model's own copy of the embedding is not used, even when a file has one
        place_of = llama.gguf_name(stem)
        if place_of is None or ending not in ("weight", "bias"):
            raise LabError(f"{name} is not a tensor of a Llama model, so the GGUF would not be the same model.")
        found[f"{place_of[0]}.{ending}"] = (tensor, place_of[1])
    return found


def check_whole(found: dict[str, tuple[Tensor, str]], shape: Shape) -> None:
    """Refuse a folder that lacks a tensor or disagrees with its config."""
    if missing := sorted(llama.expected(shape) - found.keys()):
        raise LabError(f"The model lacks {len(missing)} tensors, first {missing[0]}. Download or save it again.")
    rows, width = found["token_embd.weight"][0].shape
    queries = found["blk.0.attn_q.weight"][0].shape[0]
    if width != shape.width or queries != shape.heads * shape.head or f"blk.{shape.blocks}.attn_q.weight" in found:
        raise LabError("config.json and the weights do not describe the same model. Download them together again.")
    if rows != shape.vocabulary:
        raise LabError(f"config.json says {shape.vocabulary} tokens, the embedding has {rows}. Save them together.")


def size_label(values: int) -> str:
    """`1.2B`, `3.4M`."""
    return f"{values / 1e9:.1f}B" if values >= 1e9 else f"{values / 1e6:.1f}M"


def add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """The `llama.` keys."""
    writer.add_block_count(shape.blocks)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.theta)
    writer.add_rope_dimension_count(shape.head)
    writer.add_vocab_size(shape.vocabulary)


def add_vocabulary(writer: gguf.GGUFWriter, words: Vocabulary) -> None:
    """The `tokenizer.` keys."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(list(words.tokens))
    writer.add_token_types(list(words.types))
    writer.add_token_merges(list(words.merges))
    writer.add_eos_token_id(words.eos)
    writer.add_add_bos_token(words.add_bos)
    if words.bos is not None:
        writer.add_bos_token_id(words.bos)
    if words.pad is not None:
        writer.add_pad_token_id(words.pad)
    if words.template:
        writer.add_chat_template(words.template)


def type_for(tensor: Tensor, kind: str) -> str:
    """Norms and biases stay in float32: they are tiny, and llama.cpp wants them so."""
    return kind if len(tensor.shape) > 1 else "F32"


def announce(writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], kind: str) -> None:
    """A tensor's row in the table that precedes the data."""
    dtype = np.dtype(WRITTEN[kind])
    size = math.prod(shape) * dtype.itemsize
    writer.add_tensor_info(name, shape, dtype, size, gguf.GGMLQuantizationType[kind])


def begin(writer: gguf.GGUFWriter) -> None:
    """Write all that precedes the data; from here on a tensor is written as soon as it is made."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def type_of(folder: Path) -> str:
    """The type its matrices are stored in: what loses nothing."""
    found = {tensor.dtype for tensor in model_tensors(folder).values() if len(tensor.shape) > 1}
    return found.pop() if len(found) == 1 else "F32"


def write_base(
    folder: Path,
    out: Path,
    kind: str,
    name: str,
    words: Vocabulary | None = None,
    updates: Mapping[str, Update] = NONE,
) -> None:
    """Write the whole model: with other `words` than its own, and with `updates` by GGUF name merged into it."""
    shape = llama.shape_of(folder)
    tensors = named(model_tensors(folder), shape)
    check_whole(tensors, shape)
    tensors = {name: (merged(tensor, updates.get(name)), short) for name, (tensor, short) in tensors.items()}
    words = words or vocabulary_of(folder, shape.vocabulary)
    count = sum(math.prod(tensor.shape) for tensor, _ in tensors.values())
    with files.complete_file(out) as part:
        files.check_free_space(out, count * np.dtype(WRITTEN[kind]).itemsize)
        writer = gguf.GGUFWriter(part, "llama")
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(name)
        writer.add_size_label(size_label(count))
        writer.add_file_type(FILE_TYPES[kind])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        add_shape(writer, shape)
        add_vocabulary(writer, words)
        pour(writer, tensors, shape, kind)


def pour(writer: gguf.GGUFWriter, tensors: dict[str, tuple[Tensor, str]], shape: Shape, kind: str) -> None:
    """Announce every tensor, then write them one after another."""
    factors: Array | None = llama.rope_factors(shape)
    try:
        if factors is not None:
            announce(writer, "rope_freqs.weight", factors.shape, "F32")
        for name, (tensor, _) in tensors.items():
            announce(writer, name, tensor.shape, type_for(tensor, kind))
        begin(writer)
        if factors is not None:
            writer.write_tensor_data(factors)
        for tensor, short in tensors.values():
            writer.write_tensor_data(converted(tensor, type_for(tensor, kind), llama.order_for(short, shape)))
    finally:
        writer.close()
