"""The worker's end of the pipes: requests in, events out."""

import os
import queue
import sys
import threading

from backend.inference.protocol import Request, WorkerEvent, read_request

END = None  # in place of a request: the pipe was closed, the worker must end


class Pipe:
    """A thread reads stdin, so that a stop can arrive while a step is computed."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)  # libraries print to stdout: that must not look like an event
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._inbox.put(read_request.validate_json(line))
        self._inbox.put(END)

    def take(self, wait: bool) -> list[Request | None]:
        """Every request that has arrived; with `wait`, at least one."""
        requests = [self._inbox.get()] if wait else []
        while not self._inbox.empty():
            requests.append(self._inbox.get())
        return requests

    def send(self, event: WorkerEvent) -> None:
        try:
            self._out.write(event.model_dump_json() + "\n")
        except BrokenPipeError:
            os._exit(0)  # the app has ended
