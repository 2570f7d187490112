"""`RunStatus`: one reading of the folder of a run. Pages use it and do not read the folder again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.jobs.launcher import waits_for
from backend.jobs.run import LIVE, Run, State


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """`why` is the reason of its end, if there is one; `created` is in seconds since 1970."""

    id: str
    kind: str
    name: str
    state: State
    why: str = ""
    created: float = 0.0
    waiting: tuple[str, ...] = ()
    """Names of the runs that a queued one waits for."""
    progress: Mapping[str, Any] = field(default_factory=dict)
    """The facts of its newest step event, until it is done."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The facts of its result event, when it is done."""
    folder: Path = Path()

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def activity(self) -> str:
        """What it is doing, in a word or two: downloading, tokenising."""
        return str(self.progress.get("state", ""))

    @property
    def log(self) -> str:
        """The last lines of its output, read now."""
        return Run(self.folder).log()


def read_fields(run: Run) -> dict[str, Any]:
    """The fields of a `RunStatus`, for its subclasses. OSError or ValueError if the folder cannot be read."""
    state, request = run.state, run.spec
    step = run.last("step") if state != "done" else None
    result = run.last("result") if state == "done" else None
    return {
        "id": run.id,
        "kind": request.kind,
        "name": request.name,
        "state": state,
        "why": run.why,
        "created": request.created,
        "waiting": tuple(other.spec.name for other in waits_for(run)) if state == "queued" else (),
        "progress": step.facts if step else {},
        "result": result.facts if result else {},
        "folder": run.folder,
    }


def unreadable_fields(run: Run, why: str) -> dict[str, Any]:
    """As read_fields, for a run that cannot be read. Its name is that of its folder."""
    names = {"id": run.id, "kind": run.kind, "name": run.id}
    return {**names, "state": "unreadable", "why": why, "created": run.created, "folder": run.folder}
