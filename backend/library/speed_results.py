"""How fast each variant is on this machine, as its speed tests found: they are runs, and their results are read."""

from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from backend.jobs.events import Count, Number, Seconds
from backend.jobs.run import runs_in

SHOWN = 100  # of the newest tests


class SpeedSpec(BaseModel):
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


class Speed(BaseModel):
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


def speeds(runs: Path) -> list[Speed]:
    """Every result, newest first."""
    found = []
    for run in reversed(runs_in(runs, "speed", newest=SHOWN)):
        if result := run.last("result"):
            with suppress(ValueError):  # of another version of the app
                found.append(Speed.model_validate(result.facts | {"at": result.at}))
    return found
