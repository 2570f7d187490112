"""One child process: started when first needed, restarted after a crash, ended with the app or to make room."""

import itertools
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from backend.inference.process import WorkerProcess
from backend.inference.reply import Reply
from backend.inference.sampling import Generation

LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class LoadedModel:
    """A worker that lives. `memory` is bytes resident, `since` and `used` are seconds since 1970."""

    name: str
    pid: int
    memory: int
    since: float
    used: float
    answering: int
    ready: bool


@dataclass(eq=False)
class PendingRequest:
    body: dict[str, Any]
    reply: Reply
    child: WorkerProcess | None = None
    started: bool = False
    stopped: bool = False
    sent_again: bool = False


class Engine:
    """Hands requests to a worker and its events to replies.

    One lock protects the child, the pending requests and the count of failures. When the child dies, requests
    it had begun end with a sentence and are not tried again, because one of them may be what killed it; those that
    were still in line are given to the next child, once.
    """

    def __init__(self, name: str, command: list[str], crashed: Callable[[str, str], None]) -> None:
        """`crashed` is told of a file that killed the worker while it was opened: an adapter's path, or empty for
        the model itself; and how."""
        self.name = name
        self._command = command
        self._crashed = crashed
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._pending: dict[int, PendingRequest] = {}
        self._child: WorkerProcess | None = None
        self._failures = 0
        self._not_before = 0.0
        self._last_words = ""
        self._closed = False
        self._used = time.time()

    @property
    def pid(self) -> int | None:
        """The worker's process id while it lives."""
        with self._lock:
            return self._child.process.pid if self._child and self._child.alive else None

    @property
    def loaded(self) -> LoadedModel | None:
        """What there is to tell of its worker; None while there is none."""
        with self._lock:
            child = self._child
            answering = len(self._pending)
        try:
            if child is None or not child.alive:
                return None
            memory = psutil.Process(child.process.pid).memory_info().rss
        except psutil.Error:
            return None
        return LoadedModel(self.name, child.process.pid, memory, child.since, self._used, answering, child.ready)

    def request(self, body: dict[str, Any]) -> Reply:
        """Start an answer. It never raises for the model's sake: a failure is the reply's."""
        number = next(self._numbers)
        reply = Reply(stop=lambda: self._stop(number))
        with self._lock:
            self._used = time.time()
            pending = PendingRequest({"op": "generate", "id": number, **body}, reply)
            self._give(number, pending)
        return reply

    def _stop(self, number: int) -> None:
        with self._lock:
            pending = self._pending.get(number)
            if pending and pending.child:
                pending.stopped = True
                pending.child.say({"op": "stop", "id": number})

    def _give(self, number: int, pending: PendingRequest) -> None:
        pause = self._not_before - time.monotonic()
        running = self._child is not None and self._child.alive
        if self._closed:
            pending.reply.end(error=self._was_closed())
        elif pause > 0 and not running:
            pending.reply.end(
                error=f"{self.name} has stopped {self._failures} times in a row, so it is not started again for "
                f"another {max(pause, 1):.0f} s. Then send your message again, or choose another variant."
                f"{self._last_words}",
            )
        else:
            pending.child = self._child if running and self._child else self._start()
            pending.child.say(pending.body)  # before it is counted: the wait for an answer begins now
            self._pending[number] = pending

    def _start(self) -> WorkerProcess:
        self._child = WorkerProcess(self._command, self._hear, self._bury, lambda: bool(self._pending))
        return self._child

    def _hear(self, child: WorkerProcess, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "ready":
            child.ready = True
            return
        if kind == "unloadable":
            child.note(event["message"])
            return
        if kind in ("opening", "opened"):
            child.opening = event["adapter"] if kind == "opening" else ""
            return
        if kind == "beat":
            return
        with self._lock:
            pending = self._pending.get(event["id"])
            if kind in ("ended", "failed"):
                self._pending.pop(event["id"], None)
                self._failures, self._used = 0, time.time()
        if pending:
            try:
                _tell(pending, event)
            except (KeyError, ValueError):
                pending.reply.end(error=f"{self.name} sent something that cannot be read. Send your message again.")

    def _bury(self, child: WorkerProcess) -> None:
        with self._lock:
            if not self._closed:
                self._failures += 1
                self._last_words = child.last_words
                self._not_before = time.monotonic() + min(LONGEST_PAUSE, 2.0 ** (self._failures - 1) - 1)
            if child.crashed and not self._closed and (child.opening or not child.ready):
                self._crashed(child.opening, f"signal {-child.process.returncode}")
            for number, pending in list(self._pending.items()):
                if pending.child is not child:
                    continue
                del self._pending[number]
                if pending.stopped:
                    pending.reply.end(error="Stopped by you; its model stopped at the same time.")
                elif self._closed:
                    pending.reply.end(error=self._was_closed())
                elif not child.ready or (child.opening and pending.body.get("adapter") == child.opening):
                    pending.reply.end(error=self._not_loaded(child))
                elif pending.started or pending.sent_again:
                    pending.reply.end(error=self._stopped(child))
                else:
                    pending.sent_again = True
                    self._give(number, pending)

    def _was_closed(self) -> str:
        return (
            f"{self.name} was unloaded: its owner wished it, its file has changed, or the app is ending. "
            "Send your message again."
        )

    def _not_loaded(self, child: WorkerProcess) -> str:
        code = child.process.returncode
        if child.crashed:
            name = Path(child.opening).stem or self.name
            return (
                f"{name} crashes the loader (signal {-code}): its file is damaged, or made to do harm. It is marked "
                f"and not tried again by itself; the Library can try it once more, or remove it.{child.last_words}"
            )
        if code < 0:
            return (
                f"{self.name} was ended while it was being loaded (signal {-code}; often there is too little memory). "
                f"Close what you can and send your message again, or choose a smaller variant.{child.last_words}"
            )
        return f"{self.name} could not be loaded.{child.last_words}"

    def _stopped(self, child: WorkerProcess) -> str:
        code = child.process.returncode
        why = f"signal {-code}" if code < 0 else f"code {code}"
        why += "; often memory ran out" if code == -signal.SIGKILL else ""
        return (
            f"The process that runs {self.name} stopped while it was answering ({why}). What it had written is kept. "
            f"It starts again with your next message; if the same message stops it twice, change the message."
            f"{child.last_words}"
        )

    def close(self, grace: float = 2.0) -> None:
        """End the worker: its pipe closes; after `grace` seconds it is killed."""
        with self._lock:
            self._closed, child = True, self._child
        if child:
            child.close(grace)


def _tell(pending: PendingRequest, event: dict[str, Any]) -> None:
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
