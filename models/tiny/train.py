"""Training: one loop for the base and for the LoRA over it."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch.nn import functional

from models.tiny.model import Batch

THREADS = 2


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    steps: int
    peak: float
    warmup: int
    decay: float


def rate(plan: Plan, step: int) -> float:
    """The learning rate: a short rise, then half a cosine down to nothing."""
    if step < plan.warmup:
        return plan.peak * (step + 1) / plan.warmup
    done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return plan.peak * 0.5 * (1 + math.cos(math.pi * done))


def loss_of(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The mean surprise, each token counting what it is worth."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=batch.ids[:, :-1], use_cache=False).logits
    surprise = functional.cross_entropy(logits.float().flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    worth = batch.worth[:, 1:].flatten()
    return (surprise * worth).sum() / worth.sum()


def optimizer_for(model: torch.nn.Module, plan: Plan) -> torch.optim.AdamW:
    """AdamW; only matrices decay."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learnt if p.dim() > 1], "weight_decay": plan.decay},
        {"params": [p for p in learnt if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.peak, betas=(0.9, 0.98), fused=True)


def learn(model: torch.nn.Module, batches: Iterator[Batch], plan: Plan) -> None:
    """Train in place, printing now and then how it goes."""
    torch.set_num_threads(THREADS)
    optimizer, began, tokens, recent = optimizer_for(model, plan), time.monotonic(), 0, 0.0
    model.train()
    for step, batch in enumerate(islice(batches, plan.steps)):
        for group in optimizer.param_groups:
            group["lr"] = rate(plan, step)
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += batch.ids.numel()
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if step % 100 == 99 or step + 1 == plan.steps:
            speed = tokens / (time.monotonic() - began)
            print(f"step {step + 1}/{plan.steps} loss {recent:.4f} {tokens / 1e6:.2f}M tokens {speed:.0f}/s")
    model.eval()
