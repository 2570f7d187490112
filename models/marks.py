"""Files that killed a loader, remembered beside them, so that they are not tried again by themselves.

A mark belongs to the file as it was: when the file is replaced, its mark no longer counts.
"""

import json
import os
import re
from contextlib import suppress
from pathlib import Path

FOLDER = ".marks"


def mark(weights: Path, file: Path, how: str) -> None:
    """Remember that this file ended its loader. Best effort: a full disk only costs the memory of it."""
    with suppress(OSError):
        place = _place(weights, file)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"stamp": _stamp(file), "how": how}))
        part.replace(place)


def marked(weights: Path, file: Path) -> str:
    """How it ended its loader; empty if it did not, or was replaced since."""
    try:
        found = json.loads(_place(weights, file).read_bytes())
        return str(found["how"]) if found["stamp"] == _stamp(file) else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def unmark(weights: Path, file: Path) -> None:
    """Let it be tried once more."""
    _place(weights, file).unlink(missing_ok=True)


def _place(weights: Path, file: Path) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{file.resolve().parent.name}-{file.name}")
    return weights / FOLDER / f"{name[:200]}.json"


def _stamp(file: Path) -> str:
    found = file.stat()
    return f"{found.st_size} {found.st_mtime_ns}"
