"""The status of downloads, imports, verifications and speed tests, and the results of speed tests."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from backend.jobs.events import Seconds, SpeedTestResult
from backend.jobs.run import RECENT, Run, folders_in, read_each, runs_in
from backend.jobs.status import RunStatus, read_fields, unreadable_fields
from models.variant import ID

KINDS = ("download", "bring", "verify", "speed")
ENDED_SHOWN, ENDED_SHOWN_FOR = 6, 86_400.0  # ended runs that are shown, and seconds since they were requested
SHOWN = 100  # speed tests


@dataclass(frozen=True, kw_only=True)
class TransferStatus(RunStatus):
    """A download, an import, a verification or a speed test. Bytes, bytes per second, seconds left; 0 if unknown."""

    variant: str
    """The id of the variant that it makes or reads."""
    done: int = 0
    total: int = 0
    speed: float = 0.0
    left: float = 0.0

    @property
    def note(self) -> str:
        if self.waiting:
            return f"waits for {', '.join(self.waiting)}"
        return str(self.progress.get("note", ""))


def read_transfer(run: Run) -> TransferStatus:
    """Read the folder now. ValueError if it names no variant."""
    fields, request = read_fields(run), run.spec
    record = request.asked.get("variant")  # earlier versions wrote its fields without this name
    variant = str((record if isinstance(record, dict) else request.asked).get("id", request.name))
    if not re.fullmatch(ID, variant):
        raise ValueError("the request has no valid id of a variant")
    facts = fields["progress"]
    return TransferStatus(
        **fields,
        variant=variant,
        done=int(facts.get("done") or 0),
        total=int(facts.get("total") or 0),
        speed=float(facts.get("speed") or 0),
        left=float(facts.get("left") or 0),
    )


def transfers(runs: Path) -> list[TransferStatus]:
    """All live runs in the order of their requests, then the newest ended runs, then those that cannot be read."""
    folders = folders_in(runs, *KINDS, newest=RECENT)
    damaged = {run for run in folders if run.fault}
    readable = [run for run in folders if run not in damaged]
    live = [run for run in readable if not (run.folder / "exit.json").exists() and run.live]
    oldest = time.time() - ENDED_SHOWN_FOR
    ended = [run for run in reversed(readable) if run not in live and run.spec.created > oldest][:ENDED_SHOWN]
    return read_each([*live, *ended, *(run for run in reversed(folders) if run in damaged)], read_transfer, unreadable)


def unreadable(run: Run, why: str) -> TransferStatus:
    return TransferStatus(**unreadable_fields(run, why), variant=run.id)


class SpeedTestRequest(BaseModel):
    """Measure the speed of one variant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    weights: str
    model: str
    """The base's GGUF; `adapter`: the adapter's GGUF, or empty. Both are absolute paths."""
    adapter: str = ""
    quantisation: str = ""
    threads: int = Field(ge=1, le=256)
    prompt: int = Field(512, ge=8, le=8192)
    """Tokens of the prompt; at most half the context that the model was trained for."""
    generate: int = Field(64, ge=4, le=4096)
    """Generated tokens."""
    repeats: int = Field(3, ge=1, le=20)


class SpeedResult(SpeedTestResult):
    """A result, with the time of the measurement in seconds since 1970."""

    at: Seconds = 0.0


def speeds(runs: Path) -> list[SpeedResult]:
    """All results, newest first."""
    results = []
    for run in reversed(runs_in(runs, "speed", newest=SHOWN)):
        if result := run.last("result"):
            with suppress(ValueError):  # written by another version of the app
                results.append(SpeedResult.model_validate(result.facts | {"at": result.at}))
    return results
