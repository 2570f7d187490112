"""What the folder of an evaluation holds, beside what every run holds.

rows.jsonl       Question: what was asked       written once, whole
answers.jsonl    Answer: what was answered      appended; the last of a row and variant holds
judge.json       JudgedBy: who judges           written once
scores.jsonl     Score: what was said of it     appended, failures too; the newest good one of a key holds
picks.jsonl      Picked: winners                appended
check.json       Report: the judge check
replies.jsonl    what an address answered, word for word
ratings.jsonl    Rating: what people said       appended by the page
variants.json    the variants as they were when they answered
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from backend.core import jsonl
from backend.core.files import read_whole
from backend.core.messages import Message
from backend.inference.sampling import End, Generation
from backend.jobs.events import Count, Number, Seconds
from backend.judge.pairwise import PairwiseVote
from backend.judge.score import Identity, Item, Score
from backend.remote.capabilities import Capabilities

ROWS, ANSWERS, JUDGE, SCORES = "rows.jsonl", "answers.jsonl", "judge.json", "scores.jsonl"
PICKS, CHECK, REPLIES, RATINGS, VARIANTS = (
    "picks.jsonl", "check.json", "replies.jsonl", "ratings.jsonl", "variants.json",
)  # fmt: skip
LARGEST = 256 << 20  # bytes of a record that is a file of its own
Record = TypeVar("Record", bound=BaseModel)


class Question(BaseModel):
    """A row. Those of one `cluster` ask the same thing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    cluster: str
    messages: list[Message] = Field(min_length=1)
    reference: str | None = None
    leaked: bool = False
    """The same question is among the rows that were trained on."""


class Answer(BaseModel):
    """What a variant said to a row, or why it said nothing. Tokens and seconds as its worker counted them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    variant: str
    text: str = ""
    end: End = "stop"
    error: str = ""
    tokens: Count = 0
    seconds: Number = 0.0
    generation: Generation | None = None
    score: Number | None = None
    """Of an answer that was brought: the score that came with it."""
    explanation: str = ""
    at: Seconds = Field(default_factory=time.time)

    @property
    def cut(self) -> bool:
        """Whether it was stopped at a limit."""
        return self.end in ("length", "context")


class JudgeRecord(BaseModel):
    """Who judges, found out once. `notes`: what to know of that judge, a sentence each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: Identity
    agreed: Capabilities | None = None
    notes: tuple[str, ...] = ()


class VoteRecord(BaseModel):
    """Which of two answers to a row is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    first: str
    second: str
    pick: PairwiseVote


class Rating(BaseModel):
    """What a person said of an answer without knowing whose it is. `values` by criterion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    variant: str
    values: dict[str, Number]
    at: Seconds = Field(default_factory=time.time)


def cluster(messages: list[Message]) -> str:
    """Equal for conversations that say the same, but for blanks and case."""
    said = "\0".join(f"{message['role']} {' '.join(message['content'].casefold().split())}" for message in messages)
    return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:12]


def item(question: Question, answer: Answer, shown: bool = True) -> Item:
    """What a judge is given. `shown`: whether with the reference."""
    reference = question.reference if shown else None
    return Item(messages=question.messages, reference=reference, answer=answer.text, cut=answer.cut)


def questions(folder: Path) -> list[Question]:
    """In their order; none before they are all known."""
    return list(_records(folder / ROWS, Question))


def answers(folder: Path) -> dict[tuple[str, str], Answer]:
    """By row and variant; one without an error is never replaced by one with."""
    newest: dict[tuple[str, str], Answer] = {}
    for one in _records(folder / ANSWERS, Answer):
        key = (one.row, one.variant)
        if not one.error or key not in newest or newest[key].error:
            newest[key] = one
    return newest


def scores(folder: Path) -> dict[str, list[Score]]:
    """By key, oldest first."""
    by_key: dict[str, list[Score]] = {}
    for one in _records(folder / SCORES, Score):
        by_key.setdefault(one.key, []).append(one)
    return by_key


def best(scores: list[Score]) -> Score:
    """The newest good one, else the newest."""
    return next((score for score in reversed(scores) if score.status == "ok"), scores[-1])


def picks(folder: Path) -> dict[tuple[str, str, str], VoteRecord]:
    """By row and the two variants; one with a verdict is not replaced by one without."""
    newest: dict[tuple[str, str, str], VoteRecord] = {}
    for one in _records(folder / PICKS, VoteRecord):
        key = (one.row, one.first, one.second)
        if one.pick.better is not None or key not in newest or newest[key].pick.better is None:
            newest[key] = one
    return newest


def tries(folder: Path) -> Counter[tuple[str, str, str]]:
    """How often a winner was asked for, by row and the two variants."""
    return Counter((one.row, one.first, one.second) for one in _records(folder / PICKS, VoteRecord))


def ratings(folder: Path) -> dict[tuple[str, str], Rating]:
    """By row and variant, the last of each."""
    return {(one.row, one.variant): one for one in _records(folder / RATINGS, Rating)}


def read_one(path: Path, kind: type[Record]) -> Record | None:
    """A record that is a file of its own; None where there is none or it is damaged. OSError if it is no regular file,
    or cannot be opened."""
    try:
        return kind.model_validate_json(read_whole(path, LARGEST))
    except (FileNotFoundError, ValueError):
        return None


def _records(path: Path, kind: type[Record]) -> Iterator[Record]:
    for record in jsonl.read(path):
        try:
            yield kind.model_validate(record)
        except ValueError:
            continue
