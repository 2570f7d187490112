"""Which checkpoint a run may go on from: the newest that is whole. They are written in place, so a kill leaves halves.

runs/<id>/checkpoints/checkpoint-<step>/        as transformers saves it
runs/<id>/checkpoints/broken-<step>-<n>/        set aside: what a kill or a full disk left
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
LARGEST_STATE = 1 << 30  # bytes: it holds a record of every step


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """Step and folder of all that are there, whole or not, the newest first."""
    steps = [(int(match[1]), path) for path in (run / FOLDER).glob("*") if (match := NAME.fullmatch(path.name))]
    return sorted(steps, reverse=True)


def fault(step: int, folder: Path) -> str:
    """What keeps a checkpoint from being gone on from; empty if nothing does. Read anew only when a file has changed:
    the page asks every second."""
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
                held = packed.infolist()
                whole = sum(one.file_size for one in held) <= (folder / name).stat().st_size  # torch packs nothing
                if not held or not whole or packed.testzip():
                    return f"{name} is damaged"
    except OSError as error:
        return error.strerror or type(error).__name__
    except Exception as error:  # zipfile has many words for what is damaged
        return (str(error) or type(error).__name__).splitlines()[0][:150]
    return ""


def is_finite(folder: Path) -> bool:
    """Whether no weight of its adapter is NaN or infinite."""
    return all(_finite(tensor.read(), tensor.dtype) for tensor in tensors_in(folder / WEIGHTS).values())


def _finite(values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", dtype: str) -> bool:
    if dtype == "BF16":  # read as the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return bool(np.isfinite(values).all())


def newest(run: Path) -> tuple[int, Path] | None:
    """The newest that is whole."""
    return next(((step, path) for step, path in checkpoints(run) if not fault(step, path)), None)


def newest_of_its_own(run: Path) -> tuple[int, Path | None, list[str]]:
    """The newest whole one to go on from (step 0 and None: from the beginning), with those before it that are not
    whole set aside; a sentence for each of them."""
    said: list[str] = []
    for step, path in checkpoints(run):
        wrong = fault(step, path) or ("" if is_finite(path) else "its weights are not numbers")
        if not wrong:
            return step, path, said
        path.rename(_aside(path.parent, step))
        said.append(f"The checkpoint of step {step} was set aside: {wrong}.")
    return 0, None, said


def _aside(folder: Path, step: int) -> Path:
    names = (folder / f"broken-{step}-{number}" for number in itertools.count(1))
    return next(path for path in names if not path.exists())
