"""The verdict in two or three plain sentences."""

from collections.abc import Mapping, Sequence

from backend.evaluation.contrasts import FEWEST, Contrast
from backend.judge.rubric import Rubric
from backend.stats.paired import SAME, Estimate

LISTED = 4  # contrasts of one kind that are named; the others are counted
FAR = 10_000  # rows; more are not a realistic plan


def sentence(rubric: Rubric, contrasts: Sequence[Contrast], means: Mapping[str, Estimate]) -> str:
    """Clear differences first, then unclear ones, then those that are not decided, with the reason.

    `means`: variant -> mean of the primary criterion.
    """
    if not any(mean.n for mean in means.values()):
        failed = any(any(contrast.failures) for contrast in contrasts)
        return "No answer has a score: every judgement failed." if failed else "Nothing is judged yet."
    if not contrasts:
        each = "; ".join(_mean(name, mean) for name, mean in means.items() if mean.n)
        return f"{each} {rubric.title}. No comparison was planned."
    unclear = [contrast for contrast in contrasts if contrast.decided == "unclear"]
    parts = [
        _clear(rubric, [contrast for contrast in contrasts if contrast.clear]),
        _unclear(unclear[0]) if len(unclear) == 1 else _all_unclear(unclear),
        _undecided([contrast for contrast in contrasts if contrast.decided in ("too few rows", "failures differ")]),
    ]
    return " ".join(part for part in parts if part)


def format_interval(estimate: Estimate, sign: int = 1) -> tuple[str, str, str]:
    """Mean, low and high of an estimate, times `sign`. The width of the interval decides the number of digits.

    A bound that is not zero is never shown as zero. Raises ValueError if there is no interval.
    """
    if estimate.mean is None or estimate.low is None or estimate.high is None:
        raise ValueError("an estimate without an interval cannot be shown as one")
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    half = (high - low) / 2
    digits = next((count for count in (1, 2, 3) if half >= 10**-count), 4)
    while low * high > 0 and digits < 4 and not float(f"{min(abs(low), abs(high)):.{digits}f}"):
        digits += 1
    mean, low, high = (round(value, digits) + 0.0 for value in (sign * estimate.mean, low, high))  # + 0.0: no -0.0
    return f"{mean:.{digits}f}", f"{low:.{digits}f}", f"{high:.{digits}f}"


def format_number(value: float) -> str:
    """One decimal place, or as many as show that the number is not zero."""
    digits = next((count for count in (1, 2, 3) if abs(value) >= 10**-count), 4)
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _mean(name: str, estimate: Estimate) -> str:
    if estimate.low is None:
        return f"{name} has {_exactly(estimate)} ({estimate.n} row{'s' if estimate.n > 1 else ''})"
    mean, low, high = format_interval(estimate)
    return f"{name} has {mean} ({low} to {high}; {estimate.n} rows)"


def _exactly(estimate: Estimate, sign: int = 1) -> str:
    return f"{sign * (estimate.mean or 0.0):.3g}"


def _clear(rubric: Rubric, clear: Sequence[Contrast]) -> str:
    if not clear:
        return ""
    same = len({contrast.difference.n for contrast in clear}) == 1
    each = _listed([_better(contrast, "" if same else f"; {contrast.difference.n} rows") for contrast in clear])
    return f"{each} {rubric.title}{f', {clear[0].difference.n} rows' if same else ''}."


def _better(contrast: Contrast, rows: str) -> str:
    sign = 1 if contrast.decided == "better" else -1
    start = f"{contrast.variant} is {contrast.decided} than {contrast.against} by"
    if contrast.difference.low is None:
        return f"{start} {_exactly(contrast.difference, sign)} (throughout{rows})"
    mean, low, high = format_interval(contrast.difference, sign)
    return f"{start} {mean} ({low} to {high}{rows})"


def _tied(contrast: Contrast) -> bool:
    return contrast.ties == contrast.difference.n


def _unclear(contrast: Contrast) -> str:
    pair, n = f"between {contrast.variant} and {contrast.against}", contrast.difference.n
    if _tied(contrast):
        return f"No difference {pair}: all {n} rows tied."
    if contrast.difference.low is None:
        return (
            f"No clear difference {pair} ({_exactly(contrast.difference)} throughout; {n} rows): {_settled(contrast)}."
        )
    mean, low, high = format_interval(contrast.difference)
    apart = (
        float(low) * float(high) > 0 and contrast.holm_p is not None
    )  # only the corrected test says that it is unclear
    rows = f"{n} rows; corrected p {contrast.holm_p:.2f}" if apart else f"{n} rows"
    return f"No clear difference {pair} ({mean}, {low} to {high}; {rows}): {_settled(contrast)}."


def _all_unclear(unclear: Sequence[Contrast]) -> str:
    if not unclear:
        return ""
    rows = unclear[0].difference.n
    if all(_tied(contrast) and contrast.difference.n == rows for contrast in unclear):
        return f"No difference between {_listed([_pair(contrast) for contrast in unclear])}: all {rows} rows tied."
    short = [
        f"{_pair(contrast)} ({f'all {contrast.ties} rows tied' if _tied(contrast) else _needs(contrast)})"
        for contrast in unclear
    ]
    return f"No clear difference between {_listed(short)}."


def _pair(contrast: Contrast) -> str:
    return f"{contrast.variant} and {contrast.against}"


def _settled(contrast: Contrast) -> str:
    if _level(contrast):
        return "on average they are level"
    needed = _rows(contrast)
    return f"{needed} would settle it" if needed else f"not even {FAR:,} rows would settle it"


def _needs(contrast: Contrast) -> str:
    return "level on average" if _level(contrast) else f"needs {_rows(contrast) or f'more than {FAR:,} rows'}"


def _level(contrast: Contrast) -> bool:
    return contrast.difference.mean is not None and abs(contrast.difference.mean) <= SAME


def _rows(contrast: Contrast) -> str:
    """The rows that are needed, rounded up to two digits; empty if they are more than FAR."""
    needed = contrast.rows_needed
    if needed is None or needed <= contrast.difference.n:
        return "more rows"
    step = 10 ** max(0, len(str(needed)) - 2)
    return f"about {-(-needed // step) * step:,} rows" if needed <= FAR else ""


def _undecided(contrasts: Sequence[Contrast]) -> str:
    reasons: dict[str, list[str]] = {}
    for contrast in contrasts:
        reasons.setdefault(_reason(contrast), []).append(_pair(contrast))
    if not reasons:
        return ""
    return f"Not decided: {_listed([f'{_listed(pairs)} ({reason})' for reason, pairs in reasons.items()])}."


def _reason(contrast: Contrast) -> str:
    first, second = contrast.failures
    failed = f"failures: {first} of {contrast.variant}, {second} of {contrast.against}" if first or second else ""
    if contrast.decided == "failures differ":
        return f"{failed}: what those were worth could turn it"
    n, clusters = contrast.difference.n, contrast.difference.clusters
    counted = f"{clusters} different questions" if clusters < n else f"{n} row{'' if n == 1 else 's'} with both scores"
    return f"{counted}, {FEWEST} are needed{f'; {failed}' if failed else ''}"


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - LISTED
    return "; ".join(parts[:LISTED]) + (f"; and {more} more" if more > 0 else "")
