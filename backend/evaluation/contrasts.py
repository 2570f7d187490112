"""Paired comparisons of two variants on the same rows: the table of scores, planned contrasts and their tests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from backend.judge.rubric import Rubric
from backend.judge.score import Status
from backend.stats.paired import SAME, Estimate, differences, estimate, holm, rows_needed, sign_flip
from models.variant import Variant

Points = Mapping[str, float] | None
Decided = Literal["better", "worse", "unclear", "too few rows", "failures differ"]
FEWEST = 5
"""Independent rows that a decision needs. Four rows that all agree have a sign-flip p of .125, and a standard deviation
of so few rows is not reliable. Five rows are enough to estimate how many more are needed."""
ALPHA = 0.05
FEW_FAILURES = 0.05  # of a variant's rows
MANY = 12
"""Contrasts of one plan. With more of them, the correction for multiple tests hides real differences."""


@dataclass(frozen=True)
class ScoreCell:
    """The score of one answer. `values`: criterion -> points, means if it was judged several times; empty unless
    `status` is "ok"."""

    status: Status
    values: Mapping[str, float]
    cut: bool = False
    """The answer was stopped at its limit."""
    length: int = 0
    """Characters of the answer."""


@dataclass(frozen=True)
class ScoreTable:
    """The scores of an evaluation. A missing cell is an answer that was not reached yet, which is not a failure."""

    rubric: Rubric
    rows: Mapping[str, str]
    """Row id -> cluster. Rows that ask the same question have the same cluster."""
    variants: tuple[str, ...]
    baselines: Mapping[str, str]
    """Variant -> its baseline. A variant that is no key is a baseline itself."""
    contrasts: tuple[tuple[str, str], ...]
    """(variant, the variant it is compared with), planned before the evaluation started."""
    cells: Mapping[tuple[str, str], ScoreCell]
    """(row, variant) -> score or failure."""


class Contrast(BaseModel):
    """The difference `variant` minus `against`, on the rows where both have a score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    against: str
    difference: Estimate
    """Difference of the primary criterion, with its confidence interval and the p value of the t test."""
    flip_p: float | None = None
    """The p value of the sign-flip test."""
    holm_p: float | None = None
    """`flip_p` with Holm's correction over all contrasts."""
    wins: int = 0
    ties: int = 0
    losses: int = 0
    rows_needed: int | None = None
    """Rows that would be needed to find a difference of this size; None if it is found, or if there is none."""
    reached: int = 0
    """Rows on which both were judged, failures included."""
    failures: tuple[int, int] = (0, 0)
    """Of those rows, the failures of `variant` and of `against`."""
    bounds: tuple[float, float] | None = None
    """The mean difference if every failure had the worst score for `variant`, and if it had the best; None without
    failures."""
    decided: Decided = "unclear"
    criteria: dict[str, Estimate] = Field(default_factory=dict)
    """Differences of the other criteria. They are secondary: their intervals have no correction for multiple tests."""

    @property
    def clear(self) -> bool:
        return self.decided in ("better", "worse")


def reached(table: ScoreTable, row: str, variant: str) -> bool:
    """Whether judging was tried. A cancelled judgement was not."""
    cell = table.cells.get((row, variant))
    return cell is not None and cell.status != "cancelled"


def failure(table: ScoreTable, row: str, variant: str) -> str:
    """The status of a failure, or an empty text. A value that is not on its scale is a failure."""
    if not reached(table, row, variant):
        return ""
    cell = table.cells[row, variant]
    if cell.status != "ok":
        return cell.status
    sound = all(
        _on_scale(cell.values.get(criterion.name), criterion.low, criterion.high) for criterion in table.rubric.criteria
    )
    return "" if sound else "bad_schema"


def _on_scale(value: float | None, low: float, high: float) -> bool:
    return value is not None and low - SAME <= value <= high + SAME


def values(table: ScoreTable, row: str, variant: str) -> Mapping[str, float] | None:
    """Criterion -> points; None if it was not reached or failed."""
    scored = reached(table, row, variant) and not failure(table, row, variant)
    return table.cells[row, variant].values if scored else None


def contrasts(table: ScoreTable) -> tuple[Contrast, ...]:
    """The planned contrasts in their order, measured and decided. One that names an unknown variant, or repeats a pair,
    is left out."""
    planned: dict[frozenset[str], tuple[str, str]] = {}
    for pair in table.contrasts:
        if len(set(pair)) == 2 and set(pair) <= set(table.variants):
            planned.setdefault(frozenset(pair), pair)
    measured = [_measured(table, *pair) for pair in planned.values()]
    p_values = {place: contrast.flip_p for place, contrast in enumerate(measured) if contrast.flip_p is not None}
    corrected = holm(p_values)
    return tuple(_decided(contrast, corrected.get(place)) for place, contrast in enumerate(measured))


