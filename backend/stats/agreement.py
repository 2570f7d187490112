"""How two series of numbers go together: correlation, agreement of judges, and a judge corrected by a person."""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from backend.stats.distribution import t_quantile
from backend.stats.paired import LEVEL, SAME, Estimate, estimate


class Agreement(BaseModel):
    """Of two judges over the same answers. Shares are None for no answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    exact: float | None = None
    within_one: float | None = None
    kappa: float | None = None
    """Quadratic-weighted; None where both gave one and the same value to everything."""


def pearson(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """The correlation of two series of one length; None for fewer than two pairs or a series without spread."""
    n = len(xs)
    if n != len(ys):
        raise ValueError(f"{n} values cannot be paired with {len(ys)}")
    if n < 2 or not estimate(xs).sd or not estimate(ys).sd:
        return None
    mean_x, mean_y = math.fsum(xs) / n, math.fsum(ys) / n
    off_x, off_y = [x - mean_x for x in xs], [y - mean_y for y in ys]
    both = math.fsum(x * y for x, y in zip(off_x, off_y, strict=True))
    spread = math.sqrt(math.fsum(x * x for x in off_x)) * math.sqrt(math.fsum(y * y for y in off_y))
    return max(-1.0, min(1.0, both / spread)) if spread else None


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's correlation of the ranks; those that tie share the middle of their ranks."""
    return pearson(_ranks(xs), _ranks(ys))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    first: dict[float, int] = {}
    count: dict[float, int] = {}
    for place, value in enumerate(order, 1):
        first.setdefault(value, place)
        count[value] = count.get(value, 0) + 1
    return [first[value] + (count[value] - 1) / 2 for value in values]


def agreement(one: Sequence[float], other: Sequence[float]) -> Agreement:
    """How often two judges say the same, and how often within one point. ValueError if the two differ in length.

    The kappa is 1 minus the mean squared distance of the pairs over that of all crossings of the two, so it needs no
    list of categories and takes means of several judgements, too.
    """
    off = [abs(a - b) for a, b in zip(one, other, strict=True)]
    n = len(off)
    if not n:
        return Agreement(n=0)
    mean_one, mean_other = math.fsum(one) / n, math.fsum(other) / n
    spread = math.fsum((a - mean_one) ** 2 for a in one) + math.fsum((b - mean_other) ** 2 for b in other)
    chance = spread / n + (mean_one - mean_other) ** 2
    return Agreement(
        n=n,
        exact=sum(value <= SAME for value in off) / n,
        within_one=sum(value <= 1 + SAME for value in off) / n,
        kappa=1 - math.fsum(value * value for value in off) / n / chance if chance > SAME**2 else None,
    )


def corrected(judge: Sequence[float], human: Sequence[float], same: Sequence[float]) -> Estimate:
    """A judge's mean over all rows, moved by how far a person was from it where both judged (prediction-powered).

    `judge`: its values of all N rows; `human` and `same`: a person's and the judge's of the labelled ones. The mean
    is mean(judge) + mean(human - same), its variance var(judge) / N + var(human - same) / n: as if the labelled rows
    were others than the N. The interval is by t with n - 1 degrees of freedom. `n` and `clusters` of what comes back
    are the labelled rows, `p` is None. Angelopoulos et al., Prediction-powered inference, 2023.
    """
    whole, off = estimate(judge), estimate([a - b for a, b in zip(human, same, strict=True)])
    if whole.mean is None or off.mean is None:
        return Estimate(n=off.n, clusters=off.n, why="nothing was judged by both")
    mean = whole.mean + off.mean
    if whole.sd is None or off.sd is None:
        return Estimate(n=off.n, clusters=off.n, mean=mean, why="one value alone")
    se = math.sqrt(whole.sd**2 / whole.n + off.sd**2 / off.n)
    if not se:
        return Estimate(n=off.n, clusters=off.n, mean=mean, se=0.0, why="nothing varies")
    half = se * t_quantile((1 + LEVEL) / 2, off.n - 1)
    return Estimate(n=off.n, clusters=off.n, mean=mean, se=se, low=mean - half, high=mean + half)
