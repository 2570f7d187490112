"""Writes a Hugging Face folder as a GGUF model, with one tensor in memory at a time."""

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
NO_UPDATES: Mapping[str, Update] = MappingProxyType({})


def gguf_tensors(tensors: dict[str, Tensor], shape: Shape) -> dict[str, tuple[Tensor, str]]:
    """GGUF name -> (tensor, layer). Raises LabError for a tensor that is not part of a Llama."""
    result: dict[str, tuple[Tensor, str]] = {}
    for name, tensor in tensors.items():
        stem, _, ending = name.rpartition(".")
        if name.endswith(IGNORED) or (shape.tied and stem == "lm_head"):
            continue  # a tied model does not use its own output matrix, even if the file has one
        names = llama.gguf_name(stem)
        if names is None or ending not in ("weight", "bias"):
            raise LabError(f"{name} is not a tensor of a Llama, so the GGUF would be another model. Choose a Llama.")
        result[f"{names[0]}.{ending}"] = (tensor, names[1])
    return result


def check_complete(tensors: dict[str, tuple[Tensor, str]], shape: Shape) -> None:
    """Raise LabError if a tensor is missing or does not fit config.json."""
    if missing := sorted(llama.required_weights(shape) - tensors.keys()):
        raise LabError(f"{len(missing)} tensors are missing, such as {missing[0]}. Download or save the model again.")
    rows, width = tensors["token_embd.weight"][0].shape
    queries = tensors["blk.0.attn_q.weight"][0].shape[0]
    if width != shape.width or queries != shape.heads * shape.head or f"blk.{shape.blocks}.attn_q.weight" in tensors:
        raise LabError("config.json and the weights are of different models. Download both again.")
    if rows != shape.vocabulary:
        raise LabError(
            f"config.json has {shape.vocabulary} tokens, and the embedding {rows}. Save both together again."
        )


def size_label(values: int) -> str:
    """The number of parameters, such as `1.2B` or `3.4M`."""
    return f"{values / 1e9:.1f}B" if values >= 1e9 else f"{values / 1e6:.1f}M"


def add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """Add the `llama.` keys."""
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
    """Add the `tokenizer.` keys."""
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


def written_type(tensor: Tensor, kind: str) -> str:
    """The type in the file: float32 for norms and biases, as llama.cpp requires, else `kind`."""
    return kind if len(tensor.shape) > 1 else "F32"


def add_tensor_info(writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], kind: str) -> None:
    """Add a tensor to the table before the data."""
    dtype = np.dtype(WRITTEN[kind])
    size = math.prod(shape) * dtype.itemsize
    writer.add_tensor_info(name, shape, dtype, size, gguf.GGMLQuantizationType[kind])


def write_header(writer: gguf.GGUFWriter) -> None:
    """Write everything before the data. Afterwards tensors are written one after the other."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def stored_type(folder: Path) -> str:
    """The type of all matrices of a folder; F32 if they have several types."""
    types = {tensor.dtype for tensor in model_tensors(folder).values() if len(tensor.shape) > 1}
    return types.pop() if len(types) == 1 else "F32"


def write_base(
    folder: Path,
    out: Path,
    kind: str,
    name: str,
    words: Vocabulary | None = None,
    updates: Mapping[str, Update] = NO_UPDATES,
) -> None:
    """Write the model, with another vocabulary if `words` is not None, and with `updates` (by GGUF name) merged."""
    shape = llama.shape_of(folder)
    tensors = gguf_tensors(model_tensors(folder), shape)
    check_complete(tensors, shape)
    tensors = {name: (merged(tensor, updates.get(name)), layer) for name, (tensor, layer) in tensors.items()}
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
        write_tensors(writer, tensors, shape, kind)


def write_tensors(writer: gguf.GGUFWriter, tensors: dict[str, tuple[Tensor, str]], shape: Shape, kind: str) -> None:
    """Write the table of tensors, then their data."""
    factors: Array | None = llama.rope_factors(shape)
    try:
        if factors is not None:
            add_tensor_info(writer, "rope_freqs.weight", factors.shape, "F32")
        for name, (tensor, _) in tensors.items():
            add_tensor_info(writer, name, tensor.shape, written_type(tensor, kind))
        write_header(writer)
        if factors is not None:
            writer.write_tensor_data(factors)
        for tensor, layer in tensors.values():
            writer.write_tensor_data(converted(tensor, written_type(tensor, kind), llama.order_for(layer, shape)))
    finally:
        writer.close()
