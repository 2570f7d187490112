"""The status of a training, a try or an export, and the loss curve of a training, read from the run's folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from backend.core.errors import LabError
from backend.jobs.events import FILE, Event, events
from backend.jobs.run import Run
from backend.jobs.status import RunStatus, read_fields, unreadable_fields
from backend.training import checkpoints
from backend.training.artifacts import FOLDER, MADE, TrainingRecord, read_record
from backend.training.request import ExportRequest, TrainRequest, TrainSettings

MAX_VALUE = 1e300  # greater values and NaN cannot be drawn
MAX_STEP = 10**9
SMOOTHING = 0.02  # standard deviation of the Gaussian, as a share of all steps


@dataclass(frozen=True)
class Curve:
    """The curves of a training. `steps`, `losses`, `rates` and `norms` (of the gradient) have the same length.

    `evaluated` are the steps of `evaluations` (losses).
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """The newest value of each field of TrainStep."""
    seconds: float = 0.0
    """Seconds of training, over all starts of the run."""


def read_curve(run: Path) -> Curve:
    """The curve of a run; cached until the file changes. Incomplete and unknown lines are skipped."""
    try:
        stat = (run / FILE).stat()
    except OSError:
        return Curve()
    return _curve(run, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=512)
def _curve(run: Path, size: int, changed: int) -> Curve:
    history = [event for event in events(run) if event.kind in ("started", "step")]
    points: dict[int, Sequence[float]] = {}
    seen: dict[int, float] = {}
    facts: dict[str, Any] = {}
    for event in history:
        if isinstance(begins := event.facts.get("begins"), int):  # later steps were lost and are done again
            points = {step: point for step, point in points.items() if step <= begins}
            seen = {step: loss for step, loss in seen.items() if step <= begins}
        points |= {int(point[0]): [float(value) for value in point] for point in _rows(event, "points", 4)}
        seen |= {int(point[0]): float(point[1]) for point in _rows(event, "evaluations", 2)}
        facts |= {name: value for name, value in event.facts.items() if name not in ("points", "evaluations")}
    ordered = [points[step] for step in sorted(points)]
    return Curve(
        steps=[int(point[0]) for point in ordered],
        losses=[point[1] for point in ordered],
        rates=[point[2] for point in ordered],
        norms=[point[3] for point in ordered],
        evaluated=sorted(seen),
        evaluations=[seen[step] for step in sorted(seen)],
        facts=facts,
        seconds=_seconds(history),
    )


def _rows(event: Event, name: str, width: int) -> list[Sequence[float]]:
    rows = event.facts.get(name)
    rows = rows if isinstance(rows, list) else []
    valid = [row for row in rows if isinstance(row, list) and len(row) == width and all(map(_number, row))]
    return [row for row in valid if 0 <= row[0] <= MAX_STEP]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_VALUE


def _seconds(history: Sequence[Event]) -> float:
    """Seconds between the steps of each start, added up."""
    total, last = 0.0, None
    for event in history:
        if event.kind == "started" or "begins" in event.facts:
            last = None
        elif "step" in event.facts:
            total += event.at - last if last is not None else 0.0
            last = event.at
    return total


def smoothed(values: Sequence[float]) -> list[float]:
    """Smooth with a Gaussian whose standard deviation is SMOOTHING x len(values), at least 1.

    At both ends the weights are normalised over the values that exist.
    """
    if len(values) < 3:
        return list(values)
    sigma = max(1.0, SMOOTHING * len(values))
    reach = min(int(3 * sigma) + 1, len(values) - 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    sums = np.convolve(values, weights)[reach:-reach]
    curve: list[float] = (sums / np.convolve(np.ones(len(values)), weights)[reach:-reach]).tolist()
    return curve


@dataclass(frozen=True, kw_only=True)
class TrainingStatus(RunStatus):
    """`spec` is that of a training or a try, `export` that of an export; None if they cannot be read.

    `resumable` is the step that the training can be resumed from; None if it cannot be resumed.
    """

    spec: TrainSettings | None = None
    export: ExportRequest | None = None
    made: TrainingRecord | None = None
    curve: Curve = field(default_factory=Curve)
    resumable: int | None = None


def unreadable(run: Run, why: str) -> TrainingStatus:
    return TrainingStatus(**unreadable_fields(run, why))


def read_status(run: Run) -> TrainingStatus:
    """One reading of the folder."""
    fields = read_fields(run)
    kind, state = fields["kind"], fields["state"]
    request = _request(run) if kind in ("train", "try") else None
    ended = kind == "train" and state in ("failed", "stopped", "lost")
    newest = checkpoints.newest(run.folder) if ended else None
    return TrainingStatus(
        **fields,
        spec=request.spec if request else None,
        export=_export(run) if kind == "export" else None,
        made=_record(run) if state == "done" and kind == "train" else None,
        curve=read_curve(run.folder),
        resumable=(newest[0] if newest else 0) if ended else None,
    )


def _request(run: Run) -> TrainRequest | None:
    try:
        return TrainRequest.model_validate(run.spec.asked)
    except ValueError:  # written by another version of the app
        return None


def _record(run: Run) -> TrainingRecord | None:
    try:
        return _cached_record(run.folder, (run.folder / FOLDER / MADE).stat().st_mtime_ns)
    except (LabError, OSError):  # it was removed
        return None


@lru_cache(maxsize=512)
def _cached_record(run: Path, changed: int) -> TrainingRecord:
    return read_record(run)


def _export(run: Run) -> ExportRequest | None:
    try:
        return ExportRequest.model_validate(run.spec.asked)
    except ValueError:
        return None
