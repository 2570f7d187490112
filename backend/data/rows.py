"""What comes of reading: the rows that can be trained on, those held out, and those that were dropped."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from backend.core.messages import Message


@dataclass(frozen=True)
class Record:
    """A row as its source has it, before anybody has looked at it."""

    index: int
    line: int
    value: Any = None
    wrong: str = ""
    """Why it could not even be read; empty when it was."""


@dataclass(frozen=True)
class Row:
    """A conversation one can train on: an optional system message, then user and assistant in turn."""

    index: int
    """Its number in the source, from 0."""
    line: int
    """Where a person would look: the line of a text file, else the number of the record from 1."""
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Dropped:
    """A row that was asked for and is not used."""

    line: int
    why: str


@dataclass(frozen=True)
class LoadedData:
    """Everything a spec asks for."""

    train: list[Row]
    held: list[Row]
    dropped: list[Dropped]
    columns: tuple[str, ...]
    shape: str
    sha256: str
    """Of the kept rows in their order: how a run that goes on knows whether its data has changed."""
    commit: str
    """Of the Hub's revision; empty for other sources."""


def sha256(train: Iterable[Row], held: Iterable[Row]) -> str:
    """A row that moves from one part to the other changes it, too."""
    digest = hashlib.sha256()
    for part in (train, held):
        for row in part:
            digest.update(json.dumps([[m["role"], m["content"]] for m in row.messages]).encode() + b"\n")
        digest.update(b"\n")
    return digest.hexdigest()


def count_duplicates(rows: Iterable[Row]) -> int:
    """How many rows say what an earlier one says, but for blanks and case."""
    every = [tuple((message["role"], _plain(message["content"])) for message in row.messages) for row in rows]
    return len(every) - len(set(every))


def overlap(train: Iterable[Row], held: Iterable[Row]) -> list[tuple[Row, Row]]:
    """Every held-out row whose first question is trained on, after the first row that asks it."""
    asked: dict[str, Row] = {}
    for row in train:
        asked.setdefault(_question(row), row)
    return [(asked[_question(row)], row) for row in held if _question(row) in asked]


def _question(row: Row) -> str:
    return _plain(next(message["content"] for message in row.messages if message["role"] == "user"))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
