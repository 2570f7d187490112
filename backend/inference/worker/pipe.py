"""The worker's end of the pipe: requests in, events out, one JSON object a line."""

import json
import os
import queue
import sys
import threading
from typing import Any

END = None  # what `take` hands over when the screen has gone: its pipe closed


class Pipe:
    """stdin is read by a thread, so that a stop can arrive while a step is being computed."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)  # whatever a library prints must not look like an event
        self._inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._inbox.put(json.loads(line))
        self._inbox.put(END)

    def take(self, wait: bool) -> list[dict[str, Any] | None]:
        """Everything that has arrived; with `wait`, at least one."""
        found = [self._inbox.get()] if wait else []
        while not self._inbox.empty():
            found.append(self._inbox.get())
        return found

    def send(self, event: str, **fields: Any) -> None:
        try:
            self._out.write(json.dumps({"event": event, **fields}) + "\n")
        except BrokenPipeError:
            os._exit(0)  # nobody is listening any more
