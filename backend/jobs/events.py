"""What happened in a run: one line of its events.jsonl each."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from backend.core import jsonl

Kind = Literal["again", "started", "step", "result", "failed", "ended"]
FILE = "events.jsonl"
NEWEST = 256 << 20  # bytes of the file that are read
LAST = 4_102_444_800  # seconds since 1970, the beginning of 2100
Seconds = Annotated[float, Field(ge=0, le=LAST, allow_inf_nan=False)]
"""Since 1970: a time that can be written as a date."""
Count = Annotated[int, Field(ge=0, le=10**15)]
Text = Annotated[str, Field(max_length=20_000)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


class Event(BaseModel):
    """started, then steps and results, then ended; or failed, with the sentence a person is shown as `why`. A run that
    goes on later says again, and then the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    at: float = Field(default_factory=time.time)
    """Seconds since 1970."""
    facts: dict[str, Any] = Field(default_factory=dict)


class Facts(TypedDict, total=False):
    """The facts of any job that a page computes with. Others are passed on as they are."""

    state: Text
    note: Text
    why: Text
    tracked: Text
    id: Text
    said: Annotated[list[Text], Field(max_length=1000)]
    step: Count
    steps: Count
    samples: Count
    tokens: Count
    memory: Count
    done: Count
    total: Count
    size: Count
    failed: Count
    unknown: Count
    left: Number | None
    epoch: Number
    speed: Number
    seconds: Number
    seconds_per_step: Number
    tokens_per_second: Number
    generation_speed: Number
    prompt_speed: Number
    dollars: Number
    waiting_until: Seconds


_FACTS = TypeAdapter(Facts)


def append_event(folder: Path, kind: Kind, **facts: Any) -> None:
    """Append an event to the run in `folder`. OSError if the disk refuses it; the events before it stay."""
    jsonl.append(folder / FILE, Event(kind=kind, facts=facts).model_dump())


def event_of(line: bytes) -> Event | None:
    """The event of a line; None for a torn or a foreign one."""
    try:
        return Event.model_validate_json(line)
    except ValueError:
        return None


def impossible(event: Event) -> str:
    """What cannot be true of an event: its time, or a fact of another type than this app writes; empty if nothing."""
    if not 0 <= event.at <= LAST:
        return f"the time {event.at:g}"
    try:
        _FACTS.validate_python(event.facts, strict=True)
    except ValidationError as error:
        return f"the fact {error.errors()[0]['loc'][0]} with an impossible value"
    return ""


def events(folder: Path) -> list[Event]:
    """Every event that can be read and can be true, oldest first."""
    lines = jsonl.lines(folder / FILE, NEWEST)
    return [event for line in lines if (event := event_of(line)) and not impossible(event)]
