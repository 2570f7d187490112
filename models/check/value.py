"""What a header says under one key, and whether it is of the kind and size it should be."""

from dataclasses import dataclass
from typing import Any


class BadFile(ValueError):
    """Not a GGUF this app can use; the message says why."""


@dataclass(frozen=True)
class Fact:
    """The value of a key and its kind: u32, text and so on, or `list of u32`.

    A list has its length instead of a value, and is described.
    """

    kind: str
    value: Any
    described: str = ""


def check_kind(fact: Fact, key: str, kind: str) -> None:
    """BadFile for a value of another type than that key has."""
    if fact.kind != kind:
        raise BadFile(f"its {key} is of type {fact.kind} where {kind} belongs")


def number(facts: dict[str, Fact], key: str, least: int, most: int, default: int | None = None) -> int:
    """A whole number within bounds. BadFile if it is none, or missing without a default."""
    fact = facts.get(key)
    if fact is None:
        if default is None:
            raise BadFile(f"its header does not say {key}")
        return default
    check_kind(fact, key, "u32")
    if not least <= fact.value <= most:
        raise BadFile(f"its {key} is {fact.value:,}, which is not between {least:,} and {most:,}")
    return int(fact.value)


def shown(name: bytes) -> str:
    """Bytes of a file as text, whatever they are."""
    return name.decode("utf-8", "replace")
