"""Two variants on the same rows: how far apart they are, and whether that can be said aloud."""

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

Got = Mapping[str, float] | None
Decided = Literal["better", "worse", "unclear", "too few rows", "failures differ"]
FEWEST = 5
"""Independent rows, below which nothing is decided: four that all point one way have a sign-flip p of .125, and a
standard deviation of so few is hardly known. Five are enough to say how many more are needed."""
ALPHA = 0.05
FEW_FAILURES = 0.05  # of a variant's rows
MANY = 12
"""Contrasts of one plan: more correct each other away."""


@dataclass(frozen=True)
class ScoreCell:
    """One answer. `values` by criterion, empty unless `status` is ok (means, where it was judged several times)."""

    status: Status
    values: Mapping[str, float]
    cut: bool = False
    """The answer was stopped at its limit."""
    length: int = 0
    """Characters of the answer."""


@dataclass(frozen=True)
class ScoreTable:
    """A cell that is not there was not reached yet: that is no failure."""

    rubric: Rubric
    rows: Mapping[str, str]
    """A row's id -> its cluster: rows that ask the same thing share one."""
    variants: tuple[str, ...]
    baselines: Mapping[str, str]
    """A variant -> the one it is measured against, in the lab's table; those without are baselines."""
    contrasts: tuple[tuple[str, str], ...]
    """Planned before: (variant, what it is compared with)."""
    cells: Mapping[tuple[str, str], ScoreCell]
    """(row, variant) -> what came of it."""


