"""Which inputs of each linear layer matter: the mean of their squares over real rows, for the quantiser."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from backend.gguf.llama import LINEARS, gguf_name

PREFIX = "base_model.model."


def importance(model: Any, rows: Sequence[list[int]]) -> dict[str, "np.ndarray[Any, Any]"]:
    """GGUF weight name -> [inputs] float32, of the base with its adapter."""
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def watched(name: str) -> Any:
        def hook(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            seen = inputs[0].detach().float().flatten(0, -2)
            sums[name] = sums.get(name, torch.zeros(seen.shape[1], device=seen.device)) + seen.square().sum(0)
            counts[name] = counts.get(name, 0) + seen.shape[0]

        return hook

    hooks = [
        module.register_forward_pre_hook(watched(f"{found[0]}.weight"))
        for name, module in model.named_modules()
        if (found := gguf_name(name.removeprefix(PREFIX))) and found[1] in LINEARS.values()
    ]
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            for ids in rows:
                model(input_ids=torch.tensor([ids], device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (total / counts[name]).cpu().numpy() for name, total in sums.items()}
