"""Means, paired differences and their tests, made so that the order of rows never changes a digit.

Data that cannot carry a number give None and a word for why, never nan and no exception.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import product
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from backend.stats.distribution import normal_quantile, t_p, t_quantile

LEVEL = 0.95
DRAWS = 9_999
SEED = 2026
EXACT = 12  # units: up to here all 2^n signs are tried
SAME = 1e-9
"""Two numbers on a judge's scale that are no further apart are the same one: 4 1/3 - 3 1/3 is 1."""
_POWER = 1.96 + 0.84  # 95 % confidence, 80 % power
_AT_A_TIME = 2_000_000  # signs held in memory
_NOISE = 1e-12  # of the largest value: what rounding alone can do

Key = TypeVar("Key", bound=Hashable)


class Estimate(BaseModel):
    """A mean and how sure it is. `low` and `high` bound it with 95 % confidence; `p` is for a true mean of zero."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    clusters: int
    """Independent units; fewer than `n` where rows ask the same thing."""
    mean: float | None = None
    sd: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    why: str = ""
    """Why there is no interval; empty where there is one."""


class Share(BaseModel):
    """`count` of `n`, with Wilson's 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    n: int
    share: float | None = None
    low: float | None = None
    high: float | None = None


def estimate(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """The mean of independent values, or of values in clusters, with a t interval and test.

    `clusters` names each value's cluster. The standard error is then the cluster-robust one of a mean (residuals are
    summed by cluster) times G / (G - 1) for G clusters, with G - 1 degrees of freedom. Where each value is a cluster
    of its own that is the usual standard error. ValueError if the two are not of one length.
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
        return Estimate(n=n, clusters=units, mean=mean, why="one value alone")
    if _level(values):
        return Estimate(n=n, clusters=units, mean=mean, sd=0.0, why=f"all {n} values are the same")
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    if units < 2:
        return Estimate(n=n, clusters=units, mean=mean, sd=sd, why="all rows ask the same thing")
    residuals = [math.fsum(value - mean for value in group) for group in sums.values()]
    if max(map(abs, residuals)) <= _NOISE * n * max(map(abs, values)):
        return Estimate(n=n, clusters=units, mean=mean, sd=sd, why="all clusters have the same mean")
    se = math.sqrt(math.fsum(residual**2 for residual in residuals) * units / (units - 1)) / n
    half = se * t_quantile((1 + LEVEL) / 2, units - 1)
    p = t_p(mean / se, units - 1)
    return Estimate(n=n, clusters=units, mean=mean, sd=sd, se=se, low=mean - half, high=mean + half, p=p)


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Row by row. What only rounding tells apart is a tie. ValueError if the two are not of one length."""
    found = (a - b for a, b in zip(ours, theirs, strict=True))
    return [0.0 if abs(value) <= SAME else value for value in found]


def sign_flip(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float | None:
    """The two-sided p of the sign-flip test that the values lie around zero; None for fewer than two.

    If nothing but chance decides which of two models is ahead on a row, each difference could as well have the other
    sign. p is the share of signs that put the mean as far from zero as it is. Rows of a cluster flip together. Rows
    that tie change no sum: with up to EXACT others every sign is tried, else DRAWS of a fixed seed, and the signs
    that were found are counted as one more. Only sizes enter, sorted, so neither order nor direction matters.
    """
    if len(values) < 2:
        return None
    names = list(range(len(values))) if clusters is None else clusters
    groups: dict[Hashable, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(name, []).append(value)
    units = [math.fsum(group) for group in groups.values()]
    most = max(map(abs, units))
    sizes = sorted(abs(unit) for unit in units if abs(unit) > _NOISE * most)
    reached = abs(math.fsum(units)) - SAME * math.fsum(sizes)
    if len(sizes) <= EXACT:
        totals = np.array(list(product((-1.0, 1.0), repeat=len(sizes)))) @ np.array(sizes)
        return float(np.mean(np.abs(totals) >= reached))
    return (_as_far(np.array(sizes), reached) + 1) / (DRAWS + 1)


def _as_far(sizes: "np.ndarray[tuple[int], np.dtype[np.float64]]", reached: float) -> int:
    """How many of DRAWS random signs put the sum at least that far from zero."""
    random, left, count = np.random.default_rng(SEED), DRAWS, 0
    while left:
        draws = min(left, max(1, _AT_A_TIME // len(sizes)))
        minus = random.integers(0, 2, size=(draws, len(sizes)), dtype=np.int8)
        count += int(np.count_nonzero(np.abs(sizes.sum() - 2 * (minus @ sizes)) >= reached))
        left -= draws
    return count


def holm(ps: Mapping[Key, float]) -> dict[Key, float]:
    """Each p after Holm's correction for their number; what stays under .05 stands for all of them together."""
    found: dict[Key, float] = {}
    least = 0.0
    for place, name in enumerate(sorted(ps, key=lambda one: ps[one])):
        least = max(least, min(1.0, (len(ps) - place) * ps[name]))
        found[name] = least
    return {name: found[name] for name in ps}


def wilson(count: int, n: int) -> Share:
    """A share with Wilson's interval, which stays within 0..1 and has a width even at none or all."""
    if not n:
        return Share(count=0, n=0)
    z2, share = normal_quantile((1 + LEVEL) / 2) ** 2, count / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if count == 0 else max(0.0, middle - half)
    high = 1.0 if count == n else min(1.0, middle + half)
    return Share(count=count, n=n, share=share, low=low, high=high)


def rows_needed(sd: float, effect: float) -> int | None:
    """Rows on which a true difference of `effect` is found four times in five; None for a spread or effect of zero."""
    if not sd or not effect:
        return None
    ratio = _POWER * sd / abs(effect)
    return math.ceil(ratio**2) if ratio < 1e9 else None


def least_found(sd: float, n: int) -> float:
    """The other way round: the true difference that `n` rows find four times in five."""
    return _POWER * sd / math.sqrt(n)


def _level(values: Sequence[float]) -> bool:
    return max(values) - min(values) <= _NOISE * max(map(abs, values))
