"""Everything a verdict is reckoned from: rows x variants, and what was said of each answer."""

from collections.abc import Mapping
from dataclasses import dataclass

from backend.judge.rubric import Rubric
from backend.judge.score import Status


@dataclass(frozen=True)
class Cell:
    """One answer. `values` by criterion, empty unless `status` is ok (means, where it was judged several times)."""

    status: Status
    values: Mapping[str, float]
    cut: bool = False
    """The answer was stopped at its limit."""
    length: int = 0
    """Characters of the answer."""


@dataclass(frozen=True)
class Table:
    """A cell that is not there was not reached yet: that is no failure."""

    rubric: Rubric
    rows: Mapping[str, str]
    """A row's id -> its cluster: rows that ask the same thing share one."""
    variants: tuple[str, ...]
    baselines: Mapping[str, str]
    """A variant -> the one it is measured against, in the lab's table; those without are baselines."""
    contrasts: tuple[tuple[str, str], ...]
    """Planned before: (variant, what it is compared with)."""
    cells: Mapping[tuple[str, str], Cell]
    """(row, variant) -> what came of it."""
