"""How a training, a try or an export stands, as the page shows it."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend.core.errors import LabError
from backend.jobs.launcher import waits_for
from backend.jobs.run import LIVE, Run, State
from backend.training import checkpoints
from backend.training.artifacts import FOLDER, MADE, ExportSpec, Made, made_in
from backend.training.asked import Asked
from backend.training.curve import Curve, curve
from backend.training.request import TrainSpec


@dataclass(frozen=True)
class Standing:
    """One run. `resumable` is the step it would go on from; None where it cannot or need not."""

    id: str
    kind: str
    name: str
    state: State
    why: str
    asked: float
    spec: TrainSpec | None = None
    export: ExportSpec | None = None
    made: Made | None = None
    curve: Curve = field(default_factory=Curve)
    result: dict[str, Any] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    resumable: int | None = None
    folder: Path = Path()

    @property
    def log(self) -> str:
        """The newest lines of what it printed, read when they are wanted."""
        return Run(self.folder).log()

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def doing(self) -> str:
        """What it does now, in its own word."""
        return str(self.curve.facts.get("state", ""))


def unreadable(run: Run, why: str) -> Standing:
    """A run that cannot be read, under the name of its folder."""
    return Standing(run.id, run.kind, run.id, "unreadable", why, asked=run.begun, folder=run.folder)


def standing(run: Run) -> Standing:
    """Read from its folder now."""
    state, asked = run.state, run.spec
    result = run.last("result") if state == "done" else None
    trained = _trained(run) if asked.kind in ("train", "try") else None
    ended = asked.kind == "train" and state in ("failed", "stopped", "lost")
    newest = checkpoints.newest(run.folder) if ended else None
    return Standing(
        id=run.id,
        kind=asked.kind,
        name=asked.name,
        state=state,
        why=run.why,
        asked=asked.created,
        spec=trained.spec if trained else None,
        export=_export(run) if asked.kind == "export" else None,
        made=_made(run) if state == "done" and asked.kind == "train" else None,
        curve=curve(run.folder),
        result=result.facts if result else {},
        waiting=tuple(other.spec.name for other in waits_for(run)) if state == "queued" else (),
        resumable=(newest[0] if newest else 0) if ended else None,
        folder=run.folder,
    )


def _trained(run: Run) -> Asked | None:
    try:
        return Asked.model_validate(run.spec.asked)
    except ValueError:  # of an older or a newer app
        return None


def _made(run: Run) -> Made | None:
    try:
        return _made_then(run.folder, (run.folder / FOLDER / MADE).stat().st_mtime_ns)
    except (LabError, OSError):  # somebody took it away
        return None


@lru_cache(maxsize=512)
def _made_then(run: Path, changed: int) -> Made:
    return made_in(run)


def _export(run: Run) -> ExportSpec | None:
    try:
        return ExportSpec.model_validate(run.spec.asked)
    except ValueError:
        return None
