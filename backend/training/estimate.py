"""The memory and time of a training, estimated from its settings before anything is loaded.

Memory is an upper bound: all rows have the maximum length. There is an estimate for the bases of the lab and for bases
on this machine. For other bases, a try of a few steps measures it.
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
from backend.training.base_model import EMBEDDED
from backend.training.request import TrainSettings
from models.catalogue import TINY
from models.variant import sixteen_bit

# blocks, hidden size, intermediate size, heads, key heads, head size, vocabulary: from the public config.json of each
LAB = {
    "unsloth/Llama-3.2-1B-Instruct": (16, 2048, 8192, 32, 8, 64, 128_256),
    "unsloth/Llama-3.2-3B-Instruct": (28, 3072, 8192, 24, 8, 128, 128_256),
}
PROCESS = 800 << 20  # bytes of a worker before it loads a model: Python, torch, TRL
NF4 = 4.127 / 8  # bytes per weight, with its double-quantised scales
STORED = (18, 5)  # values per token and block for the backward pass: times the hidden size, times the intermediate size
RECOMPUTED = 2  # times the hidden size, with gradient checkpointing
CHUNK = 32_768  # logits that are computed at the same time
GPU_CACHE = 5  # seconds for which a reading of the GPU's free memory is used
UTILISATION = 0.35  # share of the processor's peak FLOPS that a training reaches


@dataclass(frozen=True)
class Estimate:
    """Sizes in bytes. `seconds` is 0 if unknown. `gpu` is the name of the GPU, empty for a CPU."""

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
    """Estimate a training. None if the shape of the base is not known. `memory_free` is the free memory in bytes."""
    shape = shape_of(spec.base)
    if shape is None:
        return None
    blocks, width, inner, heads, keys, head, vocabulary = shape
    linears = {
        "q_proj": (width, heads * head), "k_proj": (width, keys * head), "v_proj": (width, keys * head),
        "o_proj": (heads * head, width), "gate_proj": (width, inner), "up_proj": (width, inner),
        "down_proj": (inner, width),
    }  # fmt: skip
    in_blocks = blocks * sum(a * b for a, b in linears.values())
    trainable = blocks * sum(spec.rank * (a + b) for name, (a, b) in linears.items() if name in spec.targets)
    card = gpu()
    half = card is not None or (in_blocks > 150_000_000 and machine.has_bfloat16())
    bytes_per_value = 2 if half else 4
    embeddings = vocabulary * width
    weights = in_blocks * NF4 + embeddings * 4 if spec.method == "qlora" else (in_blocks + embeddings) * bytes_per_value
    tokens = spec.batch * spec.max_length
    stored = blocks * (width * RECOMPUTED if card else STORED[0] * width + STORED[1] * inner) * bytes_per_value
    activations = tokens * (stored + 4 * 3 * min(vocabulary, CHUNK))
    speed = 0.0 if card else flops() * UTILISATION
    work = 4.0 * (in_blocks + embeddings) * spec.samples * spec.max_length * spec.steps
    return Estimate(
        weights=int(weights),
        adapter=int(trainable * (8 + (2 if spec.optimizer == "adamw_8bit" else 8))),
        activations=int(activations),
        process=PROCESS,
        free=card.free if card else memory_free,
        seconds=work / speed if speed else 0.0,
        gpu=card.name if card else "",
    )


def refuse(spec: TrainSettings, estimate: Estimate | None, trial: bool = False) -> None:
    """LabError with the numbers if the training does not fit into memory.

    A try measures the activations, so it is refused only if the rest does not fit.
    """
    if estimate is None or estimate.fits or (trial and estimate.memory - estimate.activations <= estimate.free):
        return
    where = estimate.gpu or "memory"
    raise LabError(
        f"{spec.name} needs about {amount(estimate.memory)} of {where} and {amount(estimate.free)} are free: "
        f"{amount(estimate.weights)} for the base, {amount(estimate.adapter)} for the adapter and its optimiser, "
        f"{amount(estimate.activations)} for rows of {spec.max_length:,} tokens, {amount(estimate.process)} for the "
        "process. Lower the batch size or the maximum length, choose a smaller base, or close other programs."
    )


def shape_of(base: str) -> tuple[int, int, int, int, int, int, int] | None:
    """Blocks, hidden size, intermediate size, heads, key heads, head size and vocabulary of a base.

    None if the base is not one of the lab and is not on this machine.
    """
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
    """The first NVIDIA GPU, as nvidia-smi reports it; None without one. Cached for GPU_CACHE seconds."""
    return _gpu(int(time.monotonic() // GPU_CACHE))


@lru_cache(maxsize=1)
def _gpu(period: int) -> Gpu | None:
    try:
        output = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout  # fmt: skip
        name, _, free = output.splitlines()[0].rpartition(",")
        return Gpu(name.strip(), int(free) << 20)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


@lru_cache(maxsize=1)
def flops() -> float:
    """Floating-point operations per second in float32, measured once with a product of two matrices."""
    size = 1024
    a: np.ndarray[Any, Any] = np.ones((size, size), np.float32)
    a @ a
    start = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * size**3 / (time.perf_counter() - start)
