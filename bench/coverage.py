"""python -m bench.coverage [--quick]: how often our intervals and verdicts are right, with data whose truth is known.

Simulates rows of unequal difficulty, answered by models of unequal strength and graded from 1 to 5 in whole numbers,
so that many rows tie. It does not know how your judge or your rows behave.
"""

import argparse
from typing import Any, NamedTuple

import numpy as np

from backend.evaluation.contrasts import ScoreCell, ScoreTable
from backend.evaluation.verdict import verdict
from backend.judge.rubric import Criterion, Rubric
from backend.stats.paired import estimate, sign_flip

SEED = 2026
ROWS = (10, 20, 50, 100)
DIFFICULTY, NOISE, MIDDLE = 0.7, 0.8, 3.4
EFFECT = 0.4  # of the better of two, before rounding
EFFECTS = (0.0, 0.0, 0.2, 0.4)  # of four: two are alike, so to call either better is wrong
RESAMPLES = 1000
LARGE = 2_000_000  # rows that stand for the truth
POINTS = Rubric(
    id="points",
    title="points (1-5)",
    primary="points",
    criteria=(Criterion(name="points", title="Points", about="", low=1, high=5),),
)
Scores = np.ndarray[Any, np.dtype[np.float64]]


class Size(NamedTuple):
    """Repetitions of t intervals, of resampling tests, and of whole verdicts."""

    intervals: int
    draws: int
    verdicts: int


class Measured(NamedTuple):
    """Shares of the repetitions (0 to 1) for one number of rows."""

    ties: float
    student: float
    bootstrap: float
    flips: float


def graded(random: np.random.Generator, rows: int, effects: tuple[float, ...]) -> Scores:
    """Scores from 1 to 5, [rows, models]."""
    difficulty = random.normal(MIDDLE, DIFFICULTY, size=(rows, 1))
    latent = difficulty + np.array(effects) + random.normal(0, NOISE, size=(rows, len(effects)))
    points: Scores = np.clip(np.rint(latent), 1, 5)
    return points


def differences(random: np.random.Generator, rows: int, effect: float) -> Scores:
    """Differences between the better model and the other, [rows]."""
    points = graded(random, rows, (0.0, effect))
    gaps: Scores = points[:, 1] - points[:, 0]
    return gaps


def measured(rows: int, size: Size, truth: float) -> Measured:
    """Coverage of both intervals, and how often the sign-flip test finds a difference between equal models."""
    random = np.random.default_rng([SEED, rows])
    ties, student, bootstrap, flips = [], 0, 0, 0
    for _ in range(size.intervals):
        gaps = differences(random, rows, EFFECT)
        ties.append(float(np.mean(gaps == 0)))
        found = estimate(gaps.tolist())
        student += found.low is not None and found.high is not None and found.low <= truth <= found.high
    for _ in range(size.draws):
        gaps = differences(random, rows, EFFECT)
        means = gaps[random.integers(0, rows, size=(RESAMPLES, rows))].mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        bootstrap += bool(low <= truth <= high)
        p = sign_flip(differences(random, rows, 0.0).tolist())
        flips += p is not None and p <= 0.05
    return Measured(float(np.mean(ties)), student / size.intervals, bootstrap / size.draws, flips / size.draws)


def table(points: Scores) -> ScoreTable:
    """All pairs of models."""
    names = tuple(f"model {n}" for n in range(points.shape[1]))
    rows = {str(n): str(n) for n in range(len(points))}
    cells = {
        (str(n), name): ScoreCell("ok", {"points": float(v)})
        for n, row in enumerate(points)
        for name, v in zip(names, row, strict=True)
    }
    pairs = tuple((a, b) for n, a in enumerate(names) for b in names[n + 1 :])
    return ScoreTable(POINTS, rows, names, {}, pairs, cells)


class Claims(NamedTuple):
    """Shares (0 to 1) of tables with 20 rows and four models."""

    top: float
    """The best model has the highest mean."""
    wrong: float
    """The verdict calls a model better that is not better."""
    right: float
    """The verdict calls the best model better than another one, and has no wrong claim."""


def claims(tables: int) -> Claims:
    """Count right and wrong claims. To call one of two equal models better is also wrong."""
    random = np.random.default_rng([SEED, 4])
    strength = {f"model {n}": effect for n, effect in enumerate(EFFECTS)}
    best = max(strength, key=lambda name: strength[name])
    top = wrong = right = 0
    for _ in range(tables):
        points = graded(random, 20, EFFECTS)
        means = points.mean(axis=0)
        top += int(np.argmax(means)) == int(np.argmax(EFFECTS)) and np.count_nonzero(means == means.max()) == 1
        found = [one for one in verdict(table(points)).contrasts if one.clear]
        winners = [(one.variant, one.against)[:: 1 if one.decided == "better" else -1] for one in found]
        false = any(strength[a] <= strength[b] for a, b in winners)
        wrong += false
        right += not false and any(a == best for a, _ in winners)
    return Claims(top / tables, wrong / tables, right / tables)


def aim(name: str, value: float, low: float, high: float) -> None:
    """Print the line of an aim."""
    bound = f"{low:.2f}..{high:.2f}" if low else f"<= {high:.2f}"
    print(f"aim {name}: {value:.3f} ({bound}) {'met' if low <= value <= high else 'missed'}")


def main() -> None:
    """Simulate, print the table and the aims."""
    parser = argparse.ArgumentParser(description="Measure how often intervals and verdicts are right.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    size = Size(3000, 400, 250) if parser.parse_args().quick else Size(20_000, 3000, 2000)
    truth = float(differences(np.random.default_rng([SEED, 0]), LARGE, EFFECT).mean())
    print(
        f"true mean difference {truth:.3f} points; {size.intervals:,} repetitions, {size.draws:,} of resampling tests\n"
    )
    print("| rows | ties | paired t covers | percentile bootstrap covers | sign-flip false positives |")
    print("|--:|--:|--:|--:|--:|")
    found = {rows: measured(rows, size, truth) for rows in ROWS}
    for rows, row in found.items():
        print(f"| {rows} | {row.ties:.2f} | {row.student:.3f} | {row.bootstrap:.3f} | {row.flips:.3f} |")
    shares = claims(size.verdicts)
    print(
        f"\nFour models, 20 rows, {size.verdicts:,} tables: the highest mean is the best model's in {shares.top:.0%};"
    )
    print(f"the verdict is right about the best in {shares.right:.0%} and wrong about a model in {shares.wrong:.1%}.\n")
    for rows, row in found.items():
        aim(f"coverage at {rows} rows", row.student, 0.93, 0.97)
    aim("wrong claims", shares.wrong, 0.0, 0.05)


if __name__ == "__main__":
    main()
