"""A run, read from its folder. Nothing is remembered: a second screen, a restarted one and a test see the same.

spec.json      what was asked         written once, before anything starts
events.jsonl   what happened          appended by the worker
log.txt        what was printed       bounded; log.1.txt is the part before
runner.json    who works on it        process ids with the time they began
stop           the wish to stop       a line for each time it was wished, written before any signal
exit.json      how it ended           written last, by the runner
lock           held while it lives    by the runner and by its worker
"""

import fcntl
import json
import os
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from backend.jobs import process
from backend.jobs.event import FILE, Event, Kind, events

State = Literal["queued", "running", "stopping", "done", "failed", "stopped", "lost"]
LIVE: tuple[State, ...] = ("queued", "running", "stopping")
RECENT = 200  # runs among which live ones are looked for
TAIL = 1 << 16  # bytes of a file that are looked at for its newest lines
STAMP = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]{3}-")


class Asked(BaseModel):
    """spec.json. `key` names what is being made: two runs of one key would do the same work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str
    key: str = ""
    created: float
    asked: dict[str, Any]
    """The fields of the worker's own spec class, which checks them again."""


class Exit(BaseModel):
    """exit.json. `why` is the sentence a person is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["done", "failed", "stopped"]
    why: str = ""
    code: int = 0
    at: float = 0.0


class Workers(BaseModel):
    """runner.json: pid and beginning of both processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: tuple[int, str]
    worker: tuple[int, str] | None = None


class Run:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def spec(self) -> Asked:
        return _spec(self.folder / "spec.json")

    @property
    def state(self) -> State:
        """Derived: how it ended, else whether its lock is held, and by whom."""
        if found := self.exit:
            return found.state
        if not self.alive:
            ended = self.exit or self._told()  # it may have ended between the two looks
            return ended.state if ended else "lost"
        if self.wishes:
            return "stopping"
        workers = self.workers
        return "running" if workers and workers.worker else "queued"

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it lives, and for ever if its runner was killed."""
        try:
            return Exit.model_validate_json((self.folder / "exit.json").read_bytes())
        except (OSError, ValueError):
            return None

    @property
    def alive(self) -> bool:
        """Whether some process holds its lock. The kernel lets go of it however that process ends."""
        try:
            with (self.folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    @property
    def workers(self) -> Workers | None:
        try:
            return Workers.model_validate_json((self.folder / "runner.json").read_bytes())
        except (OSError, ValueError):
            return None

    @property
    def wishes(self) -> int:
        """How often a stop was asked for."""
        try:
            return (self.folder / "stop").read_bytes().count(b"\n")
        except OSError:
            return 0

    @property
    def why(self) -> str:
        """What to tell of how it stands: how it ended, or what became of it."""
        if found := self.exit:
            return found.why
        state = self.state
        if state == "lost":
            return "It was cut off: its process was killed, or the machine went down. Start it again."
        told = self._told() if state in ("done", "failed") else None
        return told.why if told else ""

    def _told(self) -> Exit | None:
        """What the worker itself said last, where its runner was killed before it could write down the end."""
        if self.last("ended"):
            return Exit(state="done")
        failed = self.last("failed")
        return Exit(state="failed", why=str(failed.facts.get("why", ""))) if failed else None

    def stop(self) -> None:
        """Wish it to stop; twice: at once. Harmless when it has ended. OSError if the wish cannot be written."""
        with (self.folder / "stop").open("ab", buffering=0) as file:
            file.write(f"{time.time()}\n".encode())

    def events(self) -> list[Event]:
        return events(self.folder)

    def last(self, kind: Kind) -> Event | None:
        """The newest event of that kind since the run last began, if it is among the newest lines."""
        for line in reversed(_tail(self.folder / FILE).splitlines()):
            try:
                event = Event.model_validate_json(line)
            except ValueError:
                continue
            if event.kind == kind:
                return event
            if event.kind == "again":
                return None
        return None

    def log(self, lines: int = 40) -> str:
        """The newest lines of what was printed."""
        return "\n".join(_tail(self.folder / "log.txt").decode("utf-8", "replace").splitlines()[-lines:])


def runs_in(runs: Path, *kinds: str, newest: int = 0) -> list[Run]:
    """Every run, oldest first, or only those of some kinds, or only the `newest` so many of them.

    A folder that does not tell what was asked is passed over. The kind is in the folder's name, so that a long history
    of others costs nothing.
    """
    if not runs.is_dir():
        return []
    named = [name for name in sorted(os.listdir(runs)) if STAMP.match(name)]
    wanted = [name for name in named if not kinds or name.split("-", 4)[3:4][0] in kinds][-newest:]
    return [Run(runs / name) for name in wanted if _tells(runs / name / "spec.json")]


def tend(runs: Path) -> list[Run]:
    """End workers whose runner was killed: nobody else would stop them or account for them. Returns their runs."""
    orphaned = []
    for run in runs_in(runs, newest=RECENT):
        if run.exit or not run.alive or not (workers := run.workers) or process.is_still(*workers.runner):
            continue
        if workers.worker and process.kill_group(*workers.worker):
            orphaned.append(run)
    return orphaned


def _tells(path: Path) -> bool:
    try:
        return bool(_spec(path))
    except (OSError, ValueError, RecursionError):  # half made, torn, or of another program
        return False


@lru_cache(maxsize=4096)
def _spec(path: Path) -> Asked:
    """It is written once and never changed."""
    return Asked.model_validate(json.loads(path.read_bytes()))


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return file.read(TAIL)
    except OSError:
        return b""
