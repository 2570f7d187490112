"""From bytes to text: whole characters only, and nothing of a stop text."""

import codecs
from collections.abc import Sequence


class AnswerText:
    """Collects one answer. `ended` turns true at a stop text, which is not part of the answer."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._stops = tuple(stops)
        self._held = ""
        self.ended = False

    def push(self, data: bytes) -> str:
        """The text that is now certain; what may be the start of a stop text, and blanks before it, is held back."""
        self._held += self._decode(data)
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            _, at = min(found)  # the one that was complete first, however the text was cut into pieces
            self.ended, self._held, out = True, "", self._held[:at].rstrip()
            return out
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        out = self._held[: len(self._held) - keep]
        out = out.rstrip() if self._stops else out
        self._held = self._held[len(out) :]
        return out

    def rest(self) -> str:
        """What was held back, once the model has ended."""
        out = "" if self.ended else self._held + self._decode(b"", True)
        self._held = ""
        return out


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` starts with."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
