"""The Llama architecture: shape from config.json or a GGUF header, names of tensors, order of rows, rope factors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.core.errors import LabError
from backend.gguf.tensors import Array, load_json

LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
OUTSIDE_BLOCKS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@dataclass(frozen=True)
class Shape:
    """The numbers for the header of a GGUF."""

    blocks: int
    width: int  # of the embedding
    inner: int  # width of the feed-forward layer
    heads: int
    kv_heads: int
    head: int  # dimension of one head
    context: int
    vocabulary: int
    epsilon: float
    theta: float
    rope: dict[str, Any]
    tied: bool


def rope_of(config: dict[str, Any]) -> dict[str, Any]:
    """The rope settings from config.json: in one entry since transformers 5, in two before."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta") or 10000.0)
    rope.setdefault("rope_type", rope.get("type", "default"))
    if rope["rope_type"] not in ("default", "llama3"):
        raise LabError(
            f"This model scales its rope by '{rope['rope_type']}', and only 'llama3' is supported. Choose another."
        )
    return rope


def shape_of(folder: Path) -> Shape:
    """Read config.json. Raises LabError for other architectures, quantised models and invalid values."""
    config = load_json(folder / "config.json")
    if config.get("model_type") != "llama":
        raise LabError(
            f"{folder.name} has the architecture '{config.get('model_type')}', and only 'llama' can be converted."
        )
    if config.get("quantization_config"):
        raise LabError(f"{folder.name} is already quantised. Convert the 16-bit model instead.")
    try:
        return _shape(config)
    except (KeyError, TypeError, ValueError) as error:
        raise LabError(
            f"config.json of {folder.name} has a missing or invalid value ({error}). Download it again."
        ) from error


def _shape(config: dict[str, Any]) -> Shape:
    rope, width, heads = rope_of(config), int(config["hidden_size"]), int(config["num_attention_heads"])
    return Shape(
        blocks=int(config["num_hidden_layers"]),
        width=width,
        inner=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head=int(config.get("head_dim") or width // heads),
        context=int(config["max_position_embeddings"]),
        vocabulary=int(config["vocab_size"]),
        epsilon=float(config["rms_norm_eps"]),
        theta=float(rope["rope_theta"]),
        rope=rope,
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def shape_from_header(keys: dict[str, Any]) -> Shape:
    """The shape from the header of a GGUF, which is enough for an adapter: it has no rope scaling."""
    try:
        width, heads = int(keys["llama.embedding_length"]), int(keys["llama.attention.head_count"])
        theta = float(keys.get("llama.rope.freq_base", 10000.0))
        return Shape(
            blocks=int(keys["llama.block_count"]),
            width=width,
            inner=int(keys["llama.feed_forward_length"]),
            heads=heads,
            kv_heads=int(keys.get("llama.attention.head_count_kv", heads)),
            head=int(keys.get("llama.attention.key_length", width // max(heads, 1))),
            context=int(keys.get("llama.context_length", 0)),
            vocabulary=int(keys.get("llama.vocab_size", 0)),
            epsilon=float(keys.get("llama.attention.layer_norm_rms_epsilon", 1e-5)),
            theta=theta,
            rope={"rope_type": "default", "rope_theta": theta},
            tied=False,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LabError(
            f"The header of the base has a missing or invalid value ({error}). Choose another file of that model."
        ) from error


def rope_factors(shape: Shape) -> Array | None:
    """The divisors of the rope frequencies, shape [head / 2]; None if the rope is not scaled.

    Low frequencies are divided by the full factor, high ones by 1, and those between are interpolated. The computation
    is in float32, as in training: for the numbers of Llama 3 the result equals that of llama.cpp's conversion script.
    """
    if shape.rope["rope_type"] != "llama3":
        return None
    one, factor, low, high, original = (
        np.float32(number)
        for number in (
            1, shape.rope["factor"], shape.rope["low_freq_factor"], shape.rope["high_freq_factor"],
            shape.rope["original_max_position_embeddings"],
        )
    )  # fmt: skip
    frequencies = one / np.float32(shape.theta) ** (
        np.arange(0, shape.head, 2, dtype=np.float32) / np.float32(shape.head)
    )
    rotations = original / (np.float32(2 * math.pi) / frequencies)
    share = np.clip((rotations - low) / (high - low), 0, 1)
    factors: Array = one / ((one - share) / factor + share)
    return factors


def interleaved(heads: int) -> Callable[[Array], Array]:
    """A function that reorders the rows of q or k, shape [heads * head, ...].

    Hugging Face rotates row i of a head with row i + head / 2; llama.cpp rotates neighbouring rows.
    """

    def order(values: Array) -> Array:
        halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)

    return order


def as_is(values: Array) -> Array:
    """Return the rows unchanged."""
    return values


def order_for(linear: str, shape: Shape) -> Callable[[Array], Array]:
    """The function that reorders the output rows of a linear layer for llama.cpp."""
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(linear)
    return interleaved(heads) if heads else as_is


def gguf_name(name: str) -> tuple[str, str] | None:
    """`model.layers.3.self_attn.q_proj` -> (`blk.3.attn_q`, `attn_q`); None for other names."""
    if name in OUTSIDE_BLOCKS:
        return OUTSIDE_BLOCKS[name], OUTSIDE_BLOCKS[name]
    match name.split(".", 3):
        case ["model", "layers", number, rest] if number.isdigit() and (rest in LINEARS or rest in NORMS):
            short = LINEARS.get(rest) or NORMS[rest]
            return f"blk.{number}.{short}", short
    return None


def required_weights(shape: Shape) -> set[str]:
    """Names of all weights that a model of that shape must have."""
    blocks = {f"blk.{i}.{part}" for i in range(shape.blocks) for part in (*LINEARS.values(), *NORMS.values())}
    return {f"{name}.weight" for name in blocks | {"token_embd", "output_norm"}} | (
        set() if shape.tied else {"output.weight"}
    )
