"""`Run`: reads a run from its folder. Nothing is cached, so every page, a restarted app and a test see the same state.

spec.json      the request            written once, before anything starts
events.jsonl   what happened          appended by the worker
log.txt        output of the worker   bounded; log.1.txt has the older lines
runner.json    its processes          pid and start time
stop           requests to stop       one line each, written before the signal is sent
exit.json      how it ended           written last, by the runner
lock           locked by the runner and its worker while they live
"""

import calendar
import fcntl
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Literal, TypeVar

from backend.core import machine
from backend.core.errors import LabError, shown, without_paths
from backend.core.files import open_regular, read_whole
from backend.jobs import folders
from backend.jobs.events import FILE, Event, Kind, event_of, events, impossible
from backend.jobs.folders import Exit, JobRequest, ProcessIds

State = Literal["queued", "running", "stopping", "done", "failed", "stopped", "lost", "unreadable"]
LIVE: tuple[State, ...] = ("queued", "running", "stopping")
RECENT = 200  # newest runs; only these are searched for live ones
MAX_ODD = 50  # listed runs whose name has an impossible time
Read = TypeVar("Read")


class Run:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def id(self) -> str:
        """The name of the folder. Bytes that are not UTF-8 are escaped as \\udc80 to \\udcff."""
        return self.folder.name.encode("utf-8", "backslashreplace").decode()

    @property
    def kind(self) -> str:
        """The kind of job, from the name of the folder."""
        return folders.kind_of(self.folder.name)

    @property
    def created(self) -> float:
        """Time of creation from the name of the folder, in seconds since 1970; 0 if the name has no date."""
        try:
            return float(max(0, calendar.timegm(time.strptime(self.id[:15], "%Y%m%d-%H%M%S"))))
        except ValueError:
            return 0.0

    @property
    def fault(self) -> str:
        """Why it cannot be read and what to do, in a sentence; empty if it can be read."""
        reason = folders.fault(self.folder)
        return self.unreadable(reason) if reason else ""

    def unreadable(self, reason: str) -> str:
        """The sentence for a folder that cannot be read."""
        place = self.folder.parent.name
        return f"The folder {shown(self.id)} cannot be read: {reason}. Move it out of {place}/ or delete it."

    @property
    def spec(self) -> JobRequest:
        """OSError or ValueError if it cannot be read."""
        path = self.folder / "spec.json"
        return folders.spec_of(path, folders.stamp_of(str(path)))

    @property
    def state(self) -> State:
        """The state from exit.json, or from the lock and the processes if there is no exit.json."""
        if ended := self.exit:
            return ended.state
        if not self.alive:
            ended = self.exit or self._end_by_events()  # it may have ended since exit.json was read
            return ended.state if ended else "lost"
        if self.stops:
            return "stopping"
        workers = self.workers
        return "running" if workers and workers.worker else "queued"

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it is live, and always if its runner was killed."""
        try:
            return Exit.model_validate_json(read_whole(self.folder / "exit.json"))
        except (OSError, ValueError):
            return None

    @property
    def alive(self) -> bool:
        """Whether a process has its lock. The kernel releases the lock when the process ends, even by a kill."""
        try:
            with open_regular(self.folder / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    @property
    def workers(self) -> ProcessIds | None:
        try:
            return ProcessIds.model_validate_json(read_whole(self.folder / "runner.json"))
        except (OSError, ValueError):
            return None

    @property
    def stops(self) -> int:
        """How often a stop was requested."""
        try:
            return read_whole(self.folder / "stop").count(b"\n")
        except OSError:
            return 0

    @property
    def why(self) -> str:
        """The reason of its end without private facts, for visitors: no paths, and no output of the worker, which
        earlier versions wrote into exit.json.
        """
        return without_paths(self._why().partition(" It last said: ")[0])

    def _why(self) -> str:
        if ended := self.exit:
            return ended.why
        state = self.state
        if state == "lost":
            return "Its process was killed, or the machine was switched off. Start it again."
        end = self._end_by_events() if state in ("done", "failed") else None
        return end.why if end else ""

    def _end_by_events(self) -> Exit | None:
        """The end by the worker's events, if its runner was killed before it wrote exit.json."""
        if self.last("ended"):
            return Exit(state="done")
        failed = self.last("failed")
        return Exit(state="failed", why=str(failed.facts.get("why", ""))) if failed else None

    def stop(self) -> None:
        """Request a stop; a second request kills the worker. No effect on a run that has ended. OSError if it cannot be
        written.
        """
        with (self.folder / "stop").open("ab", buffering=0) as file:
            file.write(f"{time.time()}\n".encode())

    def events(self) -> list[Event]:
        return events(self.folder)

    def last(self, kind: Kind) -> Event | None:
        """The newest event of that kind since the last start, if it is in the last 64 kB of the file."""
        for line in reversed(folders.tail(self.folder / FILE).splitlines()):
            event = event_of(line)
            if event is None or impossible(event):
                continue
            if event.kind == kind:
                return event
            if event.kind == "again":
                return None
        return None

    def log(self, lines: int = 40) -> str:
        """The last lines of its output."""
        return "\n".join(folders.tail(self.folder / "log.txt").decode("utf-8", "replace").splitlines()[-lines:])


