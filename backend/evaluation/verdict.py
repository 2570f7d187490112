"""The verdict of a table of scores: one sentence, and every number behind it."""

import math
from collections import Counter
from itertools import combinations
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.evaluation.contrasts import FEWEST, Contrast, ScoreTable, contrasts, failure, reached, values
from backend.evaluation.sentence import format_number, sentence
from backend.stats.agreement import pearson, spearman
from backend.stats.paired import SAME, Estimate, Share, detectable_effect, estimate, wilson

Status = Literal[
    "baseline", "better", "worse", "no clear difference", "too few rows", "not decided: failures", "not compared"
]
GOOD = 0.75  # of the scale: 4 on 1..5
CEILING = 0.5
HALO = 0.95
CUT_APART = 0.2
CELLS = 10
"""Answers that a correlation needs: fewer correlate by chance."""
MANY = 100
"""From this number of rows on, there is no note that rows are few."""


class VariantSummary(BaseModel):
    """One variant: its mean with a confidence interval, and its difference from its baseline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    baseline: str = ""
    status: Status
    primary: Estimate
    criteria: dict[str, Estimate]
    reached: int
    failures: dict[str, int]
    """Status -> number of failures. Rows that failed are in no mean."""
    cut: int
    """Answers that were stopped at their token limit, of all that were reached."""
    uncut: Estimate
    """The primary criterion without those answers."""
    ceiling: Share
    """Share of its scores that are at the top of the scale."""
    good: Share
    """Share of its scores in the upper quarter of the scale: 4 or more of 1 to 5."""
    difference: Contrast | None = None
    """Its difference from its baseline, if that was planned in this direction."""


class BiasChecks(BaseModel):
    """Signs of judge bias; None if there are too few answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    length: float | None = None
    """Spearman's correlation of an answer's length and its score, over all answers."""
    halo: float | None = None
    """The highest correlation of two criteria, over all answers."""
    alike: tuple[str, str] | None = None
    """The two criteria with the highest correlation."""


