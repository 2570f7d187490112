"""Marks for files that crashed a process or are damaged, so that they are not loaded again.

The marks are stored in the weights folder. A mark is valid as long as the size and the time of its file are unchanged.
"""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

FOLDER = ".marks"


Fault = Literal["crashes the loader", "damaged"]


def mark(weights: Path, file: Path, fault: Fault, why: str) -> None:
    """Mark a file. If the disk refuses, for example because it is full, the file stays unmarked."""
    with suppress(OSError):
        path = _path(weights, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"stamp": _stamp(file), "fault": fault, "why": why}))
        part.replace(path)


def record_crash(weights: Path, file: Path, how: str) -> None:
    """Mark a file that crashed the process that loaded it. `how`: the name of the signal."""
    mark(weights, file, "crashes the loader", f"{file.name} crashed the process that loaded it ({how})")


def marked(weights: Path, file: Path) -> tuple[Fault, str] | None:
    """The fault of a file and its reason; None if the file is not marked, or has changed since."""
    try:
        record = json.loads(_path(weights, file).read_bytes())
        valid = record["stamp"] == _stamp(file) and record["fault"] in get_args(Fault)
        return (record["fault"], str(record["why"])) if valid else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def unmark(weights: Path, file: Path) -> None:
    """Remove the mark of a file."""
    _path(weights, file).unlink(missing_ok=True)


def _path(weights: Path, file: Path) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{file.resolve().parent.name}-{file.name}")
    return weights / FOLDER / f"{name[:200]}.json"


def _stamp(file: Path) -> str:
    """Size and time of change, to notice that the file was replaced."""
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"
