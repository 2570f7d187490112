"""What the header of a Llama must say, so that llama.cpp can load it.

llama.cpp ends its process over some of what is refused here; the rest it refuses itself, in words for programmers.
"""

import math
import re
from collections.abc import Iterable

from models.check.tensors import NOT_WEIGHTS, Tensor, said
from models.check.value import BadFile, Fact, check_kind, number

MOST_BLOCKS, MOST_WIDTH, MOST_HEADS, MOST_INNER, MOST_CONTEXT = 512, 65_536, 1024, 1 << 20, 1 << 30
_NUMBER, _FRACTION, _TEXT, _YES = "u32", "f32", "text", "bool"
_OPTIONAL = {
    "general.name": _TEXT, "general.file_type": _NUMBER, "llama.rope.freq_base": _FRACTION,
    "llama.rope.scale_linear": _FRACTION, "llama.rope.scaling.type": _TEXT, "llama.rope.scaling.factor": _FRACTION,
    "llama.rope.scaling.attn_factor": _FRACTION, "llama.rope.scaling.original_context_length": _NUMBER,
    "llama.rope.scaling.finetuned": _YES, "llama.rope.scaling.alpha": _FRACTION, "llama.attention.causal": _YES,
    "llama.pooling_type": _NUMBER, "llama.vocab_size": _NUMBER, "llama.embedding_length_out": _NUMBER,
    "llama.attention.key_length_swa": _NUMBER, "llama.attention.value_length_swa": _NUMBER,
    "llama.rope.dimension_count_swa": _NUMBER,
}  # fmt: skip
_ROPES = ("none", "linear", "yarn", "longrope")
_EXPERTS = ("expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count")


def check_llama(facts: dict[str, Fact], tensors: dict[str, Tensor], vocabulary: int) -> None:
    """BadFile unless these keys and tensors make a Llama with that many tokens."""
    _check_kinds(facts)
    _check_uses(facts)
    _check_rope(facts)
    blocks = number(facts, "llama.block_count", 1, MOST_BLOCKS)
    number(facts, "llama.context_length", 1, MOST_CONTEXT)
    _check_tensors(tensors, blocks, _shapes(facts, vocabulary))


def _check_kinds(facts: dict[str, Fact]) -> None:
    for key, kind in _OPTIONAL.items():
        if key in facts:
            check_kind(facts[key], key, kind)
            if kind == _FRACTION and not math.isfinite(facts[key].value):
                raise BadFile(f"its {key} is {facts[key].value}, which is no number to compute with")


def _check_uses(facts: dict[str, Fact]) -> None:
    """Kinds of Llamas that do not answer in a chat, or not here."""
    for key in _EXPERTS:
        fact = facts.get(f"llama.{key}")
        if fact and fact.value != 0:
            raise BadFile("it is a mixture of experts, which this lab does not run")
    if facts.get("llama.attention.causal", Fact(_YES, True)).value is False or number(
        facts, "llama.pooling_type", 0, 4, default=0
    ):
        raise BadFile("it is a model for embeddings, which cannot answer")
    if number(facts, "llama.nextn_predict_layers", 0, MOST_BLOCKS, default=0):
        raise BadFile("it predicts several tokens at once, which this lab does not run")


def _check_rope(facts: dict[str, Fact]) -> None:
    base = facts.get("llama.rope.freq_base", Fact(_FRACTION, 1.0)).value
    if base <= 0:
        raise BadFile(f"its llama.rope.freq_base is {base:g}, which is not above zero")
    scaling = facts.get("llama.rope.scaling.type", Fact(_TEXT, "none")).value
    if scaling not in _ROPES:
        raise BadFile(f"its llama.rope.scaling.type is {scaling[:40]!r}, which llama.cpp does not know")
    key = "llama.attention.layer_norm_rms_epsilon"
    if key not in facts:
        raise BadFile(f"its header does not say {key}")
    check_kind(facts[key], key, _FRACTION)
    if not (math.isfinite(facts[key].value) and facts[key].value >= 0):
        raise BadFile(f"its {key} is {facts[key].value:g}, which is not a small number above zero")


