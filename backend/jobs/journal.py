"""The worker's side of a run: read the request, write events, end on SIGTERM.

A worker is a module that is started as `python -m module FOLDER` and calls `sys.exit(run_worker(Request, function))`.
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
INTERVAL = 0.5  # seconds between two step events
DISK_FULL = 74  # exit code
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Stopped(BaseException):
    """SIGTERM arrived. It is not a subclass of Exception, so that no library catches it."""


class Journal:
    """Writes the events of a worker. `folder` is the folder of the run, for its other files as well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last = 0.0

    @property
    def due(self) -> bool:
        """Whether INTERVAL has passed since the last step event."""
        return time.monotonic() - self._last >= INTERVAL

    def step(self, facts: StepFacts, now: bool = False) -> None:
        """Write a step event. Without `now`, a step within INTERVAL of the last event is not written."""
        if now or self.due:
            self._last = time.monotonic()
            append_event(self.folder, "step", **facts.model_dump(exclude_unset=True))

    def result(self, facts: ResultFacts) -> None:
        """Write the result event."""
        append_event(self.folder, "result", **facts.model_dump(exclude_unset=True))


def run_worker(spec: type[Spec], do: Callable[[Spec, Journal], None]) -> int:
    """Run `do` with the request of the run. Return the exit code: 0 success, 1 failure with a `failed` event, DISK_FULL
    failure whose event did not fit on the disk, 143 stopped.

    The `ended` event is written after `do` has returned.
    """
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_runner, daemon=True).start()
    try:
        request = _request(spec, folder)
        append_event(folder, "started", pid=os.getpid())
        do(request, Journal(folder))
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
    """Write a failed event and return the exit code. If the event cannot be written, print the reason."""
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


def _request(spec: type[Spec], folder: Path) -> Spec:
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
        return f"The system refused something ({error.strerror}). Its log names the file. Correct it, then try again."
    return f"The app has a bug ({type(error).__name__}). The log of the run has the details. Report it, or try again."


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second SIGTERM must not interrupt the cleanup
    raise Stopped


def _end_with_runner() -> None:
    """End this process when the runner dies, which closes stdin: nobody could stop it otherwise."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os.killpg(0, signal.SIGKILL)
