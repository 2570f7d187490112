"""One child process: started when first needed, restarted after a crash, ended with the app."""

import collections
import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.inference.reply import Reply
from backend.inference.sampling import Generation

ROOT = Path(__file__).parents[2]
LONGEST_PAUSE = 30.0
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT")


@dataclass(eq=False)
class Child:
    """One life of the worker."""

    process: subprocess.Popen[str]
    ready: bool = False
    said: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=20))

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def last_words(self) -> str:
        last = next((line for line in reversed(self.said) if line), "")
        return f" It last said: {last}" if last else ""


@dataclass(eq=False)
class Pending:
    body: dict[str, Any]
    reply: Reply
    child: Child | None = None
    started: bool = False
    stopped: bool = False
    sent_again: bool = False


class Engine:
    """Hands requests to a worker and its events to replies.

    One lock protects the child, the pending requests and the count of failures. When the child dies, requests
    it had begun end with a sentence and are not tried again, because one of them may be what killed it; those that
    were still in line are given to the next child, once.
    """

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._command = [sys.executable, *command]
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._child: Child | None = None
        self._failures = 0
        self._not_before = 0.0
        self._last_words = ""
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The worker's process id while it lives."""
        with self._lock:
            return self._child.process.pid if self._child and self._child.alive else None

    def request(self, body: dict[str, Any]) -> Reply:
        """Start an answer. It never raises for the model's sake: a failure is the reply's."""
        number = next(self._numbers)
        reply = Reply(stop=lambda: self._stop(number))
        with self._lock:
            self._pending[number] = Pending({"op": "generate", "id": number, **body}, reply)
            self._give(number)
        return reply

    def _stop(self, number: int) -> None:
        with self._lock:
            pending = self._pending.get(number)
            if pending and pending.child:
                pending.stopped = True
                _write(pending.child, {"op": "stop", "id": number})

    def _give(self, number: int) -> None:
        pause = self._not_before - time.monotonic()
        running = self._child is not None and self._child.alive
        if self._closed:
            self._fail(number, self._was_closed())
        elif pause > 0 and not running:
            self._fail(
                number,
                f"{self.name} has stopped {self._failures} times in a row, so it is not started again for another "
                f"{max(pause, 1):.0f} s. Then send your message again, or choose another variant.{self._last_words}",
            )
        else:
            child = self._child if running and self._child else self._start()
            self._pending[number].child = child
            _write(child, self._pending[number].body)

    def _start(self) -> Child:
        inherited = {key: os.environ[key] for key in INHERITED if key in os.environ}  # no secret goes along
        process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=inherited | {"OMP_WAIT_POLICY": "PASSIVE", "GGML_NO_BACKTRACE": "1"},
            start_new_session=True,  # Ctrl-C is the app's to handle; the closing pipe ends the worker
        )
        self._child = child = Child(process)
        for target in (self._listen, _overhear):
            threading.Thread(target=target, args=(child,), daemon=True).start()
        return child

    def _listen(self, child: Child) -> None:
        assert child.process.stdout
        for line in child.process.stdout:
            try:
                self._hear(child, json.loads(line))
            except (ValueError, KeyError, TypeError):  # not an event: something a library printed
                child.said.append(line.strip()[:300])
        child.process.wait()
        self._bury(child)

    def _hear(self, child: Child, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "ready":
            child.ready = True
            return
        if kind == "unloadable":
            child.said.append(event["message"])
            return
        with self._lock:
            pending = self._pending.get(event["id"])
            if kind in ("ended", "failed"):
                self._pending.pop(event["id"], None)
                self._failures = 0
        if pending:
            try:
                _tell(pending, event)
            except (KeyError, ValueError):
                pending.reply.end(error=f"{self.name} sent something that cannot be read. Send your message again.")

    def _bury(self, child: Child) -> None:
        with self._lock:
            if not self._closed:
                self._failures += 1
                self._last_words = child.last_words
                self._not_before = time.monotonic() + min(LONGEST_PAUSE, 2.0 ** (self._failures - 1) - 1)
            for number, pending in list(self._pending.items()):
                if pending.child is not child:
                    continue
                if pending.stopped:
                    self._fail(number, "Stopped by you; its model stopped at the same time.")
                elif self._closed:
                    self._fail(number, self._was_closed())
                elif not child.ready:
                    self._fail(number, self._not_loaded(child))
                elif pending.started or pending.sent_again:
                    self._fail(number, self._stopped(child))
                else:
                    pending.sent_again = True
                    self._give(number)

    def _was_closed(self) -> str:
        return f"{self.name} was closed: its file has changed, or the app is ending. Send your message again."

    def _not_loaded(self, child: Child) -> str:
        if child.process.returncode < 0:
            return (
                f"{self.name} stopped while it was being loaded (signal {-child.process.returncode}; often there is "
                f"too little memory). Close what you can and send your message again, or choose a smaller variant."
                f"{child.last_words}"
            )
        return f"{self.name} could not be loaded.{child.last_words}"

    def _stopped(self, child: Child) -> str:
        code = child.process.returncode
        why = f"signal {-code}" if code < 0 else f"code {code}"
        return (
            f"The process that runs {self.name} stopped while it was answering ({why}). What it had written is kept. "
            f"It starts again with your next message; if the same message stops it twice, change the message."
            f"{child.last_words}"
        )

    def _fail(self, number: int, why: str) -> None:
        self._pending.pop(number).reply.end(error=why)

    def close(self, grace: float = 2.0) -> None:
        """End the worker: its pipe closes; after `grace` seconds it is killed."""
        with self._lock:
            self._closed, child = True, self._child
        if child and child.process.stdin:
            with contextlib.suppress(OSError):
                child.process.stdin.close()
            try:
                child.process.wait(grace)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def _write(child: Child, body: dict[str, Any]) -> None:
    assert child.process.stdin
    with contextlib.suppress(OSError, ValueError):  # it has died: whoever listens to it will say so
        child.process.stdin.write(json.dumps(body) + "\n")
        child.process.stdin.flush()


def _overhear(child: Child) -> None:
    assert child.process.stderr
    for line in child.process.stderr:
        child.said.append(line.strip()[:300])


def _tell(pending: Pending, event: dict[str, Any]) -> None:
    reply = pending.reply
    match event["event"]:
        case "place":
            reply.wait_in_line(event["place"])
        case "started":
            pending.started = True
            reply.start()
        case "text":
            reply.add(event["text"])
        case "ended":
            reply.end(Generation.model_validate(event["generation"]))
        case "failed":
            reply.end(error=event["message"])