class Verdict(BaseModel):
    """Everything that the page shows of a table of scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sentence: str
    title: str
    """Name of the primary criterion."""
    low: float
    high: float
    rows: int
    """Rows with at least one score."""
    complete: int
    """Rows on which all variants were judged, failures included."""
    clusters: int
    """Different questions among `rows`."""
    variants: tuple[VariantSummary, ...]
    contrasts: tuple[Contrast, ...]
    checks: BiasChecks
    notes: tuple[str, ...] = Field(default=())


def verdict(table: ScoreTable) -> Verdict:
    """Compute the verdict. The order of rows, variants and contrasts changes only the order of the output.

    Contrasts are paired: they use the rows where both variants have a score. The mean of a variant uses all its rows.
    """
    measured = contrasts(table)
    summaries = tuple(_summary(table, variant, measured) for variant in table.variants)
    rows = [row for row in table.rows if any(values(table, row, name) is not None for name in table.variants)]
    complete = [row for row in table.rows if all(reached(table, row, name) for name in table.variants)]
    checks = _checks(table)
    whole = Verdict(
        sentence=sentence(table.rubric, measured, {summary.variant: summary.primary for summary in summaries}),
        title=table.rubric.title,
        low=table.rubric.low,
        high=table.rubric.high,
        rows=len(rows),
        complete=len(complete) if table.variants else 0,
        clusters=len({table.rows[row] for row in rows}),
        variants=summaries,
        contrasts=measured,
        checks=checks,
    )
    return whole.model_copy(update={"notes": tuple(_notes(table, whole))})


def _summary(table: ScoreTable, variant: str, contrasts: tuple[Contrast, ...]) -> VariantSummary:
    rubric = table.rubric
    rows = [row for row in table.rows if reached(table, row, variant)]
    scored = {row: points for row in rows if (points := values(table, row, variant)) is not None}
    primary = {row: rubric.primary_of(points) for row, points in scored.items()}
    clusters = [table.rows[row] for row in scored]
    cut = {row for row in rows if table.cells[row, variant].cut}
    uncut = [row for row in scored if row not in cut]
    failed = sorted(failure(table, row, variant) for row in rows if row not in scored)
    good = rubric.low + GOOD * (rubric.high - rubric.low)
    baseline = table.baselines.get(variant, "")
    planned = [item for item in contrasts if {item.variant, item.against} == {variant, baseline}]
    return VariantSummary(
        variant=variant,
        baseline=baseline,
        status=_status(variant, planned[0] if planned else None) if baseline else "baseline",
        primary=estimate(list(primary.values()), clusters),
        criteria={
            criterion.name: estimate([points[criterion.name] for points in scored.values()], clusters)
            for criterion in rubric.criteria
        },
        reached=len(rows),
        failures=dict(Counter(failed)),
        cut=len(cut),
        uncut=estimate([primary[row] for row in uncut], [table.rows[row] for row in uncut]),
        ceiling=wilson(sum(value >= rubric.high - SAME for value in primary.values()), len(primary)),
        good=wilson(sum(value >= good - SAME for value in primary.values()), len(primary)),
        difference=next((contrast for contrast in planned if contrast.variant == variant), None),
    )


def _status(variant: str, contrast: Contrast | None) -> Status:
    if contrast is None:
        return "not compared"
    match contrast.decided:
        case "better":
            return "better" if contrast.variant == variant else "worse"
        case "worse":
            return "worse" if contrast.variant == variant else "better"
        case "too few rows":
            return "too few rows"
        case "unclear":
            return "no clear difference"
    return "not decided: failures"


def _checks(table: ScoreTable) -> BiasChecks:
    keys = [(row, name) for row in table.rows for name in table.variants]
    scored = [(table.cells[key].length, points) for key in keys if (points := values(table, *key)) is not None]
    if len(scored) < CELLS:
        return BiasChecks()
    lengths, scores = [length for length, _ in scored], [table.rubric.primary_of(points) for _, points in scored]
    names = sorted(criterion.name for criterion in table.rubric.criteria)
    correlations = {
        (a, b): value
        for a, b in combinations(names, 2)
        if (value := pearson([points[a] for _, points in scored], [points[b] for _, points in scored])) is not None
    }
    alike = max(correlations, key=lambda pair: correlations[pair], default=None)
    return BiasChecks(length=spearman(lengths, scores), halo=correlations[alike] if alike else None, alike=alike)


def _notes(table: ScoreTable, whole: Verdict) -> list[str]:
    """Warnings about the numbers, one sentence each."""
    notes = [_few(whole), _clusters(whole), _row_sets(table), _identical(table)]
    notes += [_ceiling(variant) for variant in whole.variants] + [_cut(whole), _halo(table, whole.checks)]
    return [note for note in notes if note]


def _few(whole: Verdict) -> str:
    if not FEWEST <= whole.rows < MANY:
        return ""
    each = [contrast.difference for contrast in whole.contrasts if contrast.difference.clusters >= FEWEST]
    least = [detectable_effect(diff.se * math.sqrt(diff.n), diff.n) for diff in each if diff.se is not None]
    rows = f"{whole.rows} rows are few"
    if not least:
        return f"{rows}: only large differences can be found."
    return f"{rows}: a true difference under {format_number(max(least))} is missed more than one time in five."


def _clusters(whole: Verdict) -> str:
    if whole.clusters == whole.rows:
        return ""
    return (
        f"The {whole.rows} rows ask {whole.clusters} different things. Rows that ask the same thing count together: "
        "intervals and tests allow for it."
    )


def _row_sets(table: ScoreTable) -> str:
    sets = {name: frozenset(row for row in table.rows if reached(table, row, name)) for name in table.variants}
    if len(set(sets.values())) < 2:
        return ""
    counts = ", ".join(f"{name} on {len(rows)}" for name, rows in sets.items())
    return f"Not all were judged on the same rows ({counts}): a comparison uses the rows both have, a mean all its own."


def _identical(table: ScoreTable) -> str:
    shared = [[values(table, row, name) for name in table.variants] for row in table.rows]
    complete = [[points for points in row if points is not None] for row in shared if row and None not in row]
    names = [criterion.name for criterion in table.rubric.criteria]
    alike = all(
        max(points[name] for points in row) - min(points[name] for points in row) <= SAME
        for row in complete
        for name in names
    )
    if len(table.variants) < 2 or not complete or not alike:
        return ""
    return (
        "All variants got the same values on every row: either they answer alike, or this judge cannot tell them apart."
    )


def _ceiling(summary: VariantSummary) -> str:
    if summary.ceiling.share is None or summary.ceiling.share <= CEILING:
        return ""
    return (
        f"{summary.variant} has the highest value on {summary.ceiling.share:.0%} of its rows: a better answer cannot "
        "show on this scale. Harder questions would tell more."
    )


def _cut(whole: Verdict) -> str:
    shares = {variant.variant: variant.cut / variant.reached for variant in whole.variants if variant.reached}
    if not shares or max(shares.values()) - min(shares.values()) <= CUT_APART:
        return ""
    each = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return f"Answers were cut at their limit unequally often ({each}): look at the means without cut answers, too."


def _halo(table: ScoreTable, checks: BiasChecks) -> str:
    if not table.rubric.rules or checks.halo is None or checks.alike is None or checks.halo <= HALO:  # a rule has none
        return ""
    titles = [criterion.title for name in checks.alike for criterion in table.rubric.criteria if criterion.name == name]
    return (
        f"{titles[0]} and {titles[1]} go together almost perfectly (r = {checks.halo:.2f}): the judge has one opinion "
        "and writes it down twice (a halo), so one number would do."
    )
