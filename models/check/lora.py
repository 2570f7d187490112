"""Checks the keys and tensors that llama.cpp needs to apply a LoRA adapter to a base."""

import math

from models.check.tensors import NOT_WEIGHTS, Tensor, shape_text
from models.check.value import BadFile, Fact, check_kind

_ENDS = (".lora_a", ".lora_b")


def check_adapter(facts: dict[str, Fact], tensors: dict[str, Tensor]) -> None:
    """Raise BadFile unless the keys and tensors are those of a LoRA. Whether it fits its base is checked elsewhere."""
    kind = facts.get("adapter.type", Fact("text", "missing")).value
    if kind != "lora":
        raise BadFile(f"it is an adapter of type {str(kind)[:40]!r}, and only lora is supported")
    alpha = facts.get("adapter.lora.alpha")
    if alpha is None:
        raise BadFile("its header does not have adapter.lora.alpha")
    check_kind(alpha, "adapter.lora.alpha", "f32")
    if not math.isfinite(alpha.value):
        raise BadFile(f"its adapter.lora.alpha is {alpha.value}, which is not a finite number")
    if "adapter.alora.invocation_tokens" in facts:
        raise BadFile("it is an adapter that acts from certain tokens on (aLoRA), which this app does not support")
    pairs = {name[:-7] for name in tensors if name.endswith(_ENDS)}
    if not pairs:
        raise BadFile("it is an adapter without any matrices")
    for name in tensors:
        if not name.endswith((*_ENDS, "_norm.weight")):  # llama.cpp ignores norms
            raise BadFile(f"it has {name}, which does not belong to a LoRA")
    if any(name.endswith("token_embd.weight") for name in pairs):  # crashes llama.cpp if the base ties its embeddings
        raise BadFile("it changes the token embedding, which this app does not support")
    for name in sorted(pairs):
        _check_pair(name, tensors)


def _check_pair(name: str, tensors: dict[str, Tensor]) -> None:
    for end in _ENDS:
        if name + end not in tensors:
            raise BadFile(f"its tensor {name}{end} is missing, but its counterpart exists")
    a, b = (tensors[name + end] for end in _ENDS)
    for tensor in (a, b):
        if len(tensor.shape) != 2:
            raise BadFile(f"its tensor {tensor.name} is {shape_text(tensor.shape)}, and must be a matrix")
        if tensor.type in NOT_WEIGHTS:
            raise BadFile(f"its tensor {tensor.name} is of type {tensor.type}, which is not supported for this tensor")
    if a.shape[1] != b.shape[0]:
        raise BadFile(f"its {name} has a matrix of rank {a.shape[1]:,} and one of rank {b.shape[0]:,}")
