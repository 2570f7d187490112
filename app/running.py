"""Answers that are arriving, by session: so that Stop reaches them and a second click does not start another."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from backend.errors import LabError
from backend.inference.reply import Reply


class Running:
    """One tab's answers. The lock protects the table, which handlers of many sessions share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replies: dict[str, list[Reply]] = {}

    @contextmanager
    def turn(self, request: gr.Request) -> Iterator[list[Reply]]:
        """A list to put this turn's replies in; all are stopped on the way out, because a client may have left."""
        session = request.session_hash or ""
        replies: list[Reply] = []
        with self._lock:
            if session in self._replies:
                raise LabError("An answer is still arriving here. Press Stop, or wait for its end, and send again.")
            self._replies[session] = replies
        try:
            yield replies
        finally:
            for reply in replies:
                reply.stop()
            with self._lock:
                self._replies.pop(session, None)

    def stop(self, request: gr.Request) -> None:
        """Ask this session's answers to end; what has arrived is kept."""
        with self._lock:
            replies = list(self._replies.get(request.session_hash or "", ()))
        for reply in replies:
            reply.stop()
