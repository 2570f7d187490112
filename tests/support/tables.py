"""Tables of scores for tests of verdicts."""

import dataclasses
import random
from collections.abc import Callable, Sequence

from backend.evaluation.contrasts import ScoreCell, ScoreTable
from backend.judge.rubric import rubrics
from backend.judge.score import Status

LAB = rubrics()["lab"]
VARIANTS = ("base", "lora", "qlora")
CONTRASTS = (("lora", "base"), ("qlora", "base"), ("qlora", "lora"))


def cell(value: float, cut: bool = False, length: int = 100) -> ScoreCell:
    return ScoreCell("ok", {one.name: value for one in LAB.criteria}, cut, length)


def table(columns: dict[str, Sequence[float | Status | None]], clusters: Sequence[str] | None = None) -> ScoreTable:
    """A column per variant: points, a failure's status, or None for what was not reached. The first is the baseline."""
    names, count = tuple(columns), max(map(len, columns.values()), default=0)
    rows = {f"row {n}": clusters[n] if clusters else f"row {n}" for n in range(count)}
    cells = {
        (f"row {n}", name): ScoreCell(value, {}) if isinstance(value, str) else cell(value)
        for name, column in columns.items()
        for n, value in enumerate(column)
        if value is not None
    }
    pairs = tuple((b, a) for n, a in enumerate(names) for b in names[n + 1 :])
    return ScoreTable(LAB, rows, names, dict.fromkeys(names[1:], next(iter(names), "")), pairs, cells)


def noisy(seed: int = 4, n: int = 20, effects: Sequence[float] = (0.0, 0.1, 1.0)) -> ScoreTable:
    """Rows of unequal difficulty, variants of unequal strength, three criteria that differ."""
    draw, cells = random.Random(seed), {}
    for row in range(n):
        difficulty = draw.gauss(3, 0.8)
        for name, effect in zip(VARIANTS, effects, strict=True):
            points = {one.name: min(5, max(1, round(difficulty + effect + draw.gauss(0, 0.7)))) for one in LAB.criteria}
            cells[f"row {row}", name] = ScoreCell("ok", points, draw.random() < 0.1, draw.randrange(900))
    rows = {f"row {row}": f"row {row}" for row in range(n)}
    return ScoreTable(LAB, rows, VARIANTS, {"lora": "base", "qlora": "base"}, CONTRASTS, cells)


def column(of: ScoreTable, name: str, criterion: str = "") -> list[float]:
    cells = [of.cells[row, name].values for row in of.rows]
    return [got[criterion] if criterion else LAB.primary_of(got) for got in cells]


def shuffled(of: ScoreTable, seed: int) -> ScoreTable:
    """The same in another order."""
    mix: Callable[[Sequence[tuple[object, object]]], dict[object, object]]
    mix = lambda items: dict(random.Random(seed).sample(items, len(items)))
    changes = {name: mix(list(getattr(of, name).items())) for name in ("rows", "cells", "baselines")}
    order = {
        name: random.Random(seed).sample(getattr(of, name), len(getattr(of, name)))
        for name in ("variants", "contrasts")
    }
    return dataclasses.replace(of, **changes, **{name: tuple(value) for name, value in order.items()})
