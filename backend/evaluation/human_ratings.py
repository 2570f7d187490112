"""Blind human ratings: agreement with the judge, and means of the judge corrected by the ratings."""

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
"""The rubric of human ratings, whatever the judge's rubric is."""
FEWEST, MOST = 10, 50
"""Number of ratings that an agreement needs, and the most rows that a person rates."""
ENOUGH = 30
"""Number of rated answers of a variant that a correction of its mean needs."""


class HumanAgreement(BaseModel):
    """Agreement of ratings and judge. `agreement` is None if the scales differ; `rank` is Spearman's correlation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rated: int
    agreement: Agreement | None = None
    rank: float | None = None
    means: dict[str, Estimate] = Field(default_factory=dict)
    """Variant -> the judge's mean, corrected by the ratings. Only variants with enough ratings."""
    missing: dict[str, int] = Field(default_factory=dict)
    """Variant -> number of ratings that are missing for a correction."""


class RatingTask(NamedTuple):
    """An answer to rate. The page does not show the variant. `done` of `wanted` answers are rated."""

    question: Question
    answer: Answer
    done: int
    wanted: int


def human_agreement(table: ScoreTable, ratings: Mapping[tuple[str, str], Rating]) -> HumanAgreement:
    """Compare ratings and judge on the answers that have both."""
    scale, same = rubrics()[SCALE], table.rubric.id == SCALE
    rated: dict[str, list[tuple[float, float]]] = {name: [] for name in table.variants}
    for (row, name), rating in ratings.items():
        points = values(table, row, name) if name in rated else None
        if points is not None and set(rating.values) == {criterion.name for criterion in scale.criteria}:
            rated[name].append((scale.primary_of(rating.values), table.rubric.primary_of(points)))
    pairs = [pair for of_variant in rated.values() for pair in of_variant]
    human, judge = [score for score, _ in pairs], [score for _, score in pairs]
    return HumanAgreement(
        rated=len(ratings),
        agreement=agreement(human, judge) if same and pairs else None,
        rank=spearman(human, judge),
        means={name: _mean(table, name, pairs) for name, pairs in rated.items() if same and len(pairs) >= ENOUGH},
        missing={name: ENOUGH - len(pairs) for name, pairs in rated.items() if len(pairs) < ENOUGH},
    )


def _mean(table: ScoreTable, name: str, pairs: Sequence[tuple[float, float]]) -> Estimate:
    """The mean of the judge's scores, corrected by `pairs` of (human score, judge's score)."""
    rubric: Rubric = table.rubric
    every = [rubric.primary_of(points) for row in table.rows if (points := values(table, row, name)) is not None]
    return corrected(every, [human for human, _ in pairs], [judge for _, judge in pairs])


def next_task(
    questions: Sequence[Question],
    answers: Mapping[tuple[str, str], Answer],
    ratings: Mapping[tuple[str, str], Rating],
    variants: Sequence[str],
    seed: str,
) -> RatingTask | None:
    """The next answer to rate; None if all are rated. Rows, and the variants of each row, are in a random order that
    `seed` fixes."""
    rng = random.Random(seed)
    rows = rng.sample(list(questions), len(questions))[:MOST]
    order = [(row, name) for row in rows for name in rng.sample(list(variants), len(variants))]
    there = [(row, answers[row.id, name]) for row, name in order if _rateable(answers.get((row.id, name)))]
    left = [(row, answer) for row, answer in there if (row.id, answer.variant) not in ratings]
    return RatingTask(*left[0], len(there) - len(left), len(there)) if left else None


def _rateable(answer: Answer | None) -> bool:
    return answer is not None and not answer.error
