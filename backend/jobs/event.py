"""What happened in a run: one line of its events.jsonl each."""

import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from backend import jsonl

Kind = Literal["again", "started", "step", "result", "failed", "ended"]
FILE = "events.jsonl"


class Event(BaseModel):
    """started, then steps and results, then ended; or failed, with the sentence a person is shown as `why`. A run that
    goes on later says again, and then the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    at: float = Field(default_factory=time.time)
    """Seconds since 1970."""
    facts: dict[str, Any] = Field(default_factory=dict)


def note(folder: Path, kind: Kind, **facts: Any) -> None:
    """Append an event to the run in `folder`. OSError if the disk refuses it; the events before it stay."""
    jsonl.append(folder / FILE, Event(kind=kind, facts=facts).model_dump())


def events(folder: Path) -> list[Event]:
    """Every event that can be read, oldest first."""
    found = []
    for record in jsonl.read(folder / FILE):
        try:
            found.append(Event.model_validate(record))
        except ValueError:
            continue
    return found
