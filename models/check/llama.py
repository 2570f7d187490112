"""Checks the keys and tensors that llama.cpp needs to load a Llama.

Some of the errors that are found here would crash the process of llama.cpp. It reports the others itself, but only in
terms of its source code.
"""

import math
import re
from collections.abc import Iterable

from models.check.tensors import NOT_WEIGHTS, Tensor, shape_text
from models.check.value import BadFile, Fact, check_kind, number

MOST_BLOCKS, MOST_WIDTH, MOST_HEADS, MOST_INNER, MOST_CONTEXT = 512, 65_536, 1024, 1 << 20, 1 << 30
_NUMBER, _FRACTION, _TEXT, _BOOL = "u32", "f32", "text", "bool"
_OPTIONAL = {
    "general.name": _TEXT, "general.file_type": _NUMBER, "llama.rope.freq_base": _FRACTION,
    "llama.rope.scale_linear": _FRACTION, "llama.rope.scaling.type": _TEXT, "llama.rope.scaling.factor": _FRACTION,
    "llama.rope.scaling.attn_factor": _FRACTION, "llama.rope.scaling.original_context_length": _NUMBER,
    "llama.rope.scaling.finetuned": _BOOL, "llama.rope.scaling.alpha": _FRACTION, "llama.attention.causal": _BOOL,
    "llama.pooling_type": _NUMBER, "llama.vocab_size": _NUMBER, "llama.embedding_length_out": _NUMBER,
    "llama.attention.key_length_swa": _NUMBER, "llama.attention.value_length_swa": _NUMBER,
    "llama.rope.dimension_count_swa": _NUMBER,
}  # fmt: skip
_ROPES = ("none", "linear", "yarn", "longrope")
_EXPERTS = ("expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count")


def check_llama(facts: dict[str, Fact], tensors: dict[str, Tensor], vocabulary: int) -> None:
    """Raise BadFile unless the keys and tensors are those of a Llama. `vocabulary`: number of tokens."""
    _check_kinds(facts)
    _check_uses(facts)
    _check_rope_and_norm(facts)
    blocks = number(facts, "llama.block_count", 1, MOST_BLOCKS)
    number(facts, "llama.context_length", 1, MOST_CONTEXT)
    _check_tensors(tensors, blocks, _shapes(facts, vocabulary))


def _check_kinds(facts: dict[str, Fact]) -> None:
    for key, kind in _OPTIONAL.items():
        if key in facts:
            check_kind(facts[key], key, kind)
            if kind == _FRACTION and not math.isfinite(facts[key].value):
                raise BadFile(f"its {key} is {facts[key].value}, which is not a finite number")


def _check_uses(facts: dict[str, Fact]) -> None:
    """Raise BadFile for a kind of Llama that does not generate text, or that this app does not support."""
    for key in _EXPERTS:
        fact = facts.get(f"llama.{key}")
        if fact and fact.value != 0:
            raise BadFile("it is a mixture of experts, which this app does not support")
    if facts.get("llama.attention.causal", Fact(_BOOL, True)).value is False or number(
        facts, "llama.pooling_type", 0, 4, default=0
    ):
        raise BadFile("it is a model for embeddings, which cannot answer")
    if number(facts, "llama.nextn_predict_layers", 0, MOST_BLOCKS, default=0):
        raise BadFile("it predicts several tokens at once, which this app does not support")


def _check_rope_and_norm(facts: dict[str, Fact]) -> None:
    base = facts.get("llama.rope.freq_base", Fact(_FRACTION, 1.0)).value
    if base <= 0:
        raise BadFile(f"its llama.rope.freq_base is {base:g}, which is not above zero")
    scaling = facts.get("llama.rope.scaling.type", Fact(_TEXT, "none")).value
    if scaling not in _ROPES:
        raise BadFile(f"its llama.rope.scaling.type is {scaling[:40]!r}, which llama.cpp does not know")
    key = "llama.attention.layer_norm_rms_epsilon"
    if key not in facts:
        raise BadFile(f"its header does not have {key}")
    check_kind(facts[key], key, _FRACTION)
    if not (math.isfinite(facts[key].value) and facts[key].value >= 0):
        raise BadFile(f"its {key} is {facts[key].value:g}, which is not a small number above zero")


