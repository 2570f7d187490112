"""Finds the newest complete checkpoint of a run. Checkpoints are written in place, so a kill leaves incomplete ones.

runs/<id>/checkpoints/checkpoint-<step>/        as Transformers saves it
runs/<id>/checkpoints/broken-<step>-<n>/        renamed: left by a kill or a full disk
"""

import itertools
import json
import re
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from backend.core.files import read_whole, version
from backend.gguf.tensors import tensors_in

FOLDER = "checkpoints"
NAME = re.compile(r"checkpoint-([0-9]+)")
STATE = "trainer_state.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
FILES = (STATE, WEIGHTS, *PICKLED)
LARGEST_STATE = 1 << 30  # bytes; it has a record of every step


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """Step and folder of all checkpoints, complete or not, the newest first."""
    steps = [(int(match[1]), path) for path in (run / FOLDER).glob("*") if (match := NAME.fullmatch(path.name))]
    return sorted(steps, reverse=True)


def fault(step: int, folder: Path) -> str:
    """Why a checkpoint cannot be resumed from; empty if it can.

    The result is cached until a file changes, because the page asks every second.
    """
    return _fault(step, folder, tuple(version(folder / name) for name in FILES))


@lru_cache(maxsize=1024)
def _fault(step: int, folder: Path, versions: tuple[str, ...]) -> str:
    if any((folder / name).exists() and not (folder / name).is_file() for name in FILES):
        return "something in it is not a file"
    try:
        state = json.loads(read_whole(folder / STATE, LARGEST_STATE))
        if not isinstance(state, dict) or state.get("global_step") != step:
            return f"its {STATE} is of another step"
        tensors = tensors_in(folder / WEIGHTS)
        if not tensors:
            return f"{WEIGHTS} is empty"
        for name in PICKLED:
            with zipfile.ZipFile(folder / name) as packed:
                members = packed.infolist()
                # torch does not compress
                complete = sum(member.file_size for member in members) <= (folder / name).stat().st_size
                if not members or not complete or packed.testzip():
                    return f"{name} is damaged"
    except OSError as error:
        return error.strerror or type(error).__name__
    except Exception as error:  # zipfile raises many types for damaged files
        return (str(error) or type(error).__name__).splitlines()[0][:150]
    return ""


def is_finite(folder: Path) -> bool:
    """Whether all weights of the adapter are finite."""
    return all(_finite(tensor.read(), tensor.dtype) for tensor in tensors_in(folder / WEIGHTS).values())


def _finite(values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", dtype: str) -> bool:
    if dtype == "BF16":  # read as the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return bool(np.isfinite(values).all())


def newest(run: Path) -> tuple[int, Path] | None:
    """Step and folder of the newest complete checkpoint."""
    return next(((step, path) for step, path in checkpoints(run) if not fault(step, path)), None)


def newest_and_warnings(run: Path) -> tuple[int, Path | None, list[str]]:
    """The newest complete checkpoint; step 0 and None if there is none.

    Newer ones that are incomplete are renamed, with a warning for each.
    """
    warnings: list[str] = []
    for step, path in checkpoints(run):
        reason = fault(step, path) or ("" if is_finite(path) else "its weights are not finite")
        if not reason:
            return step, path, warnings
        path.rename(_unused_name(path.parent, step))
        warnings.append(f"The checkpoint of step {step} was not used: {reason}.")
    return 0, None, warnings


def _unused_name(folder: Path, step: int) -> Path:
    names = (folder / f"broken-{step}-{number}" for number in itertools.count(1))
    return next(path for path in names if not path.exists())
