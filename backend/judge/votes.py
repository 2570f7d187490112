"""Votes on which of several answers is better, and the file with them."""

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
"""The file in the runs folder with the votes of people and of models."""


class Candidate(BaseModel):
    """A variant with its conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    messages: list[Message]
    generation: Generation | None = None
    """How its last answer was generated; None if that failed."""


class Vote(BaseModel):
    """Which of several answers is better. `winner` is the index of a candidate, in the order of display."""

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
    """How often a variant won and lost."""

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
    """Append a vote to the file. Raises OSError, for example for a full disk; then the file is unchanged."""
    jsonl.append(path, judgement.model_dump(mode="json"))


def read_votes(path: Path) -> list[Vote]:
    """All valid votes of the file."""
    votes = []
    for record in jsonl.read(path):
        try:
            votes.append(Vote.model_validate(record))
        except ValueError:
            continue
    return votes


def wins(judgements: Iterable[Vote], judge: str = YOU) -> list[WinRecord]:
    """Count the votes of one judge per variant, most wins first.

    A comparison of a variant with itself is left out. A variant that occurs twice in a comparison counts once, by the
    better of its answers.
    """
    counts: dict[str, dict[str, int]] = {}
    for judgement in judgements:
        names = [candidate.variant for candidate in judgement.candidates]
        if len(set(names)) < 2 or judgement.judge != judge:
            continue
        for name in set(names):
            count = counts.setdefault(name, {"won": 0, "lost": 0, "tied": 0, "bad": 0})
            count[_outcome(judgement, name)] += 1
    records = [WinRecord(variant=name, **count) for name, count in counts.items()]
    return sorted(records, key=lambda record: (-record.won, record.lost, record.variant))


def agreement_with_you(judgements: Iterable[Vote]) -> dict[str, tuple[int, int]]:
    """Judge -> (pairs of answers on which it agrees with you, pairs that both of you judged)."""
    votes = list(judgements)
    yours = {pair: better for vote in votes if vote.judge == YOU for pair, better in _pairs(vote)}
    agreement: dict[str, tuple[int, int]] = {}
    for vote in votes:
        for pair, better in _pairs(vote) if vote.judge != YOU else ():
            if pair in yours:
                same, both = agreement.get(vote.judge, (0, 0))
                agreement[vote.judge] = same + (better == yours[pair]), both + 1
    return agreement


def _pairs(vote: Vote) -> Iterator[tuple[frozenset[str], str]]:
    """Pairs of different answers, each with the better one (empty for a tie), as far as the vote compares them."""
    texts = ["\0".join(message["content"] for message in candidate.messages) for candidate in vote.candidates]
    for a, b in combinations(range(len(texts)), 2):
        if texts[a] == texts[b] or vote.verdict == "all bad":
            continue
        if vote.winner is None or vote.winner in (a, b):
            yield frozenset((texts[a], texts[b])), "" if vote.winner is None else texts[vote.winner]


def _outcome(judgement: Vote, name: str) -> str:
    if judgement.winner is None:
        return "tied" if judgement.verdict == "tie" else "bad"
    return "won" if judgement.candidates[judgement.winner].variant == name else "lost"
