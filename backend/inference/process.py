"""One life of a worker: its process, its pipes, and whether it still answers."""

import collections
import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.core import machine
from backend.core.errors import without_paths

ROOT = Path(__file__).parents[2]
PATIENCE, LOADING = 60.0, 900.0  # seconds without a word, once it is loaded and before
CRASHES = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}


class WorkerProcess:
    """Threads write, read and watch, so that whoever asks never waits for a pipe that nobody empties.

    `hear` is called with each event, `bury` once when it has ended; both from a thread of this child.
    """

    def __init__(
        self,
        command: list[str],
        hear: Callable[["WorkerProcess", dict[str, Any]], None],
        bury: Callable[["WorkerProcess"], None],
        busy: Callable[[], bool],
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
            env=machine.environment() | {"GGML_NO_BACKTRACE": "1"},
            start_new_session=True,  # Ctrl-C is the app's to handle; the closing pipe ends the worker
        )
        self.ready = False
        self.opening = ""
        """The adapter that is being opened: if it dies now, that file is the cause."""
        self.since = time.time()
        self.heard = time.monotonic()
        self._hear, self._bury, self._busy = hear, bury, busy
        self._said: collections.deque[str] = collections.deque(maxlen=20)
        self._letters: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        for target in (self._listen, self._overhear, self._write, self._watch):
            threading.Thread(target=target, daemon=True).start()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def crashed(self) -> bool:
        """Whether it ended by a fault of its own code, as hostile files bring about; not by a kill or a refusal."""
        return self.process.returncode in CRASHES

    @property
    def last_words(self) -> str:
        last = next((line for line in reversed(self._said) if line), "")
        return f" It last said: {without_paths(last)}" if last else ""

    def say(self, body: dict[str, Any]) -> None:
        """Send a request; returns at once."""
        if not self._busy():
            self.heard = time.monotonic()
        self._letters.put(body)

    def note(self, said: str) -> None:
        self._said.append(said.strip()[:300])

    def close(self, grace: float) -> None:
        """End it: its pipe closes; after `grace` seconds it is killed."""
        self._letters.put(None)
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _write(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(OSError, ValueError):  # it has died: whoever listens to it will say so
            while (body := self._letters.get()) is not None:
                self.process.stdin.write(json.dumps(body) + "\n")
                self.process.stdin.flush()
            self.process.stdin.close()

    def _listen(self) -> None:
        assert self.process.stdout
        with self.process.stdout as events:
            for line in events:
                self.heard = time.monotonic()
                try:
                    self._hear(self, json.loads(line))
                except (ValueError, KeyError, TypeError):  # not an event: something a library printed
                    self.note(line)
        self.process.wait()
        self._letters.put(None)
        self._bury(self)

    def _overhear(self) -> None:
        assert self.process.stderr
        with self.process.stderr as printed:
            for line in printed:
                self.note(line)

    def _watch(self) -> None:
        """A worker that is asked and says nothing for long hangs: it is ended, which its requests are told."""
        while self.alive:
            time.sleep(0.5)
            if self._busy() and time.monotonic() - self.heard > (PATIENCE if self.ready else LOADING):
                self.note("(it did not answer any more, so it was ended)")
                self.process.kill()