def runs_in(runs: Path, *kinds: str, newest: int = 0) -> list[Run]:
    """Runs that can be read, oldest first: all, or those of some kinds, or only the `newest` of them.

    Folders of other kinds are not opened, because the kind is in the name of the folder.
    """
    return [run for run in _every(runs, kinds, newest) if not run.fault]


def folders_in(runs: Path, *kinds: str, newest: int = 0) -> list[Run]:
    """As runs_in, and also the runs that cannot be read. Runs whose name has an impossible time come first."""
    return [run for run in _every(runs, kinds, newest) if not folders.is_starting(run.folder)]


def _every(runs: Path, kinds: Collection[str], newest: int) -> list[Run]:
    names = [name for name in folders.names(runs) if not kinds or folders.kind_of(name) in kinds]
    odd = [name for name in names if not folders.has_possible_year(name)][-MAX_ODD:]
    usual = [name for name in names if folders.has_possible_year(name)][-newest:]
    return [Run(runs / name) for name in (*odd, *usual)]


def unknown_in(runs: Path, known: Collection[str]) -> list[Run]:
    """Runs of kinds that are not `known`, oldest first."""
    return [Run(runs / name) for name in folders.names(runs) if folders.kind_of(name) not in known][-MAX_ODD:]


def find(runs: Path, name: str, *kinds: str) -> Run | None:
    """The run with that id; None if there is none. Opens no other folder. LabError if it cannot be read."""
    candidates = (Run(runs / folder) for folder in folders.names(runs) if not kinds or folders.kind_of(folder) in kinds)
    run = next((run for run in candidates if run.id == name and not folders.is_starting(run.folder)), None)
    if run and (fault := run.fault):
        raise LabError(fault)
    return run


def read_each(runs: Iterable[Run], read: Callable[[Run], Read], unreadable: Callable[[Run, str], Read]) -> list[Read]:
    """Apply `read` to each run; for a run that cannot be read, call `unreadable` with the run and the reason."""
    results = []
    for run in runs:
        try:
            fault = run.fault
            results.append(unreadable(run, fault) if fault else read(run))
        except (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
            reason = f"its content is not what this app writes ({folders.describe(error)})"
            results.append(unreadable(run, run.unreadable(reason)))
    return results


def reap_orphans(runs: Path) -> list[Run]:
    """Kill workers whose runner was killed. Return their runs."""
    orphaned = []
    for run in runs_in(runs, newest=RECENT):
        if run.exit or not run.alive or not (workers := run.workers) or machine.is_still(*workers.runner):
            continue
        if workers.worker and machine.kill_group(*workers.worker):
            orphaned.append(run)
    return orphaned
