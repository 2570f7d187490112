"""The worker's end of the pipes: requests in, events out."""

import os
import queue
import sys
import threading

from backend.inference.protocol import Request, WorkerEvent, read_request

END = None  # in place of a request: the pipe was closed, the worker must end


class Pipe:
    """A thread reads stdin, so that a stop can arrive while a step is computed.

    Events are collected and written together: one write per step of the worker, not one per token.
    """

    def __init__(self) -> None:
        self._out = os.dup(1)
        self._events: list[str] = []
        os.dup2(2, 1)  # libraries print to stdout: that must not look like an event
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._inbox.put(read_request.validate_json(line))
        self._inbox.put(END)

    def take(self, wait: bool) -> list[Request | None]:
        """Every request that has arrived; with `wait`, at least one. The events so far are written first."""
        self.flush()
        requests = [self._inbox.get()] if wait else []
        while not self._inbox.empty():
            requests.append(self._inbox.get())
        return requests

    def send(self, event: WorkerEvent) -> None:
        """Collect an event. `flush` or the next `take` writes it."""
        self._events.append(event.model_dump_json() + "\n")

    def flush(self) -> None:
        data = memoryview("".join(self._events).encode())
        self._events.clear()
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except BrokenPipeError:
            os._exit(0)  # the app has ended
