"""Work on model files as the page shows it, read from the folders of its runs."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.jobs.launcher import waits_for
from backend.jobs.run import LIVE, RECENT, Run, State, folders_in, read_each
from models.variant import ID

KINDS = ("download", "bring", "verify", "speed")
ENDED_SHOWN, ENDED_SHOWN_FOR = 6, 86_400.0  # runs, and seconds since they were asked for


@dataclass(frozen=True)
class Transfer:
    """One run. Bytes, seconds since 1970, bytes per second, seconds left; 0 where nothing is known."""

    id: str
    kind: str
    variant: str
    """The id of the variant it makes or reads."""
    state: State
    step: str = ""
    """What it does now, in its own word: downloading, checking."""
    done: int = 0
    total: int = 0
    speed: float = 0.0
    left: float = 0.0
    note: str = ""
    why: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    """What it found or made, once it is done."""
    asked: float = 0.0

    @property
    def live(self) -> bool:
        return self.state in LIVE


def transfer(run: Run) -> Transfer:
    """What a run's folder says now."""
    state, asked = run.state, run.spec
    variant = str(asked.asked.get("id", asked.name))
    if not re.fullmatch(ID, variant):
        raise ValueError("what it makes or reads has no name of a variant")
    step = run.last("step") if state in ("running", "stopping") else None
    facts = step.facts if step else {}
    result = run.last("result") if state == "done" else None
    waiting = [other.spec.name for other in waits_for(run)] if state == "queued" else []
    return Transfer(
        id=run.id,
        kind=asked.kind,
        variant=variant,
        state=state,
        step=str(facts.get("state", "")),
        done=int(facts.get("done") or 0),
        total=int(facts.get("total") or 0),
        speed=float(facts.get("speed") or 0),
        left=float(facts.get("left") or 0),
        note=f"waits for {', '.join(waiting)}" if waiting else str(facts.get("note", "")),
        why=run.why,
        result=result.facts if result else {},
        asked=asked.created,
    )


def transfers(runs: Path) -> list[Transfer]:
    """The live ones, in the order they were asked for, then the newest that ended, then those that cannot be read."""
    found = folders_in(runs, *KINDS, newest=RECENT)
    odd = {run for run in found if run.fault}
    sound = [run for run in found if run not in odd]
    live = [run for run in sound if not (run.folder / "exit.json").exists() and run.live]
    lately = time.time() - ENDED_SHOWN_FOR
    ended = [run for run in reversed(sound) if run not in live and run.spec.created > lately][:ENDED_SHOWN]
    return read_each([*live, *ended, *(run for run in reversed(found) if run in odd)], transfer, unreadable)


def unreadable(run: Run, why: str) -> Transfer:
    """A run that cannot be read, under the name of its folder."""
    return Transfer(run.id, run.kind, run.id, "unreadable", why=why, asked=run.begun)
