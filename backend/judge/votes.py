"""A judgement, and the file they are kept in."""

import time
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backend.core import jsonl
from backend.core.messages import Message
from backend.inference.sampling import Generation, Sampling

Verdict = Literal["winner", "tie", "all bad"]
YOU = "you"
FILE = "judgements.jsonl"
"""Below the runs: votes of people and of models."""


class Candidate(BaseModel):
    """One contestant: a variant and all it said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    messages: list[Message]
    generation: Generation | None = None
    """How its last answer came about; None when it failed."""


class Vote(BaseModel):
    """Which of several answers is better. `winner` counts from 0, in the order they were shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str = YOU
    time: float = Field(default_factory=time.time)
    blind: bool
    candidates: list[Candidate] = Field(min_length=2)
    verdict: Verdict
    winner: int | None = None
    reason: str = ""
    sampling: Sampling

    @model_validator(mode="after")
    def _names_its_winner(self) -> Self:
        named = self.winner is not None and 0 <= self.winner < len(self.candidates)
        if named != (self.verdict == "winner") or (self.winner is not None and not named):
            raise ValueError("a winner is one of the candidates, and only a verdict of winner has one")
        return self


class WinRecord(BaseModel):
    """What a variant won and lost."""

    model_config = ConfigDict(frozen=True)

    variant: str
    won: int = 0
    lost: int = 0
    tied: int = 0
    bad: int = 0

    @property
    def votes(self) -> int:
        return self.won + self.lost + self.tied + self.bad


def append_vote(path: Path, judgement: Vote) -> None:
    """Append it; OSError (a full disk) leaves the file as it was."""
    jsonl.append(path, judgement.model_dump(mode="json"))


def read_votes(path: Path) -> list[Vote]:
    """Every judgement of the file that can be read."""
    found = []
    for record in jsonl.read(path):
        try:
            found.append(Vote.model_validate(record))
        except ValueError:
            continue
    return found


def wins(judgements: Iterable[Vote], judge: str = YOU) -> list[WinRecord]:
    """What one judge says: a record per variant, most wins first. A variant against itself tells nothing about it and
    is left out.

    A variant that stood there twice beside another one is counted once, by the better of its two answers.
    """
    counts: dict[str, dict[str, int]] = {}
    for judgement in judgements:
        names = [candidate.variant for candidate in judgement.candidates]
        if len(set(names)) < 2 or judgement.judge != judge:
            continue
        for name in set(names):
            mine = counts.setdefault(name, {"won": 0, "lost": 0, "tied": 0, "bad": 0})
            mine[_outcome(judgement, name)] += 1
    records = [WinRecord(variant=name, **count) for name, count in counts.items()]
    return sorted(records, key=lambda record: (-record.won, record.lost, record.variant))


def with_you(judgements: Iterable[Vote]) -> dict[str, tuple[int, int]]:
    """For each other judge: on how many pairs of answers it says what you said, and on how many both have spoken."""
    every = list(judgements)
    yours = {pair: better for one in every if one.judge == YOU for pair, better in _pairs(one)}
    found: dict[str, tuple[int, int]] = {}
    for one in every:
        for pair, better in _pairs(one) if one.judge != YOU else ():
            if pair in yours:
                same, both = found.get(one.judge, (0, 0))
                found[one.judge] = same + (better == yours[pair]), both + 1
    return found


def _pairs(one: Vote) -> Iterator[tuple[frozenset[str], str]]:
    """Two answers to the same question and the better one, empty for a tie, as far as the judgement tells."""
    said = ["\0".join(message["content"] for message in candidate.messages) for candidate in one.candidates]
    for a, b in combinations(range(len(said)), 2):
        if said[a] == said[b] or one.verdict == "all bad":
            continue
        if one.winner is None or one.winner in (a, b):
            yield frozenset((said[a], said[b])), "" if one.winner is None else said[one.winner]


def _outcome(judgement: Vote, name: str) -> str:
    if judgement.winner is None:
        return "tied" if judgement.verdict == "tie" else "bad"
    return "won" if judgement.candidates[judgement.winner].variant == name else "lost"
