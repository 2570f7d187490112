"""What an address has answered, written down before it is accounted for: a killed run asks for nothing twice."""

import base64
import threading
from pathlib import Path

from backend.core import jsonl
from backend.core.errors import LabError


class Replies:
    """Bodies by what was asked. Of one run; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._known: dict[str, bytes] = {}
        self._calls: set[str] = set()
        for one in jsonl.read(path):
            body = _bytes(one.get("body"))
            if body is not None and isinstance(one.get("what"), str):
                self._known[one["what"]] = body
                self._calls.add(str(one.get("call")))

    def recall(self, what: str) -> bytes | None:
        """The body that was answered to it; None if none was."""
        with self._lock:
            return self._known.get(what)

    def brought(self, call: str) -> bool:
        """Whether it was this call, by its id in the ledger, that brought an answer."""
        with self._lock:
            return call in self._calls

    def keep(self, what: str, raw: bytes, call: str) -> None:
        """`call`: its id in the ledger. LabError if it cannot be written: then nothing more may be asked."""
        with self._lock:
            try:
                jsonl.append(self._path, {"what": what, "call": call, "body": _text(raw)})
            except OSError as error:
                raise LabError(
                    f"What the judge said cannot be written down ({error.strerror or 'the disk refuses it'}). Make "
                    "room on the disk and resume; what is judged so far is kept."
                ) from None
            self._known[what] = raw
            self._calls.add(call)


def _text(raw: bytes) -> str:
    """As it is where it is text, so that a person can read it."""
    try:
        return "=" + raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()


def _bytes(text: object) -> bytes | None:
    """None for what was never written here: a damaged line is no answer."""
    if not isinstance(text, str):
        return None
    try:
        return text[1:].encode("utf-8", "replace") if text.startswith("=") else base64.b64decode(text, validate=True)
    except ValueError:
        return None
