"""The memory and time of a training, estimated from its settings before anything is loaded.

Memory is at most: rows as long as the limit. It knows the shapes of the lab's bases and of those that are here; of
others it says nothing, and a try of a few steps says it.
"""

import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import try_to_load_from_cache

from backend.core import machine
from backend.core.errors import LabError
from backend.core.units import amount
from backend.data.dataset import REPO
from backend.gguf.tensors import load_json
from backend.training.base_model import EMBEDDED, sixteen_bit
from backend.training.request import TrainSettings
from models.catalogue import TINY

# blocks, width, inner, heads, heads of keys, head, vocabulary: from the config.json of each, which is public
LAB = {
    "unsloth/Llama-3.2-1B-Instruct": (16, 2048, 8192, 32, 8, 64, 128_256),
    "unsloth/Llama-3.2-3B-Instruct": (28, 3072, 8192, 24, 8, 128, 128_256),
}
PROCESS = 800 << 20  # bytes of a trainer that has loaded nothing yet: Python, torch, TRL
NF4 = 4.127 / 8  # bytes per weight, its double-quantised scales included
KEPT = (18, 5)  # values kept per token and block for going backwards: times the width, times the inner width
RECOMPUTED = 2  # times the width, where each block is computed again instead
CHUNK = 32_768  # logits that are computed at a time
LATELY = 5  # seconds for which what a GPU has free is believed
SHARE = 0.35  # of what the processor can multiply, what a training gets of it


@dataclass(frozen=True)
class Estimate:
    """Bytes, and seconds; `seconds` is 0 if unknown. `gpu` is its name, empty for a CPU."""

    weights: int
    adapter: int
    activations: int
    process: int
    free: int
    seconds: float
    gpu: str = ""

    @property
    def memory(self) -> int:
        return self.weights + self.adapter + self.activations + self.process

    @property
    def fits(self) -> bool:
        return self.memory <= self.free


@dataclass(frozen=True)
class Gpu:
    name: str
    free: int


def estimate(spec: TrainSettings, memory_free: int) -> Estimate | None:
    """None for a base whose shape is not known here yet. `memory_free`: bytes this machine can give."""
    shape = shape_of(spec.base)
    if shape is None:
        return None
    blocks, width, inner, heads, keys, head, vocabulary = shape
    linears = {
        "q_proj": (width, heads * head), "k_proj": (width, keys * head), "v_proj": (width, keys * head),
        "o_proj": (heads * head, width), "gate_proj": (width, inner), "up_proj": (width, inner),
        "down_proj": (inner, width),
    }  # fmt: skip
    inside = blocks * sum(a * b for a, b in linears.values())
    learnt = blocks * sum(spec.rank * (a + b) for name, (a, b) in linears.items() if name in spec.targets)
    card = gpu()
    half = card is not None or (inside > 150_000_000 and machine.has_bfloat16())
    whole = 2 if half else 4
    outside = vocabulary * width
    weights = inside * NF4 + outside * 4 if spec.method == "qlora" else (inside + outside) * whole
    tokens = spec.batch * spec.max_length
    kept = blocks * (width * RECOMPUTED if card else KEPT[0] * width + KEPT[1] * inner) * whole
    activations = tokens * (kept + 4 * 3 * min(vocabulary, CHUNK))
    speed = 0.0 if card else flops() * SHARE
    work = 4.0 * (inside + outside) * spec.samples * spec.max_length * spec.steps
    return Estimate(
        weights=int(weights),
        adapter=int(learnt * (8 + (2 if spec.optimizer == "adamw_8bit" else 8))),
        activations=int(activations),
        process=PROCESS,
        free=card.free if card else memory_free,
        seconds=work / speed if speed else 0.0,
        gpu=card.name if card else "",
    )


def refuse(spec: TrainSettings, estimate: Estimate | None, trial: bool = False) -> None:
    """LabError with the numbers if it cannot fit. A try needs memory for all but its rows, which it measures."""
    if estimate is None or estimate.fits or (trial and estimate.memory - estimate.activations <= estimate.free):
        return
    where = estimate.gpu or "memory"
    raise LabError(
        f"{spec.name} needs about {amount(estimate.memory)} of {where} and {amount(estimate.free)} are free: "
        f"{amount(estimate.weights)} for the base, {amount(estimate.adapter)} for the adapter and its optimiser, "
        f"{amount(estimate.activations)} for rows of {spec.max_length:,} tokens, {amount(estimate.process)} for the "
        "process. Take fewer rows at a time, shorter rows or a smaller base, or close other programs."
    )


def shape_of(base: str) -> tuple[int, int, int, int, int, int, int] | None:
    """Blocks, width, inner width, heads, heads of keys, head, vocabulary of a base that is known or is here."""
    if known := LAB.get(sixteen_bit(base)):
        return known
    folder = _folder(base)
    if folder is None:
        return None
    try:
        config = load_json(folder / "config.json")
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        keys, head = int(config.get("num_key_value_heads") or heads), int(config.get("head_dim") or width // heads)
        blocks, inner, vocabulary = (
            int(config[name]) for name in ("num_hidden_layers", "intermediate_size", "vocab_size")
        )
    except (LabError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return blocks, width, inner, heads, keys, head, vocabulary


def _folder(base: str) -> Path | None:
    if base == EMBEDDED:
        return TINY / "base"
    if Path(base).is_absolute():
        return Path(base)
    path = try_to_load_from_cache(base, "config.json") if REPO.fullmatch(base) else None
    return Path(path).parent if isinstance(path, str) else None


def gpu() -> Gpu | None:
    """The first NVIDIA GPU, as its driver's own tool told it in the last few seconds."""
    return _gpu(int(time.monotonic() // LATELY))


@lru_cache(maxsize=1)
def _gpu(when: int) -> Gpu | None:
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout  # fmt: skip
        name, _, free = said.splitlines()[0].rpartition(",")
        return Gpu(name.strip(), int(free) << 20)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


@lru_cache(maxsize=1)
def flops() -> float:
    """Multiplications and additions a second, of float32, measured once by multiplying two matrices."""
    size = 1024
    a: np.ndarray[Any, Any] = np.ones((size, size), np.float32)
    a @ a
    began = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * size**3 / (time.perf_counter() - began)
