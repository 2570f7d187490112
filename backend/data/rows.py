"""Records, rows and dropped rows of a dataset; the checksum of the splits; duplicates, and overlap of the splits."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from backend.core.messages import Message
from backend.data.dataset import DatasetSpec


@dataclass(frozen=True)
class Record:
    """One record of the source, not yet checked."""

    index: int
    """The number of the record in the source, from 0."""
    line: int
    """Where a person finds it: the line of a text file, else the number of the record from 1."""
    value: Any = None
    error: str = ""
    """Why the record could not be parsed; empty if it was."""
    text: str = ""
    """What is there instead, shortened."""


@dataclass(frozen=True)
class Row:
    """A checked conversation: an optional system message, then user and assistant in turn."""

    index: int
    """The number of the record in the source, from 0."""
    line: int
    """Where a person finds it: the line of a text file, else the number of the record from 1."""
    messages: tuple[Message, ...]
    masked: frozenset[int] = frozenset()
    """Places of the answers that are not to be learned, such as those of weight 0."""

    @property
    def answers(self) -> list[int]:
        """Places of the messages of the assistant."""
        return [place for place, message in enumerate(self.messages) if message["role"] == "assistant"]


@dataclass(frozen=True)
class Dropped:
    """A row of a split that is not used, with the reason."""

    line: int
    why: str
    text: str = ""
    """What is there, shortened, if the row could not be parsed."""


@dataclass(frozen=True)
class LoadedData:
    """A loaded dataset: the training split, the eval split and the dropped rows of both."""

    spec: DatasetSpec
    """The specification, with the numbers of the rows that were chosen."""
    train: list[Row]
    eval_rows: list[Row]
    dropped: list[Dropped]
    columns: tuple[str, ...]
    notes: tuple[str, ...]
    """Sentences on what was assumed and what is not used: the format, the split, columns and keys."""
    shape: str
    sha256: str
    """Of the rows of both splits in their order. A resumed run compares it to detect a changed dataset."""
    commit: str
    """Commit of the dataset on the Hub; empty for other sources."""


def sha256(train: Iterable[Row], eval_rows: Iterable[Row]) -> str:
    """Hash the messages of both splits. A row that moves to the other split changes the hash, too."""
    digest = hashlib.sha256()
    for split in (train, eval_rows):
        for row in split:
            messages: list[Any] = [
                [message["role"], message["content"], *message.get("tool_calls", ())] for message in row.messages
            ]
            digest.update(json.dumps(messages + [sorted(row.masked)] * bool(row.masked)).encode() + b"\n")
        digest.update(b"\n")
    return digest.hexdigest()


def count_duplicates(rows: Iterable[Row]) -> int:
    """Count the rows that are equal to an earlier row, apart from white space and upper or lower case."""
    conversations = [
        tuple((message["role"], _normalised(message["content"])) for message in row.messages) for row in rows
    ]
    return len(conversations) - len(set(conversations))


def overlap(train: Iterable[Row], eval_rows: Iterable[Row]) -> list[tuple[Row, Row]]:
    """List each eval row whose first question is in the training split, as (first such training row, eval row)."""
    trained: dict[str, Row] = {}
    for row in train:
        trained.setdefault(_question(row), row)
    return [(trained[_question(row)], row) for row in eval_rows if _question(row) in trained]


def _question(row: Row) -> str:
    return _normalised(next(message["content"] for message in row.messages if message["role"] == "user"))


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split())
