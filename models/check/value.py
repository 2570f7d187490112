"""A value of a header, with checks of its type and its bounds."""

from dataclasses import dataclass
from typing import Any


class BadFile(ValueError):
    """The file is not a GGUF that this app can use. The message is the reason, in a clause that begins with "it"."""


@dataclass(frozen=True)
class Fact:
    """The value of a key and its type, such as "u32", "text" or "list of u32".

    For a list, `value` is its length, and `described` is a description of the items.
    """

    kind: str
    value: Any
    described: str = ""


def check_kind(fact: Fact, key: str, kind: str) -> None:
    """Raise BadFile if the value has another type."""
    if fact.kind != kind:
        raise BadFile(f"its {key} is of type {fact.kind} instead of {kind}")


def number(facts: dict[str, Fact], key: str, least: int, most: int, default: int | None = None) -> int:
    """Return the whole number of a key. Raises BadFile if it is out of bounds, or missing without a default."""
    fact = facts.get(key)
    if fact is None:
        if default is None:
            raise BadFile(f"its header does not have {key}")
        return default
    check_kind(fact, key, "u32")
    if not least <= fact.value <= most:
        raise BadFile(f"its {key} is {fact.value:,}, which is not between {least:,} and {most:,}")
    return int(fact.value)


def decoded(name: bytes) -> str:
    """Decode bytes of a file as text. Invalid bytes are replaced."""
    return name.decode("utf-8", "replace")
