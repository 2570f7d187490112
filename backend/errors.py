"""The one error a person sees, how a stranger's name is put into it, and what to hide from the other kind."""


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
