"""Correlation, agreement of two judges, and a judge's mean corrected by human ratings."""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from backend.stats.paired import LEVEL, SAME, Estimate, estimate, t_quantile


class Agreement(BaseModel):
    """Agreement of two judges over the same `n` answers. All numbers are None if `n` is 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    exact: float | None = None
    within_one: float | None = None
    kappa: float | None = None
    """Quadratic-weighted Cohen's kappa; None if both judges scored every answer with the same value."""


def pearson(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's correlation; None for fewer than two pairs or a constant series.

    Raises ValueError if the lengths differ.
    """
    n = len(xs)
    if n != len(ys):
        raise ValueError(f"both series must have the same length, got {n} and {len(ys)}")
    if n < 2 or not estimate(xs).sd or not estimate(ys).sd:
        return None
    mean_x, mean_y = math.fsum(xs) / n, math.fsum(ys) / n
    dx, dy = [x - mean_x for x in xs], [y - mean_y for y in ys]
    products = math.fsum(x * y for x, y in zip(dx, dy, strict=True))
    spread = math.sqrt(math.fsum(x * x for x in dx)) * math.sqrt(math.fsum(y * y for y in dy))
    return max(-1.0, min(1.0, products / spread)) if spread else None


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Spearman's correlation: Pearson's correlation of the ranks. Tied values get the mean of their ranks."""
    return pearson(_ranks(xs), _ranks(ys))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    first: dict[float, int] = {}
    count: dict[float, int] = {}
    for rank, value in enumerate(order, 1):
        first.setdefault(value, rank)
        count[value] = count.get(value, 0) + 1
    return [first[value] + (count[value] - 1) / 2 for value in values]


def agreement(first: Sequence[float], second: Sequence[float]) -> Agreement:
    """Compare the scores of two judges for the same answers. Raises ValueError if the lengths differ.

    Kappa is 1 - (mean squared difference of the pairs) / (mean squared difference of all combinations). It needs no
    list of categories, so means of several judgements are valid input, too.
    """
    gaps = [abs(a - b) for a, b in zip(first, second, strict=True)]
    n = len(gaps)
    if not n:
        return Agreement(n=0)
    mean_first, mean_second = math.fsum(first) / n, math.fsum(second) / n
    spread = math.fsum((a - mean_first) ** 2 for a in first) + math.fsum((b - mean_second) ** 2 for b in second)
    chance = spread / n + (mean_first - mean_second) ** 2
    return Agreement(
        n=n,
        exact=sum(gap <= SAME for gap in gaps) / n,
        within_one=sum(gap <= 1 + SAME for gap in gaps) / n,
        kappa=1 - math.fsum(gap * gap for gap in gaps) / n / chance if chance > SAME**2 else None,
    )


def corrected(judge: Sequence[float], human: Sequence[float], same: Sequence[float]) -> Estimate:
    """The judge's mean over all rows, corrected by human ratings of some rows (prediction-powered inference).

    `judge` has the judge's scores of all N rows; `human` and `same` have the human's and the judge's scores of the n
    rated rows. The mean is mean(judge) + mean(human - same). Its variance is var(judge) / N + var(human - same) / n,
    as if the rated rows were not among the N. The interval uses t with n - 1 degrees of freedom. `n` and `clusters` of
    the result count the rated rows; `p` is None. Angelopoulos et al., Prediction-powered inference, 2023.
    """
    scores, gaps = estimate(judge), estimate([a - b for a, b in zip(human, same, strict=True)])
    if scores.mean is None or gaps.mean is None:
        return Estimate(n=gaps.n, clusters=gaps.n, why="no answer was scored by both")
    mean = scores.mean + gaps.mean
    if scores.sd is None or gaps.sd is None:
        return Estimate(n=gaps.n, clusters=gaps.n, mean=mean, why="only one value")
    se = math.sqrt(scores.sd**2 / scores.n + gaps.sd**2 / gaps.n)
    if not se:
        return Estimate(n=gaps.n, clusters=gaps.n, mean=mean, se=0.0, why="all values are equal")
    half = se * t_quantile((1 + LEVEL) / 2, gaps.n - 1)
    return Estimate(n=gaps.n, clusters=gaps.n, mean=mean, se=se, low=mean - half, high=mean + half)
