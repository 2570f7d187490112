"""Compares the logits of an exported file in llama.cpp with those of the training run; runs child processes.

The logits are computed in a child process, because a damaged file can end the process that loads it.
"""

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
# Measured on the embedded model: correct files have at most 0.02 nats and at least 94 % (Q4_K_M of an adapter trained
# over NF4); with rows of q and k in the wrong order 1.6 nats and 57 %. Quantising changes small models the most.
MIN_AGREEMENT, MAX_KL = 0.6, 0.5  # share of positions, nats
TOKENS = 64  # number of tokens to compute if the training run stored no logits


def run_child(module: str, *words: str, on_line: Callable[[str], None] = lambda line: None) -> None:
    """Run `python -m module words` and wait. Its output is copied to stderr, and `on_line` is called with each line.

    Raises LabError with its last line if it exits with 1, or with the signal or exit code otherwise. The child is
    killed if this process is interrupted.
    """
    command = [sys.executable, "-m", module, *words]
    line = ""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=subprocess.PIPE) as child:
        assert child.stderr
        try:
            for raw in child.stderr:
                line = raw.decode("utf-8", "replace").strip() or line
                print(line, file=sys.stderr)
                on_line(line)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code < 0:
        raise LabError(f"The process with llama.cpp was ended by signal {-code}, and wrote no file. Try again.")
    if code == 1 and line.endswith("."):
        raise LabError(line)
    if code:
        raise LabError(
            f"{module.rpartition('.')[2]} failed with exit code {code}. Read the log of the run, then try again."
        )


@dataclass(frozen=True)
class LogitComparison:
    """The result of comparing logits over all positions.

    `kl` is the mean Kullback-Leibler divergence from the trained model in nats. `agreement` is the share of positions
    with the same most likely token. `difference` is the largest difference between two logits.
    """

    kl: float
    agreement: float
    difference: float
    positions: int


def compare_logits(expected: Array, actual: Array) -> LogitComparison:
    """Compare logits of shape [positions, tokens], one position at a time, in float64."""
    kls, same, largest = [], 0, 0.0
    for row, other in zip(expected, actual, strict=True):
        p, q = _log_softmax(row), _log_softmax(other)
        kls.append(float(np.sum(np.exp(p) * (p - q))))
        same += int(row.argmax() == other.argmax())
        largest = max(largest, float(np.abs(row.astype(np.float64) - other).max()))
    return LogitComparison(float(np.mean(kls)), same / len(kls), largest, len(kls))


def check(folder: Path, training_run: Path, model: Path, adapter: Path | None = None) -> LogitComparison | None:
    """Compare a GGUF model, or a model with an adapter, with the logits that the training run stored.

    `folder` is for temporary files. Returns None if the run stored no logits; then only the computation is checked.
    Raises LabError if the file cannot be loaded, computes no finite logits or is another model.
    """
    tokens, first, expected = _read_reference(training_run / FOLDER / REFERENCE)
    np.save(folder / "tokens.npy", tokens)
    words = [str(model), str(folder / "tokens.npy"), str(folder / "logits.npy"), "--first", str(first)]
    run_child("backend.llamacpp.logits", *words, *(["--adapter", str(adapter)] if adapter else []))
    actual = np.load(folder / "logits.npy", mmap_mode="r")
    if not np.isfinite(actual).all() or float(np.ptp(actual[-1])) == 0.0:
        raise LabError("The exported model computes no usable logits, so it was removed. Export it again.")
    if expected is None:
        return None
    if expected.shape != actual.shape:
        raise LabError(
            f"The exported model has {actual.shape[1]} tokens and the trained one {expected.shape[1]}, so it was "
            "removed. The base has changed since the training. Train again."
        )
    comparison = compare_logits(expected, actual)
    if comparison.agreement < MIN_AGREEMENT or not comparison.kl < MAX_KL:
        raise LabError(
            f"The exported model differs from the trained one: at {comparison.agreement:.0%} of {comparison.positions} "
            f"positions the most likely token is the same (KL divergence {comparison.kl:.2f}, largest difference of a "
            f"logit {comparison.difference:.1f}). It was removed; the adapter is unchanged. If the base has changed "
            "since the training, train again."
        )
    return comparison


def _read_reference(file: Path) -> tuple[Array, int, Array | None]:
    """Read the tokens, the first compared position, and the logits from there on; no logits without a file."""
    if not file.is_file():
        return np.arange(TOKENS, dtype=np.int32), 0, None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            tokens, logits, first = arrays["tokens"].astype(np.int32), arrays["logits"], int(arrays["first"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise LabError(f"{file.name} of the training run cannot be read. Train again, or remove that file.") from error
    if logits.ndim != 2 or len(logits) != len(tokens) - first or not len(logits):
        raise LabError(f"{file.name} of the training run has arrays that do not fit. Train again, or remove that file.")
    return tokens, first, logits


def _log_softmax(logits: Array) -> Array:
    wide: Array = logits.astype(np.float64)
    wide -= wide.max()
    result: Array = wide - np.log(np.exp(wide).sum())
    return result