def _measured(table: ScoreTable, variant: str, against: str) -> Contrast:
    rubric = table.rubric
    rows = [row for row in table.rows if reached(table, row, variant) and reached(table, row, against)]
    first, second = ({row: values(table, row, name) for row in rows} for name in (variant, against))
    paired = [(row, a, b) for row in rows if (a := first[row]) is not None and (b := second[row]) is not None]
    clusters = [table.rows[row] for row, _, _ in paired]
    primary = differences([rubric.primary_of(a) for _, a, _ in paired], [rubric.primary_of(b) for _, _, b in paired])
    failed = (sum(points is None for points in first.values()), sum(points is None for points in second.values()))
    return Contrast(
        variant=variant,
        against=against,
        difference=estimate(primary, clusters),
        flip_p=sign_flip(primary, clusters),
        wins=sum(value > 0 for value in primary),
        ties=sum(value == 0 for value in primary),
        losses=sum(value < 0 for value in primary),
        reached=len(rows),
        failures=failed,
        bounds=_bounds(rubric, list(first.values()), list(second.values())) if any(failed) else None,
        criteria={
            criterion.name: estimate(
                differences([a[criterion.name] for _, a, _ in paired], [b[criterion.name] for _, _, b in paired]),
                clusters,
            )
            for criterion in rubric.criteria
            if criterion.name != rubric.primary
        },
    )


def _bounds(rubric: Rubric, first: Sequence[Points], second: Sequence[Points]) -> tuple[float, float]:
    """The mean difference over all rows if failures had the worst score for the first variant, and the best."""
    ends = []
    for missing_a, missing_b in ((rubric.low, rubric.high), (rubric.high, rubric.low)):
        a = [missing_a if points is None else rubric.primary_of(points) for points in first]
        b = [missing_b if points is None else rubric.primary_of(points) for points in second]
        ends.append(math.fsum(differences(a, b)) / len(a))
    return ends[0], ends[1]


def _decided(contrast: Contrast, holm_p: float | None) -> Contrast:
    mean, low, high = contrast.difference.mean, contrast.difference.low, contrast.difference.high
    decided: Decided = "unclear"
    if contrast.difference.clusters < FEWEST or mean is None:
        decided = "too few rows"
    elif holm_p is not None and holm_p <= ALPHA and _apart(mean, low, high):
        decided = ("better" if mean > 0 else "worse") if _despite_failures(contrast) else "failures differ"
    needed = _rows_needed(contrast.difference) if decided in ("unclear", "too few rows") else None
    return contrast.model_copy(update={"holm_p": holm_p, "decided": decided, "rows_needed": needed})


def _apart(mean: float, low: float | None, high: float | None) -> bool:
    """Whether the interval excludes zero. If all differences are equal there is no interval, and the mean decides."""
    return mean != 0 if low is None or high is None else low > 0 or high < 0


def _despite_failures(contrast: Contrast) -> bool:
    """Whether the failures cannot change the decision."""
    first, second = contrast.failures
    if contrast.bounds is None or (first == second and first <= FEW_FAILURES * contrast.reached):
        return True
    worst, best = contrast.bounds
    return worst > 0 or best < 0


def _rows_needed(difference: Estimate) -> int | None:
    if difference.se is None or difference.mean is None:
        return None
    return rows_needed(difference.se * math.sqrt(difference.n), difference.mean)  # se, unlike sd, accounts for clusters


class ContrastPlan(NamedTuple):
    """`baselines`: variant -> its baseline. `contrasts`: (variant, the variant it is compared with)."""

    baselines: dict[str, str]
    contrasts: tuple[tuple[str, str], ...]


def plan_contrasts(variants: Sequence[Variant], baseline: str = "") -> ContrastPlan:
    """Plan which variants are compared.

    Each fine-tune is compared with its base and with the other fine-tunes of that base. The other bases are compared
    with the first one. With a `baseline`, all other variants are compared with it.
    """
    if baseline:
        against = {variant.id: baseline for variant in variants if variant.id != baseline}
        return ContrastPlan(against, tuple(dict.fromkeys((*against.items(), *_siblings(variants, baseline)))))
    bases = [variant for variant in variants if not _tuned(variant)]
    against = {variant.id: base for variant in variants if _tuned(variant) and (base := _base_of(variant, variants))}
    pairs = [*against.items(), *_siblings(variants, ""), *((base.id, bases[0].id) for base in bases[1:])]
    if not pairs and len(variants) > 1:
        pairs = [(variant.id, variants[0].id) for variant in variants[1:]]
        against = dict(pairs)
    return ContrastPlan(against, tuple(dict.fromkeys(pairs))[:MANY])


def _tuned(variant: Variant) -> bool:
    return variant.method in ("lora", "qlora")


def _family(variant: Variant) -> str:
    return variant.base or variant.over or variant.id


def _base_of(variant: Variant, variants: Sequence[Variant]) -> str:
    """The id of its base among `variants`, or of the first variant of its family; empty if it is that one."""
    family = [other for other in variants if _family(other) == _family(variant)]
    first = next((other for other in family if not _tuned(other)), family[0])
    return "" if first == variant else first.id


def _siblings(variants: Sequence[Variant], excluded: str) -> list[tuple[str, str]]:
    """All pairs of fine-tunes of one base."""
    tuned = [variant for variant in variants if _tuned(variant) and variant.id != excluded]
    return [(b.id, a.id) for a, b in combinations(tuned, 2) if _family(a) == _family(b)]
