"""`Reply`: an answer that is still arriving."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from backend.core.errors import Code, LabError
from backend.inference.sampling import Generation

State = Literal["loading", "waiting", "answering", "ended"]


class Reply:
    """Iterate it for pieces of text, or call `text()` for the whole. `generation` is set when it has ended well.

    The engine's thread writes, other threads read. The lock of `_changed` protects every field.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.state: State = "loading"
        self.place = 0
        """Requests ahead of this one, while the state is `waiting`."""
        self.generation: Generation | None = None
        self.error: str = ""
        self.code: Code = "invalid"
        self._pieces: list[str] = []
        self._stop = stop
        self._changed = threading.Condition()
        self._events: list[threading.Event] = []

    @property
    def so_far(self) -> str:
        with self._changed:
            return "".join(self._pieces)

    def __iter__(self) -> Iterator[str]:
        """Pieces of text as they arrive; LabError if the answer failed."""
        index = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda i=index: len(self._pieces) > i or self.state == "ended")  # type: ignore[misc]
                pieces = self._pieces[index:]
                over = not pieces and self.state == "ended"
            if over:
                break
            index += len(pieces)
            yield from pieces
        if self.error:
            raise LabError(self.error, self.code)

    def text(self) -> str:
        """The whole answer; LabError if it failed."""
        return "".join(self)

    def stop(self) -> None:
        """Stop the answer; its text so far is kept. Harmless when it has already ended."""
        if self.state != "ended":
            self._stop()

    def add(self, piece: str) -> None:
        with self._changed:
            self.state = "answering"
            self._pieces.append(piece)
            self._note()

    def wait_in_queue(self, place: int) -> None:
        with self._changed:
            self.state, self.place = "waiting", place
            self._note()

    def start(self) -> None:
        with self._changed:
            self.state = "answering"
            self._note()

    def end(self, generation: Generation | None = None) -> None:
        self._end(generation, "", "invalid")

    def fail(self, code: Code, error: str) -> None:
        """End it with an error; its text so far is kept."""
        self._end(None, error, code)

    def _end(self, generation: Generation | None, error: str, code: Code) -> None:
        with self._changed:
            if self.state == "ended":
                return
            self.state, self.generation, self.error, self.code = "ended", generation, error, code
            self._note()

    def notify(self, event: threading.Event) -> None:
        """Set the event at every change from now on."""
        with self._changed:
            self._events.append(event)

    def _note(self) -> None:
        self._changed.notify_all()
        for event in self._events:
            event.set()


def watch(
    replies: Sequence[Reply], interval: Callable[[], float] = lambda: 0.1, heartbeat: float = 1.0
) -> Iterator[None]:
    """Yield when any of them has changed, at most every `interval()` seconds, until all have ended.

    A change after a pause is not delayed. Yields at least every `heartbeat` seconds, so that a handler can notice that
    its client has left.
    """
    changed = threading.Event()
    for reply in replies:
        reply.notify(changed)
    while True:
        changed.clear()
        over = all(reply.state == "ended" for reply in replies)
        shown = time.monotonic()
        yield
        if over:
            return
        if changed.wait(heartbeat) and any(reply.state != "ended" for reply in replies):
            time.sleep(max(0.0, shown + interval() - time.monotonic()))