def _head_size(facts: dict[str, Fact], width: int, heads: int) -> int:
    """The size of an attention head. Several keys can state it, and they must agree."""
    key = "llama.attention.key_length"
    if key not in facts and width % heads:
        raise BadFile(f"its llama.embedding_length {width:,} cannot be divided among {heads:,} heads")
    head = number(facts, key, 1, MOST_WIDTH, default=width // heads)
    for other in ("llama.attention.value_length", "llama.rope.dimension_count"):
        default = width // heads if other.endswith("value_length") else head
        if (size := number(facts, other, 1, MOST_WIDTH, default=default)) != head:
            raise BadFile(f"its {other} is {size:,}, but its heads have {head:,}")
    if head % 2:
        raise BadFile(f"its heads have the size {head:,}, which is odd")
    return head


def _shapes(facts: dict[str, Fact], vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, for every tensor that a Llama with this header can have. Blocks have no number here."""
    width = number(facts, "llama.embedding_length", 1, MOST_WIDTH)
    heads = number(facts, "llama.attention.head_count", 1, MOST_HEADS)
    shared = number(facts, "llama.attention.head_count_kv", 1, heads, default=heads)
    if heads % shared:
        raise BadFile(f"its llama.attention.head_count_kv {shared:,} does not divide its {heads:,} heads")
    inner = number(facts, "llama.feed_forward_length", 1, MOST_INNER)
    head = _head_size(facts, width, heads)
    queries, keys = heads * head, shared * head
    matrices = {
        "attn_q": (width, queries), "attn_k": (width, keys), "attn_v": (width, keys), "attn_output": (queries, width),
        "ffn_gate": (width, inner), "ffn_up": (width, inner), "ffn_down": (inner, width),
    }  # fmt: skip
    outside_blocks = {
        "token_embd.weight": (width, vocabulary), "output.weight": (width, vocabulary), "output_norm.weight": (width,),
        "rope_freqs.weight": (head // 2,), "rope_factors_long.weight": (head // 2,),
        "rope_factors_short.weight": (head // 2,),
    }  # fmt: skip
    norms = {f"blk.{name}.weight": (width,) for name in ("attn_norm", "ffn_norm")}
    weights = {f"blk.{name}.weight": shape for name, shape in matrices.items()}
    biases = {f"blk.{name}.bias": (shape[1],) for name, shape in matrices.items()}
    scales = {f"blk.{name}.{scale}": (1,) for name in matrices for scale in ("scale", "input_scale")}
    return {**outside_blocks, **norms, **weights, **biases, **scales}


def _check_tensors(tensors: dict[str, Tensor], blocks: int, shapes: dict[str, tuple[int, ...]]) -> None:
    for name in _required(blocks, shapes):
        if name not in tensors:
            raise BadFile(f"its tensor {name} is missing")
    for tensor in tensors.values():
        block = re.fullmatch(r"blk\.([0-9]{1,5})\.(.+)", tensor.name)
        if block and int(block[1]) >= blocks:
            raise BadFile(f"it has {tensor.name}, but its header has {blocks:,} blocks")
        shape = shapes.get(f"blk.{block[2]}" if block else tensor.name)
        if shape is None:
            raise BadFile(f"it has {tensor.name}, which is not a tensor of a Llama")
        if _trimmed(tensor.shape) != _trimmed(shape):
            raise BadFile(
                f"its tensor {tensor.name} is {shape_text(tensor.shape)} but its header requires {shape_text(shape)}"
            )
        if tensor.type in NOT_WEIGHTS or (len(shape) == 1 and tensor.type != "F32"):
            raise BadFile(f"its tensor {tensor.name} is of type {tensor.type}, which is not supported for this tensor")


def _required(blocks: int, shapes: Iterable[str]) -> Iterable[str]:
    yield from ("token_embd.weight", "output_norm.weight")
    in_block = [name.removeprefix("blk.") for name in shapes if name.startswith("blk.") and name.endswith(".weight")]
    for block in range(blocks):
        yield from (f"blk.{block}.{name}" for name in in_block)


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without trailing dimensions of 1, which have no effect."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