class Contrast(BaseModel):
    """`variant` less `against`, on the rows where both have a score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    against: str
    difference: Estimate
    """Of the primary number, with its n, clusters, spread, interval and the p of the t test."""
    flip_p: float | None = None
    """Of the sign-flip test."""
    holm_p: float | None = None
    """The same, corrected for the number of contrasts that have one."""
    wins: int = 0
    ties: int = 0
    losses: int = 0
    rows_needed: int | None = None
    """To find a difference of this size; None where it is found, or where there is none."""
    reached: int = 0
    """Rows that both were judged on, failures included."""
    failures: tuple[int, int] = (0, 0)
    """Of those, how many failed, of either."""
    bounds: tuple[float, float] | None = None
    """The mean difference if each failure were the worst for `variant`, and the best. None without failures."""
    decided: Decided = "unclear"
    criteria: dict[str, Estimate] = Field(default_factory=dict)
    """Differences of the other criteria: secondary, with intervals that are corrected for nothing."""

    @property
    def clear(self) -> bool:
        return self.decided in ("better", "worse")


def reached(table: ScoreTable, row: str, variant: str) -> bool:
    """Whether it was judged, or tried to. What was cancelled was not."""
    cell = table.cells.get((row, variant))
    return cell is not None and cell.status != "cancelled"


def failure(table: ScoreTable, row: str, variant: str) -> str:
    """Its status where it was reached and has no score, else empty. A value that is not on its scale is a failure."""
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
    """What it got, by criterion; None for what was not reached and for failures."""
    scored = reached(table, row, variant) and not failure(table, row, variant)
    return table.cells[row, variant].values if scored else None


def contrasts(table: ScoreTable) -> tuple[Contrast, ...]:
    """Those that were planned, in their order. One that names an unknown variant, or a pair again, is left out."""
    planned: dict[frozenset[str], tuple[str, str]] = {}
    for pair in table.contrasts:
        if len(set(pair)) == 2 and set(pair) <= set(table.variants):
            planned.setdefault(frozenset(pair), pair)
    measured = [_measured(table, *pair) for pair in planned.values()]
    corrected = holm({place: one.flip_p for place, one in enumerate(measured) if one.flip_p is not None})
    return tuple(_decided(one, corrected.get(place)) for place, one in enumerate(measured))


def _measured(table: ScoreTable, variant: str, against: str) -> Contrast:
    rubric = table.rubric
    rows = [row for row in table.rows if reached(table, row, variant) and reached(table, row, against)]
    ours, theirs = ({row: values(table, row, name) for row in rows} for name in (variant, against))
    both = [(row, a, b) for row in rows if (a := ours[row]) is not None and (b := theirs[row]) is not None]
    clusters = [table.rows[row] for row, _, _ in both]
    primary = differences([rubric.primary_of(a) for _, a, _ in both], [rubric.primary_of(b) for _, _, b in both])
    failed = (sum(one is None for one in ours.values()), sum(one is None for one in theirs.values()))
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
        bounds=_bounds(rubric, list(ours.values()), list(theirs.values())) if any(failed) else None,
        criteria={
            criterion.name: estimate(
                differences([a[criterion.name] for _, a, _ in both], [b[criterion.name] for _, _, b in both]), clusters
            )
            for criterion in rubric.criteria
            if criterion.name != rubric.primary
        },
    )


def _bounds(rubric: Rubric, ours: Sequence[Got], theirs: Sequence[Got]) -> tuple[float, float]:
    """The mean difference over all rows if failures were as bad for the first as they can be, and as good."""
    ends = []
    for mine, other in ((rubric.low, rubric.high), (rubric.high, rubric.low)):
        a = [mine if got is None else rubric.primary_of(got) for got in ours]
        b = [other if got is None else rubric.primary_of(got) for got in theirs]
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
    """Whether the interval leaves zero out. Where every row differs alike there is none, and the mean is the test."""
    return mean != 0 if low is None or high is None else low > 0 or high < 0


def _despite_failures(contrast: Contrast) -> bool:
    ours, theirs = contrast.failures
    if contrast.bounds is None or (ours == theirs and ours <= FEW_FAILURES * contrast.reached):
        return True
    worst, best = contrast.bounds
    return worst > 0 or best < 0


def _rows_needed(difference: Estimate) -> int | None:
    if difference.se is None or difference.mean is None:
        return None
    return rows_needed(difference.se * math.sqrt(difference.n), difference.mean)  # an se allows for clusters, an sd not


class ContrastPlan(NamedTuple):
    """`baselines`: a variant -> what it is measured against. `contrasts`: (variant, what it is compared with)."""

    baselines: dict[str, str]
    contrasts: tuple[tuple[str, str], ...]


def plan_contrasts(variants: Sequence[Variant], baseline: str = "") -> ContrastPlan:
    """A fine-tune is measured against its base, and fine-tunes of one base against each other; of several bases, the
    first is what the others are compared with. With a `baseline`, all others are measured against that one."""
    if baseline:
        against = {one.id: baseline for one in variants if one.id != baseline}
        return ContrastPlan(against, tuple(dict.fromkeys((*against.items(), *_siblings(variants, baseline)))))
    bases = [variant for variant in variants if not _tuned(variant)]
    against = {one.id: base for one in variants if _tuned(one) and (base := _base_of(one, variants))}
    pairs = [*against.items(), *_siblings(variants, ""), *((one.id, bases[0].id) for one in bases[1:])]
    if not pairs and len(variants) > 1:
        pairs = [(one.id, variants[0].id) for one in variants[1:]]
        against = dict(pairs)
    return ContrastPlan(against, tuple(dict.fromkeys(pairs))[:MANY])


def _tuned(variant: Variant) -> bool:
    return variant.method in ("lora", "qlora")


def _family(variant: Variant) -> str:
    return variant.base or variant.over or variant.id


def _base_of(variant: Variant, variants: Sequence[Variant]) -> str:
    """Its base among them; without one, the first of its family, unless it is that itself."""
    family = [other for other in variants if _family(other) == _family(variant)]
    first = next((other for other in family if not _tuned(other)), family[0])
    return "" if first == variant else first.id


def _siblings(variants: Sequence[Variant], but: str) -> list[tuple[str, str]]:
    """Fine-tunes of one base, each with each."""
    tuned = [variant for variant in variants if _tuned(variant) and variant.id != but]
    return [(b.id, a.id) for a, b in combinations(tuned, 2) if _family(a) == _family(b)]
