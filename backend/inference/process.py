"""A worker process: its pipes, its last output, and whether it still responds."""

import collections
import contextlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from backend.core import machine
from backend.core.errors import without_paths
from backend.inference.protocol import Request, WorkerEvent, read_event

ROOT = Path(__file__).parents[2]
TIMEOUT, LOADING_TIMEOUT = 60.0, 900.0  # seconds without an event: once it is loaded, and before
SPINS = "1000"
"""A thread that waits for the others looks so many times before it sleeps: some microseconds. Waking a thread takes
longer than that, and there are hundreds of waits per token."""
CRASHES = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}


class WorkerProcess:
    """Starts the process at once. Its own threads write, read and watch, so that no caller waits for a full pipe.

    `on_event` is called with each event, `on_exit` once when the process has ended; both from a thread of this object.
    `is_busy` says whether the worker has requests to answer: only then is silence a fault.
    """

    def __init__(
        self,
        command: list[str],
        on_event: Callable[["WorkerProcess", WorkerEvent], None],
        on_exit: Callable[["WorkerProcess"], None],
        is_busy: Callable[[], bool],
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={"GOMP_SPINCOUNT": SPINS} | machine.environment() | {"GGML_NO_BACKTRACE": "1"},
            start_new_session=True,  # Ctrl-C is for the app; the closed pipe ends the worker
        )
        self.ready = False
        self.opening = ""
        """The adapter that is being opened: if the process dies now, that file is the cause."""
        self.started = time.time()
        self._last_event = time.monotonic()
        self._on_event, self._on_exit, self._is_busy = on_event, on_exit, is_busy
        self._output: collections.deque[str] = collections.deque(maxlen=20)
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        for target in (self._read_events, self._read_errors, self._write, self._watch):
            threading.Thread(target=target, daemon=True).start()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def crashed(self) -> bool:
        """Whether its own code failed, as with hostile files; not a kill, and not a refusal."""
        return self.process.returncode in CRASHES

    @property
    def last_output(self) -> str:
        """A sentence with the last line that it printed; empty if it printed nothing."""
        last = next((line for line in reversed(self._output) if line), "")
        return f" Its last output: {without_paths(last)}" if last else ""

    def send(self, request: Request) -> None:
        """Returns at once; a thread writes."""
        if not self._is_busy():
            self._last_event = time.monotonic()
        self._requests.put(request)

    def add_output(self, line: str) -> None:
        self._output.append(line.strip()[:300])

    def close(self, grace: float) -> None:
        """Close its pipe, and kill it after `grace` seconds."""
        self._requests.put(None)
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _write(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(OSError, ValueError):  # the process has died: `_read_events` reports it
            while (request := self._requests.get()) is not None:
                self.process.stdin.write(request.model_dump_json() + "\n")
                self.process.stdin.flush()
            self.process.stdin.close()

    def _read_events(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self._last_event = time.monotonic()
                try:
                    event = read_event.validate_json(line)
                except ValueError:  # printed by a library
                    self.add_output(line)
                else:
                    self._on_event(self, event)
        self.process.wait()
        self._requests.put(None)
        self._on_exit(self)

    def _read_errors(self) -> None:
        assert self.process.stderr
        with self.process.stderr as lines:
            for line in lines:
                self.add_output(line)

    def _watch(self) -> None:
        """Kill a worker that has requests and sends no event for too long; its requests end with a sentence."""
        while self.alive:
            time.sleep(0.5)
            timeout = TIMEOUT if self.ready else LOADING_TIMEOUT
            if self._is_busy() and time.monotonic() - self._last_event > timeout:
                self.add_output("(it did not respond any more, so it was ended)")
                self.process.kill()
