"""Means with confidence intervals, paired tests, Holm's correction, Wilson's interval and sample sizes.

The order of the rows does not change any digit of a result. Where the data do not allow a number, the result is None
with a reason, never NaN and never an exception. The t distribution comes from `scipy.special`, which is imported on
first use: the page starts without it.
"""

import importlib
import math
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

LEVEL = 0.95  # of confidence intervals
DRAWS = 9_999  # random sign vectors of a sign-flip test
SEED = 2026
EXACT = 12  # nonzero differences; up to this number all 2^n sign vectors are computed
SAME = 1e-9
"""Scores that differ by at most this are equal: the rest is rounding, as in 4 1/3 - 3 1/3 = 1."""
_POWER = 1.96 + 0.84  # normal quantiles for 95 % confidence and 80 % power
_SIGNS_IN_MEMORY = 2_000_000
_ROUNDING = 1e-12  # largest rounding error, relative to the largest value

Key = TypeVar("Key", bound=Hashable)


class Estimate(BaseModel):
    """A mean with its 95 % confidence interval `low` to `high`. `p` tests that the true mean is zero."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    clusters: int
    """Independent units: fewer than `n` if several rows have the same question."""
    mean: float | None = None
    sd: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    why: str = ""
    """The reason for a missing interval; empty if there is an interval."""


class Share(BaseModel):
    """The proportion `count` / `n` with Wilson's 95 % confidence interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    n: int
    share: float | None = None
    low: float | None = None
    high: float | None = None


def normal_quantile(p: float) -> float:
    """The quantile of the standard normal distribution. Raises ValueError unless 0 < p < 1."""
    _check_probability(p)
    return NormalDist().inv_cdf(p)


def t_p(t: float, df: float) -> float:
    """The two-sided p value of a t statistic with `df` degrees of freedom. Raises ValueError unless df > 0."""
    _check_df(df)
    return float(2 * importlib.import_module("scipy.special").stdtr(df, -abs(t)))


@lru_cache(maxsize=1024)
def t_quantile(p: float, df: float) -> float:
    """The quantile of Student's t distribution. Raises ValueError unless 0 < p < 1 and df > 0."""
    _check_df(df)
    _check_probability(p)
    return float(importlib.import_module("scipy.special").stdtrit(df, p))


def _check_df(df: float) -> None:
    if not (df > 0 and math.isfinite(df)):
        raise ValueError(f"degrees of freedom must be finite and greater than 0, got {df}")


def _check_probability(p: float) -> None:
    if not 0 < p < 1:
        raise ValueError(f"a probability must be between 0 and 1, got {p}")


def estimate(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Compute the mean of independent or clustered values, with a t interval and a t test.

    `clusters` has the cluster of each value. The standard error is then cluster-robust: residuals are summed per
    cluster, with the correction G / (G - 1) for G clusters and G - 1 degrees of freedom. With one value per cluster
    this is the usual standard error. Raises ValueError if the two sequences differ in length.
    """
    names = list(range(len(values))) if clusters is None else clusters
    sums: dict[Hashable, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        sums.setdefault(name, []).append(value)
    n, units = len(values), len(sums)
    if not n:
        return Estimate(n=0, clusters=0, why="no values")
    mean = math.fsum(values) / n
    if n < 2:
        return Estimate(n=n, clusters=units, mean=mean, why="only one value")
    if _constant(values):
        return Estimate(n=n, clusters=units, mean=mean, sd=0.0, why=f"all {n} values are equal")
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    if units < 2:
        return Estimate(n=n, clusters=units, mean=mean, sd=sd, why="all rows have the same question")
    residuals = [math.fsum(value - mean for value in group) for group in sums.values()]
    if max(map(abs, residuals)) <= _ROUNDING * n * max(map(abs, values)):
        return Estimate(n=n, clusters=units, mean=mean, sd=sd, why="all clusters have the same mean")
    se = math.sqrt(math.fsum(residual**2 for residual in residuals) * units / (units - 1)) / n
    half = se * t_quantile((1 + LEVEL) / 2, units - 1)
    p = t_p(mean / se, units - 1)
    return Estimate(n=n, clusters=units, mean=mean, sd=sd, se=se, low=mean - half, high=mean + half, p=p)


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Subtract row by row; a difference of at most SAME becomes 0, a tie. Raises ValueError if the lengths differ."""
    raw = (a - b for a, b in zip(ours, theirs, strict=True))
    return [0.0 if abs(value) <= SAME else value for value in raw]


def sign_flip(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float | None:
    """The two-sided p value of the sign-flip test that the differences are symmetric around zero; None below two.

    Under the null hypothesis each difference is as likely with the opposite sign. p is the share of sign vectors whose
    absolute sum is at least the observed one. Rows of a cluster are flipped together. Ties do not change any sum. With
    up to EXACT nonzero units all sign vectors are computed. With more, DRAWS random ones with a fixed seed are, and
    the observed one is added to them. The absolute values are sorted first, so neither order nor direction matters.
    """
    if len(values) < 2:
        return None
    names = list(range(len(values))) if clusters is None else clusters
    groups: dict[Hashable, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(name, []).append(value)
    units = [math.fsum(group) for group in groups.values()]
    largest = max(map(abs, units))
    sizes = sorted(abs(unit) for unit in units if abs(unit) > _ROUNDING * largest)
    observed = abs(math.fsum(units)) - SAME * math.fsum(sizes)
    if len(sizes) <= EXACT:
        totals = np.array(list(product((-1.0, 1.0), repeat=len(sizes)))) @ np.array(sizes)
        return float(np.mean(np.abs(totals) >= observed))
    return (_count_extreme(np.array(sizes), observed) + 1) / (DRAWS + 1)


def _count_extreme(sizes: "np.ndarray[tuple[int], np.dtype[np.float64]]", observed: float) -> int:
    """Count the random sign vectors, of DRAWS, whose absolute sum is at least `observed`."""
    random, remaining, count = np.random.default_rng(SEED), DRAWS, 0
    while remaining:
        draws = min(remaining, max(1, _SIGNS_IN_MEMORY // len(sizes)))
        negative = random.integers(0, 2, size=(draws, len(sizes)), dtype=np.int8)
        count += int(np.count_nonzero(np.abs(sizes.sum() - 2 * (negative @ sizes)) >= observed))
        remaining -= draws
    return count


def holm(ps: Mapping[Key, float]) -> dict[Key, float]:
    """Correct p values by Holm's step-down method, which controls the family-wise error rate."""
    corrected: dict[Key, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(ps, key=lambda key: ps[key])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in ps}


def wilson(count: int, n: int) -> Share:
    """A proportion with Wilson's interval, which stays within 0 to 1 and has a width for 0 of n and n of n, too."""
    if not n:
        return Share(count=0, n=0)
    z2, share = normal_quantile((1 + LEVEL) / 2) ** 2, count / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if count == 0 else max(0.0, middle - half)
    high = 1.0 if count == n else min(1.0, middle + half)
    return Share(count=count, n=n, share=share, low=low, high=high)


def rows_needed(sd: float, effect: float) -> int | None:
    """The rows needed to detect a true difference of `effect` with 80 % power; None if `sd` or `effect` is zero."""
    if not sd or not effect:
        return None
    ratio = _POWER * sd / abs(effect)
    return math.ceil(ratio**2) if ratio < 1e9 else None


def detectable_effect(sd: float, n: int) -> float:
    """The true difference that `n` rows detect with 80 % power."""
    return _POWER * sd / math.sqrt(n)


def _constant(values: Sequence[float]) -> bool:
    return max(values) - min(values) <= _ROUNDING * max(map(abs, values))
