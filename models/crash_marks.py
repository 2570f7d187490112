"""Files that killed a loader or are not what they were, remembered beside them, so that they are left alone.

A mark belongs to the file as it was: when the file is replaced, its mark no longer counts.
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
    """Remember what is wrong with this file. Best effort: a full disk only costs the memory of it."""
    with suppress(OSError):
        place = _place(weights, file)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"stamp": _stamp(file), "fault": fault, "why": why}))
        part.replace(place)


def crashed(weights: Path, file: Path, how: str) -> None:
    """Remember that this file ended the process that opened it; `how` names the signal."""
    mark(weights, file, "crashes the loader", f"{file.name} ended the process that opened it ({how}): it is left alone")


def marked(weights: Path, file: Path) -> tuple[Fault, str] | None:
    """What is wrong with it and why; None if nothing is, or if it was replaced since."""
    try:
        found = json.loads(_place(weights, file).read_bytes())
        known = found["stamp"] == _stamp(file) and found["fault"] in get_args(Fault)
        return (found["fault"], str(found["why"])) if known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def unmark(weights: Path, file: Path) -> None:
    """Let it be tried once more."""
    _place(weights, file).unlink(missing_ok=True)


def _place(weights: Path, file: Path) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{file.resolve().parent.name}-{file.name}")
    return weights / FOLDER / f"{name[:200]}.json"


def _stamp(file: Path) -> str:
    found = file.stat()
    return f"{found.st_size} {found.st_mtime_ns}"
