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
from backend.training.artifacts import FOLDER, MADE, ExportRequest, TrainingRecord, read_record
from backend.training.request import TrainRequest, TrainSettings

MOST = 1e300  # what is beyond it, and what is no number, cannot be drawn
STEPS = 10**9  # no training has more
WIDTH = 0.02  # of all steps: the standard deviation of the smoothing


@dataclass(frozen=True)
class Curve:
    """Lists of one length each: steps with their losses, rates and norms; evaluations with their steps."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """The newest value of each fact: step, steps, epoch, samples, tokens, memory, left, tracked ..."""
    seconds: float = 0.0
    """Seconds of training, over all starts of the run."""


def read_curve(run: Path) -> Curve:
    """Read anew only when the file has changed. A torn or foreign line is passed over."""
    try:
        stat = (run / FILE).stat()
    except OSError:
        return Curve()
    return _curve(run, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=512)
def _curve(run: Path, size: int, changed: int) -> Curve:
    told = [event for event in events(run) if event.kind in ("started", "step")]
    points: dict[int, Sequence[float]] = {}
    seen: dict[int, float] = {}
    facts: dict[str, Any] = {}
    for event in told:
        if isinstance(begins := event.facts.get("begins"), int):  # what came after was lost, and is done again
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
        seconds=_seconds(told),
    )


def _rows(event: Event, name: str, width: int) -> list[Sequence[float]]:
    rows = event.facts.get(name)
    whole = rows if isinstance(rows, list) else []
    sound = [row for row in whole if isinstance(row, list) and len(row) == width and all(map(_number, row))]
    return [row for row in sound if 0 <= row[0] <= STEPS]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST


def _seconds(told: Sequence[Event]) -> float:
    total, began = 0.0, None
    for event in told:
        if event.kind == "started" or "begins" in event.facts:
            began = None
        elif "step" in event.facts:
            total += event.at - began if began is not None else 0.0
            began = event.at
    return total


def smoothed(values: Sequence[float]) -> list[float]:
    """Gaussian, as wide as WIDTH of the whole (one step at least); at the ends only over what is there."""
    if len(values) < 3:
        return list(values)
    sigma = max(1.0, WIDTH * len(values))
    reach = min(int(3 * sigma) + 1, len(values) - 1)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    known = np.ones(len(values))
    sums = np.convolve(values, bell)[reach:-reach]
    curve: list[float] = (sums / np.convolve(known, bell)[reach:-reach]).tolist()
    return curve


@dataclass(frozen=True, kw_only=True)
class TrainingStatus(RunStatus):
    """`spec` of a training or a try, `export` of an export; None if another version of the app wrote it.

    `resumable` is the step that it can be resumed from; None where it cannot be resumed, or has ended well.
    """

    spec: TrainSettings | None = None
    export: ExportRequest | None = None
    made: TrainingRecord | None = None
    curve: Curve = field(default_factory=Curve)
    resumable: int | None = None


def unreadable(run: Run, why: str) -> TrainingStatus:
    return TrainingStatus(**unreadable_fields(run, why))


def read_status(run: Run) -> TrainingStatus:
    """Read the folder now."""
    fields = read_fields(run)
    kind, state = fields["kind"], fields["state"]
    trained = _trained(run) if kind in ("train", "try") else None
    ended = kind == "train" and state in ("failed", "stopped", "lost")
    newest = checkpoints.newest(run.folder) if ended else None
    return TrainingStatus(
        **fields,
        spec=trained.spec if trained else None,
        export=_export(run) if kind == "export" else None,
        made=_made(run) if state == "done" and kind == "train" else None,
        curve=read_curve(run.folder),
        resumable=(newest[0] if newest else 0) if ended else None,
    )


def _trained(run: Run) -> TrainRequest | None:
    try:
        return TrainRequest.model_validate(run.spec.asked)
    except ValueError:  # of an older or a newer app
        return None


def _made(run: Run) -> TrainingRecord | None:
    try:
        return _made_then(run.folder, (run.folder / FOLDER / MADE).stat().st_mtime_ns)
    except (LabError, OSError):  # it was removed
        return None


@lru_cache(maxsize=512)
def _made_then(run: Path, changed: int) -> TrainingRecord:
    return read_record(run)


def _export(run: Run) -> ExportRequest | None:
    try:
        return ExportRequest.model_validate(run.spec.asked)
    except ValueError:
        return None
