"""The folder of a run: the records that every kind of run has, and whether they can be read.

A folder may be copied, damaged, or made by another program: what is wrong with it is found here.
"""

import os
import re
import stat
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.core.errors import shown
from backend.core.files import open_regular, read_whole
from backend.jobs.events import FILE, Seconds, event_of, impossible

TAIL = 1 << 16  # bytes of a file that are looked at for its newest lines
STAMP = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]{3}-")
YEARS = range(1970, 2100)
FILES = ("spec.json", "events.jsonl", "log.txt", "log.1.txt", "runner.json", "stop", "exit.json", "lock")
BEGINNING = 60.0  # seconds in which a run may lack its spec.json, because it is being started
Stamp = tuple[int, int, int] | None  # of a file: inode, bytes, time of its last change


class JobRequest(BaseModel):
    """spec.json. `key` names what is being made: two runs of one key would do the same work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str = Field(max_length=1000)
    key: str = ""
    created: Seconds
    asked: dict[str, Any]
    """The fields of the worker's own spec class, which checks them again."""


class Exit(BaseModel):
    """exit.json. `why` is the sentence a person is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["done", "failed", "stopped"]
    why: str = ""
    code: int = 0
    at: Seconds = 0.0


class ProcessIds(BaseModel):
    """runner.json: pid and beginning of both processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: tuple[int, str]
    worker: tuple[int, str] | None = None


def names(runs: Path) -> list[str]:
    return [name for name in sorted(os.listdir(runs)) if STAMP.match(name)] if runs.is_dir() else []


def kind_of(name: str) -> str:
    return "".join(name.split("-", 4)[3:4])


def possible(name: str) -> bool:
    """Whether the time in a folder's name can be one of a run."""
    return int(name[:4]) in YEARS


def begins(folder: Path) -> bool:
    """Whether a run is being started there, so that its spec.json is not written yet, or has just been removed."""
    try:
        status = folder.lstat()
        young = stat.S_ISDIR(status.st_mode) and abs(time.time() - status.st_mtime) < BEGINNING
        return young and not (folder / "spec.json").exists()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def wrong(folder: Path) -> str:
    """What keeps a run from being read, as the middle of a sentence; empty if nothing does.

    Pages ask this of 200 runs every second: files are read again only if they have changed.
    """
    if not folder.name.isprintable():
        return "its name holds bytes that are no text"
    if not possible(folder.name):
        return f"its name says the year {folder.name[:4]}, and runs are of {YEARS[0]} to {YEARS[-1]}"
    place = str(folder)
    try:
        now = os.stat(place)
        if what := _wrong_kinds(place, now.st_ino, now.st_mtime_ns):
            return what
        stamps = [stamp_of(f"{place}/{name}") for name in ("spec.json", "exit.json", FILE)]
    except OSError as error:
        return said(error)
    return _wrong_then(folder, *stamps)


@lru_cache(maxsize=4096)
def _wrong_kinds(place: str, inode: int, changed: int) -> str:
    """What of a run's files is something else than a file."""
    try:
        for name in FILES:
            stamp_of(f"{place}/{name}")
    except OSError as error:
        return said(error)
    return ""


@lru_cache(maxsize=4096)
def _wrong_then(folder: Path, spec: Stamp, ended: Stamp, told: Stamp) -> str:
    if spec is None:
        return "it has no spec.json"
    try:
        asked = spec_of(folder / "spec.json", spec)
    except (OSError, ValueError) as error:
        return f"spec.json is not what this app writes ({said(error)})"
    if asked.kind != kind_of(folder.name):
        return f"spec.json is of another kind of run ({shown(asked.kind)}) than its name"
    try:
        if ended:
            Exit.model_validate_json(read_whole(folder / "exit.json"))
        if told:
            open_regular(folder / FILE).close()
    except ValidationError as error:
        if error.errors()[0]["type"] != "json_invalid":  # a torn one is none: the events tell how it ended
            return f"exit.json is not what this app writes ({said(error)})"
    except OSError as error:
        return said(error)
    for line in tail(folder / FILE).splitlines():
        event = event_of(line)
        if event and (what := impossible(event)):
            return f"{FILE} tells {what}"
    return ""


def stamp_of(path: str) -> Stamp:
    """None if there is no such file. OSError if it is something else than a file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, f"{os.path.basename(path)} is not a file", path)
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def spec_of(path: Path, stamp: Stamp) -> JobRequest:
    """It is written once; the stamp tells a folder that was put there by hand from the one before it."""
    return JobRequest.model_validate_json(read_whole(path))


def said(error: Exception) -> str:
    """An error in a few words, without values and paths."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:4])
        return f"{where}: {first['msg']}"[:200] if where else "it is no JSON"
    if isinstance(error, OSError) and error.strerror:
        name = Path(os.fsdecode(error.filename)).name if error.filename else ""
        return error.strerror if not name or name in error.strerror else f"{name}: {error.strerror}"
    return type(error).__name__


def tail(path: Path) -> bytes:
    """The newest bytes of a file; nothing if it cannot be read."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return file.read(TAIL)
    except OSError:
        return b""
