"""Work on model files as the page shows it, read from the folders of its runs."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from backend.jobs.events import Count, Number, Seconds
from backend.jobs.launcher import waits_for
from backend.jobs.run import LIVE, RECENT, Run, State, folders_in, read_each, runs_in
from models.variant import ID

KINDS = ("download", "bring", "verify", "speed")
ENDED_SHOWN, ENDED_SHOWN_FOR = 6, 86_400.0  # runs, and seconds since they were asked for
SHOWN = 100  # of the newest tests


@dataclass(frozen=True)
class TransferStatus:
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


def read_transfer(run: Run) -> TransferStatus:
    """What a run's folder says now."""
    state, asked = run.state, run.spec
    variant = str(asked.asked.get("id", asked.name))
    if not re.fullmatch(ID, variant):
        raise ValueError("what it makes or reads has no name of a variant")
    step = run.last("step") if state in ("running", "stopping") else None
    facts = step.facts if step else {}
    result = run.last("result") if state == "done" else None
    waiting = [other.spec.name for other in waits_for(run)] if state == "queued" else []
    return TransferStatus(
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


def transfers(runs: Path) -> list[TransferStatus]:
    """The live ones, in the order they were asked for, then the newest that ended, then those that cannot be read."""
    found = folders_in(runs, *KINDS, newest=RECENT)
    odd = {run for run in found if run.fault}
    sound = [run for run in found if run not in odd]
    live = [run for run in sound if not (run.folder / "exit.json").exists() and run.live]
    lately = time.time() - ENDED_SHOWN_FOR
    ended = [run for run in reversed(sound) if run not in live and run.spec.created > lately][:ENDED_SHOWN]
    return read_each([*live, *ended, *(run for run in reversed(found) if run in odd)], read_transfer, unreadable)


def unreadable(run: Run, why: str) -> TransferStatus:
    """A run that cannot be read, under the name of its folder."""
    return TransferStatus(run.id, run.kind, run.id, "unreadable", why=why, asked=run.begun)


class SpeedTestRequest(BaseModel):
    """A speed test of one variant by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    weights: str
    model: str
    """The base's GGUF, an absolute path; `adapter` likewise, or empty."""
    adapter: str = ""
    quantisation: str = ""
    threads: int = Field(ge=1, le=256)
    prompt: int = Field(512, ge=8, le=8192)
    """Tokens read; half the context the model was trained for, if that is less."""
    generate: int = Field(64, ge=4, le=4096)
    """Tokens written."""
    repeats: int = Field(3, ge=1, le=20)


class SpeedResult(BaseModel):
    """The result. Tokens per second are medians; `memory` is the peak in bytes, `size` the files' bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    quantisation: str
    size: Count
    prompt_speed: Number
    generation_speed: Number
    memory: Count
    prompt: Count
    generate: Count
    repeats: Count
    threads: Count
    machine: str
    at: Seconds = 0.0
    """Seconds since 1970."""


def speeds(runs: Path) -> list[SpeedResult]:
    """Every result, newest first."""
    found = []
    for run in reversed(runs_in(runs, "speed", newest=SHOWN)):
        if result := run.last("result"):
            with suppress(ValueError):  # of another version of the app
                found.append(SpeedResult.model_validate(result.facts | {"at": result.at}))
    return found
