"""Answers that are arriving, by session: so that Stop reaches them and a second click does not start another."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import gradio as gr

from app import guard
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.inference.reply import Reply

VISITOR_TURNS = 12  # turns of one address that are answered at the same time, per tab


@dataclass(eq=False)
class Stream:
    """One turn's answers, and what was asked of them meanwhile."""

    address: str = ""
    """Of a visitor; empty for the owner."""
    replies: list[Reply] = field(default_factory=list)
    stopped: bool = False
    """No further answer should begin."""
    dropped: bool = False
    """The conversation was left: nothing more should be shown of it."""

    def add(self, reply: Reply) -> None:
        """A Stop may have come while the reply was being started."""
        self.replies.append(reply)
        if self.stopped:
            reply.stop()


class Streams:
    """One tab's answers. The lock protects the table, which handlers of many sessions share."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._turns: dict[str, Stream] = {}

    @contextmanager
    def turn(self, request: gr.Request) -> Iterator[Stream]:
        """A turn to put replies in; all are stopped on the way out, because a client may have left."""
        session, (address, _) = request.session_hash or "", guard.visitor(self._settings, request)
        with self._lock:
            if session in self._turns and not self._turns[session].dropped:
                raise LabError("An answer is still arriving here. Press Stop, or wait for its end, and send again.")
            if address and sum(turn.address == address for turn in self._turns.values()) >= VISITOR_TURNS:
                raise LabError(
                    f"{VISITOR_TURNS} conversations of your network address are being answered. Wait for the end of "
                    "one, then send again."
                )
            self._turns[session] = mine = Stream(address)
        try:
            yield mine
        finally:
            for reply in mine.replies:
                reply.stop()
            with self._lock:
                if self._turns.get(session) is mine:
                    del self._turns[session]

    def stop(self, request: gr.Request) -> None:
        """Ask this session's answers to end; what has arrived is kept."""
        self._end(request, dropped=False)

    def drop(self, request: gr.Request) -> None:
        """Ask this session's answers to end and to show nothing more."""
        self._end(request, dropped=True)

    def _end(self, request: gr.Request, dropped: bool) -> None:
        with self._lock:
            turn = self._turns.get(request.session_hash or "")
        if turn:
            turn.stopped, turn.dropped = True, turn.dropped or dropped
            for reply in list(turn.replies):
                reply.stop()
