"""The worker's side of a run: read the request, write events, end on SIGTERM.

A worker is started as `python -m its.module FOLDER`, and ends with `sys.exit(run_worker(Request, function))`.
"""

import errno
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeVar

from pydantic import BaseModel

from backend.core.errors import LabError
from backend.jobs.events import ResultFacts, StepFacts, append_event

Spec = TypeVar("Spec", bound=BaseModel)
INTERVAL = 0.5  # seconds between two steps that are written down
DISK_FULL = 74  # exit code
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Stopped(BaseException):
    """SIGTERM arrived. Not an Exception, so that no library catches it and continues."""


class Journal:
    """Writes the events of a worker. `folder` is the run's: files that are made there belong to the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last = 0.0

    @property
    def due(self) -> bool:
        """Whether the last step is long enough ago for another."""
        return time.monotonic() - self._last >= INTERVAL

    def step(self, facts: StepFacts, now: bool = False) -> None:
        """Write progress. Steps that follow another within INTERVAL are left out, except with `now`."""
        if now or self.due:
            self._last = time.monotonic()
            append_event(self.folder, "step", **facts.model_dump(exclude_unset=True))

    def result(self, facts: ResultFacts) -> None:
        """Write what was made or measured."""
        append_event(self.folder, "result", **facts.model_dump(exclude_unset=True))


def run_worker(spec: type[Spec], do: Callable[[Spec, Journal], None]) -> int:
    """Run `do`. 0: it ended. 1: it failed, and said why in a `failed` event. DISK_FULL: it failed, and the disk had no
    room for that event. 143: it was stopped.

    Only what happened counts as success: `ended` is written after `do` has returned.
    """
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_leave_with_the_runner, daemon=True).start()
    try:
        asked = _asked(spec, folder)
        append_event(folder, "started", pid=os.getpid())
        do(asked, Journal(folder))
        append_event(folder, "ended")
    except Stopped:
        return 128 + signal.SIGTERM
    except LabError as error:
        return _failed(folder, str(error), error)
    except Exception as error:
        traceback.print_exc()
        return _failed(folder, _unexpected(error), error)
    return 0


def _failed(folder: Path, why: str, error: Exception) -> int:
    """Write why it failed; by the exit code alone if the event cannot be written."""
    full = is_full(error)
    try:
        append_event(folder, "failed", why=why)
    except OSError as refused:
        print(why, file=sys.stderr, flush=True)
        full = full or is_full(refused)
        return DISK_FULL if full else 1
    return 1


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _asked(spec: type[Spec], folder: Path) -> Spec:
    try:
        return spec.model_validate(json.loads((folder / "spec.json").read_bytes())["asked"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise LabError(
            "The request of this run cannot be read: another version of the app wrote it. Start a new run."
        ) from error


def _unexpected(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "There was not enough memory. Close other programs and start it again."
    if isinstance(error, OSError) and error.strerror:
        if is_full(error):
            return f"The disk is full ({error.strerror}). Free 1 GB, then resume or start it again."
        return f"The system refused something ({error.strerror}). Look into its log for the file, then try again."
    return f"This is a fault of the app, not yours ({type(error).__name__}). Its log has the details; try again."


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: cleaning up must not be interrupted
    raise Stopped


def _leave_with_the_runner() -> None:
    """End with the runner, which holds the other end of stdin: without it, this work cannot be stopped."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os.killpg(0, signal.SIGKILL)
