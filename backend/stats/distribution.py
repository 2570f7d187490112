"""Student's t distribution by `scipy.special`, which is imported on first use: the page starts without it."""

import importlib
import math
from functools import lru_cache
from statistics import NormalDist


def normal_quantile(p: float) -> float:
    """The quantile of a standard normal distribution. ValueError unless 0 < p < 1."""
    _check_share(p)
    return NormalDist().inv_cdf(p)


def t_p(t: float, df: float) -> float:
    """The two-sided p value of a t statistic with `df` degrees of freedom. ValueError unless df > 0."""
    _check_freedom(df)
    return float(2 * importlib.import_module("scipy.special").stdtr(df, -abs(t)))


@lru_cache(maxsize=1024)
def t_quantile(p: float, df: float) -> float:
    """The quantile of Student's t distribution. ValueError unless 0 < p < 1 and df > 0."""
    _check_freedom(df)
    _check_share(p)
    return float(importlib.import_module("scipy.special").stdtrit(df, p))


def _check_freedom(df: float) -> None:
    if not (df > 0 and math.isfinite(df)):
        raise ValueError(f"degrees of freedom are a number above 0, not {df}")


def _check_share(p: float) -> None:
    if not 0 < p < 1:
        raise ValueError(f"a share lies between 0 and 1, not at {p}")
