"""What the header of an adapter must say, so that llama.cpp can lay it over a base."""

import math

from models.check.tensors import NOT_WEIGHTS, Tensor, said
from models.check.value import BadFile, Fact, check_kind

_ENDS = (".lora_a", ".lora_b")


def check_adapter(facts: dict[str, Fact], tensors: dict[str, Tensor]) -> None:
    """BadFile unless these keys and tensors make a LoRA. Whether it fits its base is seen when it is laid over it."""
    kind = facts.get("adapter.type", Fact("text", "not given")).value
    if kind != "lora":
        raise BadFile(f"it is an adapter of type {str(kind)[:40]!r}, and only lora runs here")
    alpha = facts.get("adapter.lora.alpha")
    if alpha is None:
        raise BadFile("its header does not say adapter.lora.alpha")
    check_kind(alpha, "adapter.lora.alpha", "f32")
    if not math.isfinite(alpha.value):
        raise BadFile(f"its adapter.lora.alpha is {alpha.value}, which is no number to compute with")
    if "adapter.alora.invocation_tokens" in facts:
        raise BadFile("it is an adapter that acts from certain tokens on (aLoRA), which this lab does not run")
    pairs = {name[:-7] for name in tensors if name.endswith(_ENDS)}
    if not pairs:
        raise BadFile("it is an adapter without any matrices")
    for name in tensors:
        if not name.endswith((*_ENDS, "_norm.weight")):  # llama.cpp passes over norms
            raise BadFile(f"it holds {name}, which is no part of a LoRA")
    if any(name.endswith("token_embd.weight") for name in pairs):  # ends llama.cpp's process where the base is tied
        raise BadFile("it changes the token embedding, which this lab does not run")
    for name in sorted(pairs):
        _check_pair(name, tensors)


def _check_pair(name: str, tensors: dict[str, Tensor]) -> None:
    for end in _ENDS:
        if name + end not in tensors:
            raise BadFile(f"its tensor {name}{end} is missing, and its counterpart is there")
    a, b = (tensors[name + end] for end in _ENDS)
    for tensor in (a, b):
        if len(tensor.shape) != 2:
            raise BadFile(f"its tensor {tensor.name} is {said(tensor.shape)}, and a matrix belongs there")
        if tensor.type in NOT_WEIGHTS:
            raise BadFile(f"its tensor {tensor.name} is of type {tensor.type}, which cannot be computed with there")
    if a.shape[1] != b.shape[0]:
        raise BadFile(f"its {name} has a matrix of rank {a.shape[1]:,} and one of rank {b.shape[0]:,}")
