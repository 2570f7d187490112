"""The folder of a run: the files that every run has, and whether they can be read.

A folder may be copied, damaged, or made by another program, so everything in it is checked.
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

TAIL = 1 << 16  # bytes that are read for the last lines of a file
STAMP = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]{3}-")
YEARS = range(1970, 2100)
FILES = ("spec.json", "events.jsonl", "log.txt", "log.1.txt", "runner.json", "stop", "exit.json", "lock")
STARTING = 60.0  # seconds in which a new folder may have no spec.json yet
Stamp = tuple[int, int, int] | None  # of a file: inode, size in bytes, time of the last change


class JobRequest(BaseModel):
    """spec.json. Two runs with the same `key` would do the same work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str = Field(max_length=1000)
    key: str = ""
    created: Seconds
    asked: dict[str, Any]
    """The fields of the job's request class. The worker validates them."""


class Exit(BaseModel):
    """exit.json. `why` is the sentence for the page, `code` the exit code of the worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["done", "failed", "stopped"]
    why: str = ""
    code: int = 0
    at: Seconds = 0.0


class ProcessIds(BaseModel):
    """runner.json: pid and start time of both processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: tuple[int, str]
    worker: tuple[int, str] | None = None


def names(runs: Path) -> list[str]:
    return [name for name in sorted(os.listdir(runs)) if STAMP.match(name)] if runs.is_dir() else []


def kind_of(name: str) -> str:
    return "".join(name.split("-", 4)[3:4])


def has_possible_year(name: str) -> bool:
    """Whether the year in the name of a folder is in YEARS."""
    return int(name[:4]) in YEARS


def is_starting(folder: Path) -> bool:
    """Whether a run is being started in the folder and has no spec.json yet, or the folder has just been removed."""
    try:
        status = folder.lstat()
        new = stat.S_ISDIR(status.st_mode) and abs(time.time() - status.st_mtime) < STARTING
        return new and not (folder / "spec.json").exists()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def fault(folder: Path) -> str:
    """Why a run cannot be read, as the middle of a sentence; empty if it can be read.

    Pages call this for 200 runs every second, so files are read again only when they have changed.
    """
    if not folder.name.isprintable():
        return "its name is not UTF-8"
    if not has_possible_year(folder.name):
        return f"its name has the year {folder.name[:4]}, which is not between {YEARS[0]} and {YEARS[-1]}"
    path = str(folder)
    try:
        status = os.stat(path)
        if reason := _not_files(path, status.st_ino, status.st_mtime_ns):
            return reason
        stamps = [stamp_of(f"{path}/{name}") for name in ("spec.json", "exit.json", FILE)]
    except OSError as error:
        return describe(error)
    return _cached_fault(folder, *stamps)


@lru_cache(maxsize=4096)
def _not_files(folder: str, inode: int, changed: int) -> str:
    """The reason if one of a run's files is not a regular file; empty otherwise."""
    try:
        for name in FILES:
            stamp_of(f"{folder}/{name}")
    except OSError as error:
        return describe(error)
    return ""


@lru_cache(maxsize=4096)
def _cached_fault(folder: Path, spec: Stamp, exit: Stamp, events: Stamp) -> str:
    if spec is None:
        return "it has no spec.json"
    try:
        request = spec_of(folder / "spec.json", spec)
    except (OSError, ValueError) as error:
        return f"spec.json is not what this app writes ({describe(error)})"
    if request.kind != kind_of(folder.name):
        return f"spec.json is of another kind of run ({shown(request.kind)}) than its name"
    try:
        if exit:
            Exit.model_validate_json(read_whole(folder / "exit.json"))
        if events:
            open_regular(folder / FILE).close()
    except ValidationError as error:
        if (
            error.errors()[0]["type"] != "json_invalid"
        ):  # an incomplete exit.json is ignored, because the events have the end as well
            return f"exit.json is not what this app writes ({describe(error)})"
    except OSError as error:
        return describe(error)
    for line in tail(folder / FILE).splitlines():
        event = event_of(line)
        if event and (reason := impossible(event)):
            return f"{FILE} has {reason}"
    return ""


def stamp_of(path: str) -> Stamp:
    """Changes when the file changes; None if there is no file. OSError if it is not a regular file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, f"{os.path.basename(path)} is not a file", path)
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def spec_of(path: Path, stamp: Stamp) -> JobRequest:
    """Read a spec.json. The result is cached for the same path and stamp."""
    return JobRequest.model_validate_json(read_whole(path))


def describe(error: Exception) -> str:
    """Describe an error in a few words, without values and paths."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:4])
        return f"{where}: {first['msg']}"[:200] if where else "it is not JSON"
    if isinstance(error, OSError) and error.strerror:
        name = Path(os.fsdecode(error.filename)).name if error.filename else ""
        return error.strerror if not name or name in error.strerror else f"{name}: {error.strerror}"
    return type(error).__name__


def tail(path: Path) -> bytes:
    """The last TAIL bytes of a file; empty if it cannot be read."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return file.read(TAIL)
    except OSError:
        return b""


def new_folder(runs: Path, spec: JobRequest) -> Path:
    """Make a folder whose name sorts after the names of all older runs."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", spec.name)[:60]
    newest = max((name[:19] for name in os.listdir(runs) if STAMP.match(name) and int(name[:4]) in YEARS), default="")
    while True:
        now = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now)) + f"-{int(now * 1000) % 1000:03d}"
        if stamp > newest:
            break
        if stamp[:15] < newest[:15]:  # the clock was set back: use the newest name + 1 ms
            digits = f"{int(newest.replace('-', '')) + 1:017d}"
            stamp = f"{digits[:8]}-{digits[8:14]}-{digits[14:]}"
            break
        time.sleep(0.001)
    folder = runs / f"{stamp}-{spec.kind}-{plain}"
    folder.mkdir()
    return folder
