"""LabError, the one error that people see; names from outside in sentences; and what to hide in texts."""

import re
from pathlib import Path, PurePath
from typing import Literal

_QUOTED = re.compile(r"""(['"])(/[^'"\n]*)\1""")
_PATH = re.compile(r"""(?<![\w/:.~])/(?:[^/\s'"`<>|()]+/)+[^/\s'"`<>|()]*""")


Code = Literal["invalid", "too_long", "out_of_memory", "not_loaded", "busy", "stopped", "crashed"]


class LabError(Exception):
    """An error whose message is shown as it is: what happened, why, what to do. Any other exception is a bug.

    `code` is for programs: no code reads the message to find out what happened. "invalid" is every error that no
    caller distinguishes.
    """

    def __init__(self, message: str, code: Code = "invalid") -> None:
        super().__init__(message)
        self.code = code


def shown(text: str) -> str:
    """A name from outside, quoted for a sentence: escaped where it is not ASCII, at most 80 characters."""
    plain = ascii(text)[1:-1]
    return f"'{plain if len(plain) <= 80 else plain[:77] + '...'}'"


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Replace the secrets in `text`: for logs, tracebacks and messages."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    return text


def short(text: str) -> str:
    """The last part of an absolute path; any other text unchanged."""
    return PurePath(text).name if text.startswith("/") else text


def without_paths(text: str) -> str:
    """Shorten absolute paths in `text` to their last parts, and the home folder to ~: folders are private."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"(?<![\w/]){re.escape(home)}(?![/\w-])", "~", text)
    text = _QUOTED.sub(lambda found: f"{found[1]}{short(found[2])}{found[1]}", text)
    return _PATH.sub(lambda found: short(found[0]), text)
