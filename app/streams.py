"""The replies that are streamed now, by session. Stop finds them here, and a second click does not start another."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import gradio as gr

from app import guard
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.inference.reply import Reply

FRAMES = 20  # updates of the page per second, of all turns together: they take CPU time from the models
VISITOR_TURNS = 12  # turns of one network address that may be answered at the same time, per tab


@dataclass(eq=False)
class Stream:
    """The replies of one turn, and whether they were stopped."""

    address: str = ""
    """The network address of a visitor; empty for the owner."""
    replies: list[Reply] = field(default_factory=list)
    stopped: bool = False
    """No further reply may start."""
    dropped: bool = False
    """The conversation was cleared, so nothing more of it is shown."""

    def add(self, reply: Reply) -> None:
        """Add a reply. It is stopped at once if the turn was stopped while the reply was being started."""
        self.replies.append(reply)
        if self.stopped:
            reply.stop()


class Streams:
    """The streams of one tab. The lock protects the dict, which handlers of all sessions use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._turns: dict[str, Stream] = {}

    @contextmanager
    def turn(self, request: gr.Request) -> Iterator[Stream]:
        """Register a turn of this session. At the end all its replies are stopped, because the client may have left.

        LabError if a turn of the session is being answered, or too many of the visitor's address.
        """
        session, (address, _) = request.session_hash or "", guard.visitor(self._settings, request)
        with self._lock:
            if session in self._turns and not self._turns[session].dropped:
                raise LabError("An answer is still being generated. Wait for its end, or press Stop, then send again.")
            if address and sum(other.address == address for other in self._turns.values()) >= VISITOR_TURNS:
                raise LabError(
                    f"{VISITOR_TURNS} conversations of your network address are being answered. Wait for the end of "
                    "one, then send again."
                )
            self._turns[session] = turn = Stream(address)
        try:
            yield turn
        finally:
            for reply in turn.replies:
                reply.stop()
            with self._lock:
                if self._turns.get(session) is turn:
                    del self._turns[session]

    def interval(self) -> float:
        """Seconds between two updates of a turn; longer while many turns are answered."""
        return max(0.1, len(self._turns) / FRAMES)

    def stop(self, request: gr.Request) -> None:
        """Stop the replies of this session. The text so far is kept."""
        self._end(request, dropped=False)

    def drop(self, request: gr.Request) -> None:
        """Stop the replies of this session, and show nothing more of them."""
        self._end(request, dropped=True)

    def _end(self, request: gr.Request, dropped: bool) -> None:
        with self._lock:
            turn = self._turns.get(request.session_hash or "")
        if turn:
            turn.stopped, turn.dropped = True, turn.dropped or dropped
            for reply in list(turn.replies):
                reply.stop()
