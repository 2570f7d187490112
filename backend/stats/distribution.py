"""Student's t and the normal distribution, from their definitions: the app does without SciPy."""

import math
from functools import lru_cache
from statistics import NormalDist

_TINY = 1e-300  # stands for a zero that is divided by
_CLOSE = 1e-16


def normal_quantile(p: float) -> float:
    """The z below which a share `p` of a standard normal lies. ValueError unless 0 < p < 1."""
    return NormalDist().inv_cdf(p) if 0 < p < 1 else _refused(p)


def t_p(t: float, df: float) -> float:
    """The two-sided p of a t value: how much of the distribution is as far out, on both sides together.

    It is the regularised incomplete beta function at df / (df + t * t) with parameters df / 2 and 1 / 2.
    """
    _positive(df)
    square = t * t / df
    if math.isinf(square):
        return 0.0
    if square == 0:
        return 1.0
    a, x, rest = df / 2, 1 / (1 + square), square / (1 + square)
    log_front = _log_gamma_ratio(a) - math.lgamma(0.5) - a * math.log1p(square) + 0.5 * math.log(rest)
    front = math.exp(log_front)
    if x < (a + 1) / (a + 2.5):  # on this side the fraction converges fast; else the other tail is reckoned
        return min(1.0, front * _fraction(a, 0.5, x) / a)
    return max(0.0, 1 - 2 * front * _fraction(0.5, a, rest))


def t_cdf(t: float, df: float) -> float:
    """The share of the distribution below `t`. ValueError unless df > 0."""
    half = t_p(t, df) / 2
    return half if t < 0 else 1 - half


@lru_cache(maxsize=1024)
def t_quantile(p: float, df: float) -> float:
    """The t below which a share `p` lies. ValueError unless 0 < p < 1 and df > 0."""
    _positive(df)
    if not 0 < p < 1:
        _refused(p)
    if p == 0.5:
        return 0.0
    tails = 2 * min(p, 1 - p)
    low, high = 0.0, 1.0
    while t_p(high, df) > tails and high < 1e150:
        low, high = high, 2 * high
    t = (low + high) / 2
    for _ in range(2000):
        off = t_p(t, df) - tails
        low, high = (t, high) if off > 0 else (low, t)
        step = t + off / (2 * _density(t, df))
        new = step if low < step < high else (low + high) / 2
        if abs(new - t) <= 1e-15 * t:
            break
        t = new
    return math.copysign(t, p - 0.5)


def _density(t: float, df: float) -> float:
    log = _log_gamma_ratio(df / 2) - 0.5 * math.log(df * math.pi) - (df + 1) / 2 * math.log1p(t * t / df)
    return max(math.exp(log), _TINY)


def _log_gamma_ratio(a: float) -> float:
    """log of gamma(a + 1/2) / gamma(a). Far out lgamma's own digits would cancel, so its series is used there."""
    if a < 20:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    square = a * a
    series = -1 / 8 + (1 / 192 + (-1 / 640 + (17 / 14336 - 31 / (18432 * square)) / square) / square) / square
    return 0.5 * math.log(a) + series / a


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function, evaluated from the top (Lentz)."""
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for part in (even, odd):
            d = 1 / _off_zero(1 + part * d)
            c = _off_zero(1 + part / c)
            change = c * d
            value *= change
        if abs(change - 1) <= _CLOSE:
            break
    return value


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _positive(df: float) -> None:
    if not 0 < df < math.inf:
        raise ValueError(f"degrees of freedom are a positive number, not {df}")


def _refused(p: float) -> float:
    raise ValueError(f"a share lies between 0 and 1, and {p} does not")
