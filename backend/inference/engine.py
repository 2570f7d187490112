"""An engine: the handle of one worker process, which starts on the first request and restarts after a crash."""

import itertools
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from backend.core.errors import Code
from backend.inference.process import WorkerProcess
from backend.inference.protocol import (
    Ended,
    Failed,
    Generate,
    Heartbeat,
    Opened,
    Opening,
    Queued,
    Ready,
    RequestEvent,
    Started,
    Stop,
    Text,
    Unloadable,
    WorkerEvent,
)
from backend.inference.reply import Reply

LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class LoadedModel:
    """A running worker. `memory` is resident bytes, `since` and `used` are seconds since 1970."""

    name: str
    pid: int
    memory: int
    since: float
    used: float
    answering: int
    ready: bool


@dataclass(eq=False)
class PendingRequest:
    request: Generate
    reply: Reply
    process: WorkerProcess | None = None
    started: bool = False
    stopped: bool = False
    sent_again: bool = False


class Engine:
    """Passes requests to a worker and its events to replies.

    One lock protects the process, the pending requests and the count of failures. When the process dies, requests
    that it had started end with an error and are not sent again, because one of them may be the cause. Requests that
    were still queued are sent to the next process, once.
    """

    def __init__(self, name: str, command: list[str], on_crash: Callable[[str, str], None]) -> None:
        """`on_crash(file, how)` is called when a file killed the worker while it was opened: the path of an adapter,
        or empty for the model itself."""
        self.name = name
        self._command = command
        self._on_crash = on_crash
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._pending: dict[int, PendingRequest] = {}
        self._process: WorkerProcess | None = None
        self._failures = 0
        self._not_before = 0.0
        self._last_output = ""
        self._closed = False
        self._used = time.time()

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        with self._lock:
            return self._process.process.pid if self._process and self._process.alive else None

    @property
    def loaded(self) -> LoadedModel | None:
        """The running worker; None while there is none."""
        with self._lock:
            worker = self._process
            answering = len(self._pending)
        try:
            if worker is None or not worker.alive:
                return None
            memory = psutil.Process(worker.process.pid).memory_info().rss
        except psutil.Error:
            return None
        return LoadedModel(self.name, worker.process.pid, memory, worker.started, self._used, answering, worker.ready)

    def request(self, generate: Generate) -> Reply:
        """Start an answer; `generate.id` is set here. Never raises: an error is the reply's."""
        number = next(self._numbers)
        reply = Reply(stop=lambda: self._stop(number))
        with self._lock:
            self._used = time.time()
            self._give(PendingRequest(generate.model_copy(update={"id": number}), reply))
        return reply

    def _stop(self, number: int) -> None:
        with self._lock:
            pending = self._pending.get(number)
            if pending and pending.process:
                pending.stopped = True
                pending.process.send(Stop(id=number))

    def _give(self, pending: PendingRequest) -> None:
        pause = self._not_before - time.monotonic()
        running = self._process is not None and self._process.alive
        if self._closed:
            pending.reply.fail("not_loaded", self._closed_sentence())
        elif pause > 0 and not running:
            pending.reply.fail(
                "crashed",
                f"{self.name} has stopped {self._failures} times in a row, so it is not started again for "
                f"another {max(pause, 1):.0f} s. Then send your message again, or choose another variant."
                f"{self._last_output}",
            )
        else:
            pending.process = self._process if running and self._process else self._start()
            pending.process.send(pending.request)  # before it is counted: the timeout starts now
            self._pending[pending.request.id] = pending

    def _start(self) -> WorkerProcess:
        self._process = WorkerProcess(self._command, self._on_event, self._on_exit, lambda: bool(self._pending))
        return self._process

    def _on_event(self, worker: WorkerProcess, event: WorkerEvent) -> None:
        match event:
            case Ready():
                worker.ready = True
            case Unloadable():
                worker.add_output(event.message)
            case Opening():
                worker.opening = event.adapter
            case Opened():
                worker.opening = ""
            case Heartbeat():
                pass
            case _:
                self._on_request_event(event)

    def _on_request_event(self, event: RequestEvent) -> None:
        with self._lock:
            pending = self._pending.get(event.id)
            if isinstance(event, Ended | Failed):
                self._pending.pop(event.id, None)
                self._failures, self._used = 0, time.time()
        if pending:
            _update(pending, event)

    def _on_exit(self, worker: WorkerProcess) -> None:
        with self._lock:
            if not self._closed:
                self._failures += 1
                self._last_output = worker.last_output
                self._not_before = time.monotonic() + min(LONGEST_PAUSE, 2.0 ** (self._failures - 1) - 1)
            if worker.crashed and not self._closed and (worker.opening or not worker.ready):
                self._on_crash(worker.opening, f"signal {-worker.process.returncode}")
            for number, pending in list(self._pending.items()):
                if pending.process is not worker:
                    continue
                del self._pending[number]
                if error := self._exit_error(worker, pending):
                    pending.reply.fail(*error)
                else:
                    pending.sent_again = True
                    self._give(pending)

    def _exit_error(self, worker: WorkerProcess, pending: PendingRequest) -> tuple[Code, str] | None:
        """How a pending request of a dead worker ends; None if it may be sent again."""
        if pending.stopped:
            return "stopped", "Stopped by you; its model stopped at the same time."
        if self._closed:
            return "not_loaded", self._closed_sentence()
        if not worker.ready or (worker.opening and pending.request.adapter == worker.opening):
            return "not_loaded", self._not_loaded_sentence(worker)
        if pending.started or pending.sent_again:
            return "crashed", self._stopped_sentence(worker)
        return None

    def _closed_sentence(self) -> str:
        return (
            f"{self.name} was unloaded: by its owner, because its file has changed, or because the app is ending. "
            "Send your message again."
        )

    def _not_loaded_sentence(self, worker: WorkerProcess) -> str:
        code = worker.process.returncode
        if worker.crashed:
            name = Path(worker.opening).stem or self.name
            return (
                f"{name} crashes the loader (signal {-code}): its file is damaged or hostile. It is marked "
                f"and not loaded again by itself; the Library can try it once more, or remove it.{worker.last_output}"
            )
        if code < 0:
            return (
                f"{self.name} was ended while it was being loaded (signal {-code}; often there is too little memory). "
                f"Close other programs and send your message again, or choose a smaller variant.{worker.last_output}"
            )
        return f"{self.name} could not be loaded.{worker.last_output}"

    def _stopped_sentence(self, worker: WorkerProcess) -> str:
        code = worker.process.returncode
        why = f"signal {-code}" if code < 0 else f"code {code}"
        why += "; often memory ran out" if code == -signal.SIGKILL else ""
        return (
            f"The process that runs {self.name} stopped while it was answering ({why}). What it had written is kept. "
            f"It starts again with your next message; if the same message stops it twice, change the message."
            f"{worker.last_output}"
        )

    def close(self, grace: float = 2.0) -> None:
        """End the worker: close its pipe, and kill it after `grace` seconds."""
        with self._lock:
            self._closed, worker = True, self._process
        if worker:
            worker.close(grace)


def _update(pending: PendingRequest, event: RequestEvent) -> None:
    reply = pending.reply
    match event:
        case Queued():
            reply.wait_in_queue(event.place)
        case Started():
            pending.started = True
            reply.start()
        case Text():
            reply.add(event.text)
        case Ended():
            reply.end(event.generation)
        case Failed():
            reply.fail(event.code, event.message)
