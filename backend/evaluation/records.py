"""The files of an evaluation's folder, beside those of every run.

rows.jsonl       Question: the rows                written once
answers.jsonl    Answer: the variants' answers     appended; the last line of a row and variant counts
judge.json       JudgeRecord: the judge            written once
scores.jsonl     Score: scores and failures        appended; the newest valid score of a key counts
picks.jsonl      VoteRecord: pairwise votes        appended
check.json       JudgeCheck: the check of the judge
replies.jsonl    replies of a remote judge, verbatim
ratings.jsonl    Rating: human ratings             appended by the page
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
LARGEST = 256 << 20  # bytes of a file with one record
Record = TypeVar("Record", bound=BaseModel)


class Question(BaseModel):
    """A row of the evaluation. Rows with the same `cluster` ask the same question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    cluster: str
    messages: list[Message] = Field(min_length=1)
    reference: str | None = None
    leaked: bool = False
    """The training split has the same question."""


class Answer(BaseModel):
    """The answer of a variant to a row, or the `error` why there is none. Its worker counted tokens and seconds."""

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
    """The score of an imported answer, if the file has scores."""
    explanation: str = ""
    at: Seconds = Field(default_factory=time.time)

    @property
    def cut(self) -> bool:
        """Whether the answer was stopped at a token limit."""
        return self.end in ("length", "context")


class JudgeRecord(BaseModel):
    """The judge of an evaluation. `notes`: warnings about this judge, one sentence each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: Identity
    agreed: Capabilities | None = None
    notes: tuple[str, ...] = ()


class VoteRecord(BaseModel):
    """A pairwise vote: which of two answers to a row is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    first: str
    second: str
    pick: PairwiseVote


class Rating(BaseModel):
    """A blind human rating of an answer. `values`: criterion -> points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    variant: str
    values: dict[str, Number]
    at: Seconds = Field(default_factory=time.time)


def cluster(messages: list[Message]) -> str:
    """A digest that ignores case and white space: conversations with the same text have the same cluster."""
    text = "\0".join(f"{message['role']} {' '.join(message['content'].casefold().split())}" for message in messages)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def item(question: Question, answer: Answer, shown: bool = True) -> Item:
    """The input of a judge. `shown`: whether the judge sees the reference."""
    reference = question.reference if shown else None
    return Item(messages=question.messages, reference=reference, answer=answer.text, cut=answer.cut)


def questions(folder: Path) -> list[Question]:
    """The rows in their order. Empty before the worker has read the data."""
    return list(_records(folder / ROWS, Question))


def answers(folder: Path) -> dict[tuple[str, str], Answer]:
    """(row, variant) -> newest answer. An answer without error is not replaced by one with an error."""
    newest: dict[tuple[str, str], Answer] = {}
    for answer in _records(folder / ANSWERS, Answer):
        key = (answer.row, answer.variant)
        if not answer.error or key not in newest or newest[key].error:
            newest[key] = answer
    return newest


def scores(folder: Path) -> dict[str, list[Score]]:
    """Key -> all scores, oldest first."""
    by_key: dict[str, list[Score]] = {}
    for score in _records(folder / SCORES, Score):
        by_key.setdefault(score.key, []).append(score)
    return by_key


def best(scores: list[Score]) -> Score:
    """The newest valid score, or the newest failure if none is valid."""
    return next((score for score in reversed(scores) if score.status == "ok"), scores[-1])


def picks(folder: Path) -> dict[tuple[str, str, str], VoteRecord]:
    """(row, variant, variant) -> newest vote. A valid vote is not replaced by a failure."""
    newest: dict[tuple[str, str, str], VoteRecord] = {}
    for vote in _records(folder / PICKS, VoteRecord):
        key = (vote.row, vote.first, vote.second)
        if vote.pick.better is not None or key not in newest or newest[key].pick.better is None:
            newest[key] = vote
    return newest


def tries(folder: Path) -> Counter[tuple[str, str, str]]:
    """(row, variant, variant) -> number of votes, failures included."""
    return Counter((vote.row, vote.first, vote.second) for vote in _records(folder / PICKS, VoteRecord))


def ratings(folder: Path) -> dict[tuple[str, str], Rating]:
    """(row, variant) -> newest rating."""
    return {(rating.row, rating.variant): rating for rating in _records(folder / RATINGS, Rating)}


def read_one(path: Path, kind: type[Record]) -> Record | None:
    """The record of a file with one record; None if there is none or if it is damaged. Raises OSError if it cannot be
    opened or is not a regular file."""
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
