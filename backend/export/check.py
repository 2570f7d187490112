"""Whether a finished file is the model that was trained: llama.cpp's logits beside those of the training run."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.core.errors import LabError
from backend.training.artifacts import FOLDER, REFERENCE

Array = np.ndarray[Any, Any]
# Measured on the toy: faithful files have at most 0.02 nats and at least 94 % (Q4_K_M of an adapter trained over NF4),
# rows of q and k in the wrong order 1.6 nats and 57 %. Small models suffer more from quantising than large ones.
LEAST_AGREEMENT, MOST_KL = 0.6, 0.5
TRIED = 64  # tokens where there is nothing to compare with


def run_child(module: str, *words: str, seen: Callable[[str], None] = lambda line: None) -> None:
    """`python -m module words`, to its end. What it says goes to our own stderr; `seen` is told each line.

    LabError with its last line if it ends with 1, and with what ended it otherwise. It ends when we are stopped.
    """
    command = [sys.executable, "-m", module, *words]
    line = ""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=subprocess.PIPE) as child:
        assert child.stderr
        try:
            for raw in child.stderr:
                line = raw.decode("utf-8", "replace").strip() or line
                print(line, file=sys.stderr)
                seen(line)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code < 0:
        raise LabError(f"llama.cpp ended its process (signal {-code}), and left nothing behind. Try again.")
    if code == 1 and line.endswith("."):
        raise LabError(line)
    if code:
        raise LabError(f"{module.rpartition('.')[2]} failed with {code}; the log has the details. Try again.")


@dataclass(frozen=True)
class LogitComparison:
    """`kl` is the mean Kullback-Leibler divergence from the trained model, in nats; `agreement` is how often both
    expect the same token most; `difference` is the largest between two logits."""

    kl: float
    agreement: float
    difference: float
    positions: int


def compare_logits(wanted: Array, found: Array) -> LogitComparison:
    """A row of each at a time, in float64."""
    kls, same, largest = [], 0, 0.0
    for one, other in zip(wanted, found, strict=True):
        p, q = _log_shares(one), _log_shares(other)
        kls.append(float(np.sum(np.exp(p) * (p - q))))
        same += int(one.argmax() == other.argmax())
        largest = max(largest, float(np.abs(one.astype(np.float64) - other).max()))
    return LogitComparison(float(np.mean(kls)), same / len(kls), largest, len(kls))


def check(folder: Path, made_by: Path, model: Path, adapter: Path | None = None) -> LogitComparison | None:
    """Compare with what the run `made_by` left; None where it left nothing and the file only had to compute.

    `folder` is for what is in between. LabError if the file cannot be loaded, computes nonsense or is another model.
    """
    tokens, first, wanted = _reference(made_by / FOLDER / REFERENCE)
    np.save(folder / "tokens.npy", tokens)
    words = [str(model), str(folder / "tokens.npy"), str(folder / "logits.npy"), "--first", str(first)]
    run_child("backend.llamacpp.logits", *words, *(["--adapter", str(adapter)] if adapter else []))
    found = np.load(folder / "logits.npy", mmap_mode="r")
    if not np.isfinite(found).all() or float(np.ptp(found[-1])) == 0.0:
        raise LabError("The finished model computes nothing that makes sense, so it was removed. Export it again.")
    if wanted is None:
        return None
    if wanted.shape != found.shape:
        raise LabError(
            f"The finished model has {found.shape[1]} tokens and the trained one {wanted.shape[1]}, so it was removed. "
            "The base has changed since the training: train again."
        )
    close = compare_logits(wanted, found)
    if close.agreement < LEAST_AGREEMENT or not close.kl < MOST_KL:
        raise LabError(
            f"The finished model is not the one that was trained: of {close.positions} tokens it expects "
            f"{close.agreement:.0%} alike (KL divergence {close.kl:.2f}, largest difference of a logit "
            f"{close.difference:.1f}). It was removed and the adapter is kept. If the base has changed since the "
            "training, train again."
        )
    return close


def _reference(file: Path) -> tuple[Array, int, Array | None]:
    """Tokens, the first position of interest, and the logits from there on."""
    if not file.is_file():
        return np.arange(TRIED, dtype=np.int32), 0, None
    try:
        with np.load(file, allow_pickle=False) as kept:
            tokens, logits, first = kept["tokens"].astype(np.int32), kept["logits"], int(kept["first"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise LabError(f"{file.name} of the training run cannot be read. Train again, or remove that file.") from error
    if logits.ndim != 2 or len(logits) != len(tokens) - first or not len(logits):
        raise LabError(f"{file.name} of the training run is garbled. Train again, or remove that file.")
    return tokens, first, logits


def _log_shares(logits: Array) -> Array:
    wide: Array = logits.astype(np.float64)
    wide -= wide.max()
    shares: Array = wide - np.log(np.exp(wide).sum())
    return shares
