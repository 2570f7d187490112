"""The one error a person sees, and what to hide from the other kind."""


class LabError(Exception):
    """Shown to the user as it is: what happened, why, what to do. Anything else is a bug of ours."""


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """`text` without the secrets: for logs, tracebacks and messages."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    return text
