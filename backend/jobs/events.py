"""events.jsonl: the events of a run, one per line, and the typed facts of each job's steps and results."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from backend.core import jsonl

Kind = Literal["again", "started", "step", "result", "failed", "ended"]
FILE = "events.jsonl"
NEWEST = 256 << 20  # bytes of the file that are read
LAST = 4_102_444_800  # seconds since 1970, the beginning of 2100
Seconds = Annotated[float, Field(ge=0, le=LAST, allow_inf_nan=False)]
"""Seconds since 1970."""
Count = Annotated[int, Field(ge=0, le=10**15)]
Text = Annotated[str, Field(max_length=20_000)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


class Event(BaseModel):
    """The order is: started, steps, result, ended. Or failed, with the sentence for the page as `why`. A run that is
    resumed writes again, then the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    at: float = Field(default_factory=time.time)
    """Seconds since 1970."""
    facts: dict[str, Any] = Field(default_factory=dict)


class StepFacts(BaseModel):
    """Facts of a step event that all jobs have. A job with more facts has a subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Text = ""
    """What the job is doing, in a word or two."""
    note: Text = ""
    done: Count = 0
    total: Count = 0


class FakeStep(StepFacts):
    step: Count
    steps: Count


class TransferStep(StepFacts):
    """Of a download. `done` and `total` are bytes, `speed` bytes per second, `left` seconds or None if unknown."""

    attempt: Count = 1
    speed: Number = 0.0
    left: Number | None = None


class TrainStep(StepFacts):
    """Of a training or a try. `left` and `grace` are seconds, `memory` bytes.

    `points` are [step, loss, learning rate, gradient norm], `evaluations` [step, loss]: those since the last event.
    """

    begins: Count = 0
    """The step that a resumed training continues from: later points of earlier events were lost."""
    said: Annotated[list[Text], Field(max_length=1000)] = []
    """Warnings, a sentence each."""
    tracked: Text = ""
    """The page of the run at Weights & Biases, or its folder."""
    step: Count = 0
    steps: Count = 0
    epoch: Number = 0.0
    samples: Count = 0
    tokens: Count = 0
    tokens_per_second: Number = 0.0
    left: Number | None = None
    memory: Count = 0
    grace: Number = 0.0
    """The time that the worker needs to save when it is stopped."""
    points: list[list[float]] = []
    evaluations: list[list[float]] = []


class EvaluateStep(StepFacts):
    """Of an evaluation. `done` and `total` are answers or judgements."""

    tokens_per_second: Number = 0.0
    failed: Count = 0
    unknown: Count = 0
    """Calls whose outcome is unknown, because the run was killed."""
    dollars: Number = 0.0
    waiting_until: Seconds = 0.0


class FailedFacts(BaseModel):
    """Of a failed event: the sentence that the page shows."""

    why: Text = ""


class ResultFacts(BaseModel):
    """Facts of a result event. Each job has a subclass. Sizes and memory are in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FakeResult(ResultFacts):
    steps: Count


class ImportResult(ResultFacts):
    """The file that was registered as variant `id`."""

    id: Text
    file: Text
    size: Count
    sha256: Text
    seconds: Number


class DownloadResult(ImportResult):
    commit: Text
    """Of the repository, 40 digits."""
    from_cache: bool
    """Whether the file was already in the Hub's cache on this machine."""
    converted: bool
    """Whether a PEFT adapter was written as GGUF."""


class VerifyResult(ResultFacts):
    ok: bool
    id: Text
    sha256: Text
    size: Count


class SpeedTestResult(ResultFacts):
    """Speeds are in tokens per second, medians of `repeats` rounds. `prompt` and `generate` are numbers of tokens."""

    id: Text
    quantisation: Text
    size: Count
    prompt_speed: Number
    generation_speed: Number
    memory: Count
    prompt: Count
    generate: Count
    repeats: Count
    threads: Count
    machine: Text


class TrialResult(ResultFacts):
    """Of a try: the first steps of a training, to measure its speed and memory."""

    seconds_per_step: Number
    memory: Count
    tokens: Count


class DatasetResult(ResultFacts):
    """Rows of the training split, rows of the eval split, and rows that were dropped."""

    rows: Count
    held: Count
    dropped: Count


class TrainResult(ResultFacts):
    """A loss that was not measured is None. `seconds` counts the training steps only."""

    step: Count
    loss_first: Number | None
    loss_last: Number | None
    eval_first: Number | None
    eval_best: Number | None
    seconds: Number
    memory: Count


class ExportResult(ResultFacts):
    """The file that was registered as variant `id`. `agreement` to `positions` compare it with the trained model (see
    export.check.LogitComparison); they are None or 0 if it was not compared.
    """

    id: Text
    file: Text
    size: Count
    quantisation: Text
    over: Text
    sha256: Text
    memory: Count
    seconds: Number
    agreement: Number | None = None
    kl: Number | None = None
    difference: Number | None = None
    positions: Count = 0


class EvaluateResult(ResultFacts):
    rows: Count
    answers: Count
    failed: Count
    """Answers that could not be generated."""
    unknown: Count
    """Calls whose outcome is unknown, because the run was killed."""


MODELS: tuple[type[BaseModel], ...] = (
    FakeStep, TransferStep, TrainStep, EvaluateStep, FailedFacts, FakeResult, DownloadResult, VerifyResult,
    SpeedTestResult, TrialResult, DatasetResult, TrainResult, ExportResult, EvaluateResult,
)  # fmt: skip


def _fields() -> dict[str, Any]:
    """The types of the fields of all classes above, without the fields that their reader checks itself."""
    return {
        name: Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        for model in MODELS
        for name, field in model.model_fields.items()
        if name not in ("points", "evaluations", "begins", "grace")
    }


FACTS = _fields()
"""Types of facts by name. All events that are read are checked with them."""
_Facts = create_model("_Facts", **{name: (kind, None) for name, kind in FACTS.items()})  # type: ignore[call-overload]


def append_event(folder: Path, kind: Kind, **facts: Any) -> None:
    """Append an event to the run in `folder`. OSError if it cannot be written; older events are kept."""
    jsonl.append(folder / FILE, Event(kind=kind, facts=facts).model_dump())


def event_of(line: bytes) -> Event | None:
    """Parse a line; None if it is incomplete or is not an event."""
    try:
        return Event.model_validate_json(line)
    except ValueError:
        return None


def impossible(event: Event) -> str:
    """What is impossible in an event: its time, or the type or range of a fact; empty if nothing is."""
    if not 0 <= event.at <= LAST:
        return f"the time {event.at:g}"
    try:
        _Facts.model_validate(event.facts, strict=True)
    except ValidationError as error:
        return f"the fact {error.errors()[0]['loc'][0]} with an impossible value"
    return ""


def events(folder: Path) -> list[Event]:
    """All valid events, oldest first."""
    lines = jsonl.lines(folder / FILE, NEWEST)
    return [event for line in lines if (event := event_of(line)) and not impossible(event)]
