"""The one error a person sees, how a name from outside is put into it, and what to hide in texts."""

import re
from pathlib import Path, PurePath

_QUOTED = re.compile(r"""(['"])(/[^'"\n]*)\1""")
_PATH = re.compile(r"""(?<![\w/:.~])/(?:[^/\s'"`<>|()]+/)+[^/\s'"`<>|()]*""")


class LabError(Exception):
    """Shown to the user as it is: what happened, why, what to do. Anything else is a bug of ours."""


def shown(text: str) -> str:
    """A name from outside as it can be put into a sentence: nothing invisible, not too long."""
    plain = ascii(text)[1:-1]
    return f"'{plain if len(plain) <= 80 else plain[:77] + '...'}'"


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """`text` without the secrets: for logs, tracebacks and messages."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    return text


def short(text: str) -> str:
    """An absolute path by its last part; any other text as it is."""
    return PurePath(text).name if text.startswith("/") else text


def without_paths(text: str) -> str:
    """`text` with absolute paths by their last parts, and the home folder as ~: folders of this machine are private."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"(?<![\w/]){re.escape(home)}(?![/\w-])", "~", text)
    text = _QUOTED.sub(lambda found: f"{found[1]}{short(found[2])}{found[1]}", text)
    return _PATH.sub(lambda found: short(found[0]), text)