def _head(facts: dict[str, Fact], width: int, heads: int) -> int:
    """How many numbers a head has, said once or several times."""
    key = "llama.attention.key_length"
    if key not in facts and width % heads:
        raise BadFile(f"its llama.embedding_length {width:,} cannot be divided among {heads:,} heads")
    head = number(facts, key, 1, MOST_WIDTH, default=width // heads)
    for other in ("llama.attention.value_length", "llama.rope.dimension_count"):
        default = width // heads if other.endswith("value_length") else head
        if (number_of := number(facts, other, 1, MOST_WIDTH, default=default)) != head:
            raise BadFile(f"its {other} is {number_of:,} where its heads have {head:,}")
    if head % 2:
        raise BadFile(f"its heads have {head:,} numbers, which is odd")
    return head


def _shapes(facts: dict[str, Fact], vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor the header allows for, by its name without the block's."""
    width = number(facts, "llama.embedding_length", 1, MOST_WIDTH)
    heads = number(facts, "llama.attention.head_count", 1, MOST_HEADS)
    shared = number(facts, "llama.attention.head_count_kv", 1, heads, default=heads)
    if heads % shared:
        raise BadFile(f"its llama.attention.head_count_kv {shared:,} does not divide its {heads:,} heads")
    inner = number(facts, "llama.feed_forward_length", 1, MOST_INNER)
    head = _head(facts, width, heads)
    queries, keys = heads * head, shared * head
    matrices = {
        "attn_q": (width, queries), "attn_k": (width, keys), "attn_v": (width, keys), "attn_output": (queries, width),
        "ffn_gate": (width, inner), "ffn_up": (width, inner), "ffn_down": (inner, width),
    }  # fmt: skip
    whole = {
        "token_embd.weight": (width, vocabulary), "output.weight": (width, vocabulary), "output_norm.weight": (width,),
        "rope_freqs.weight": (head // 2,), "rope_factors_long.weight": (head // 2,),
        "rope_factors_short.weight": (head // 2,),
    }  # fmt: skip
    norms = {f"blk.{name}.weight": (width,) for name in ("attn_norm", "ffn_norm")}
    weights = {f"blk.{name}.weight": shape for name, shape in matrices.items()}
    biases = {f"blk.{name}.bias": (shape[1],) for name, shape in matrices.items()}
    scales = {f"blk.{name}.{scale}": (1,) for name in matrices for scale in ("scale", "input_scale")}
    return {**whole, **norms, **weights, **biases, **scales}


def _check_tensors(tensors: dict[str, Tensor], blocks: int, shapes: dict[str, tuple[int, ...]]) -> None:
    for name in _needed(blocks, shapes):
        if name not in tensors:
            raise BadFile(f"its tensor {name} is missing")
    for tensor in tensors.values():
        block = re.fullmatch(r"blk\.([0-9]{1,5})\.(.+)", tensor.name)
        if block and int(block[1]) >= blocks:
            raise BadFile(f"it holds {tensor.name}, and its header says that it has {blocks:,} blocks")
        shape = shapes.get(f"blk.{block[2]}" if block else tensor.name)
        if shape is None:
            raise BadFile(f"it holds {tensor.name}, which is no tensor of a Llama")
        if trimmed(tensor.shape) != trimmed(shape):
            raise BadFile(f"its tensor {tensor.name} is {said(tensor.shape)} where its header says {said(shape)}")
        if tensor.type in NOT_WEIGHTS or (len(shape) == 1 and tensor.type != "F32"):
            raise BadFile(f"its tensor {tensor.name} is of type {tensor.type}, which cannot be computed with there")


def _needed(blocks: int, shapes: Iterable[str]) -> Iterable[str]:
    yield from ("token_embd.weight", "output_norm.weight")
    parts = [name.removeprefix("blk.") for name in shapes if name.startswith("blk.") and name.endswith(".weight")]
    for block in range(blocks):
        yield from (f"blk.{block}.{part}" for part in parts)


def trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the ones at its end, which change nothing."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
