"""What people say of the same answers, without knowing whose they are: agreement with the judge, and its correction."""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from backend.evaluation.contrasts import ScoreTable, values
from backend.evaluation.records import Answer, Question, Rating
from backend.judge.rubric import Rubric, rubrics
from backend.stats.agreement import Agreement, agreement, corrected, spearman
from backend.stats.paired import Estimate

SCALE = "lab"
"""The rubric that people use, for every judge."""
FEWEST, MOST = 10, 50
"""Ratings from which on the agreement is shown, and the most rows that a person is asked to rate."""
ENOUGH = 30
"""Rated answers of a variant from which its mean is corrected by them."""


class HumanAgreement(BaseModel):
    """`agreement` where judge and people use one scale; `rank` is Spearman's correlation, which needs none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rated: int
    agreement: Agreement | None = None
    rank: float | None = None
    means: dict[str, Estimate] = Field(default_factory=dict)
    """A variant's mean, the judge's moved by how far people were from it; only where there are enough ratings."""
    missing: dict[str, int] = Field(default_factory=dict)
    """How many ratings a variant still needs for that."""


class RatingTask(NamedTuple):
    """An answer to be rated: whose it is, is not told to who rates it."""

    question: Question
    answer: Answer
    done: int
    wanted: int


def human_agreement(table: ScoreTable, ratings: Mapping[tuple[str, str], Rating]) -> HumanAgreement:
    """Of answers that both have scored."""
    scale, same = rubrics()[SCALE], table.rubric.id == SCALE
    both: dict[str, list[tuple[float, float]]] = {name: [] for name in table.variants}
    for (row, name), rating in ratings.items():
        got = values(table, row, name) if name in both else None
        if got is not None and set(rating.values) == {criterion.name for criterion in scale.criteria}:
            both[name].append((scale.primary_of(rating.values), table.rubric.primary_of(got)))
    pairs = [pair for several in both.values() for pair in several]
    human, judge = [one for one, _ in pairs], [one for _, one in pairs]
    return HumanAgreement(
        rated=len(ratings),
        agreement=agreement(human, judge) if same and pairs else None,
        rank=spearman(human, judge),
        means={name: _mean(table, name, found) for name, found in both.items() if same and len(found) >= ENOUGH},
        missing={name: ENOUGH - len(found) for name, found in both.items() if len(found) < ENOUGH},
    )


def _mean(table: ScoreTable, name: str, both: Sequence[tuple[float, float]]) -> Estimate:
    rubric: Rubric = table.rubric
    every = [rubric.primary_of(got) for row in table.rows if (got := values(table, row, name)) is not None]
    return corrected(every, [one for one, _ in both], [one for _, one in both])


def next_task(
    questions: Sequence[Question],
    answers: Mapping[tuple[str, str], Answer],
    ratings: Mapping[tuple[str, str], Rating],
    variants: Sequence[str],
    seed: str,
) -> RatingTask | None:
    """The next answer to rate: rows in an order of chance that stays the same, and within a row the variants too. None
    when all that is worth rating is rated, or nothing is there."""
    chance = random.Random(seed)
    rows = chance.sample(list(questions), len(questions))[:MOST]
    order = [(row, name) for row in rows for name in chance.sample(list(variants), len(variants))]
    there = [(row, answers[row.id, name]) for row, name in order if _rateable(answers.get((row.id, name)))]
    left = [(row, answer) for row, answer in there if (row.id, answer.variant) not in ratings]
    return RatingTask(*left[0], len(there) - len(left), len(there)) if left else None


def _rateable(answer: Answer | None) -> bool:
    return answer is not None and not answer.error
