"""What a rehearsal is asked: a run that makes nothing, to see how runs behave."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FailureMode = Literal[
    "well",
    "fails",
    "crashes",
    "deaf",
    "leaves children",
    "prints",
    "torn",
    "silent",
    "says nothing",
    "breathless",
    "tells",
]


class FakeRequest(BaseModel):
    """How long it takes, and what goes wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(20, ge=1, le=100_000)
    pause: float = Field(0.05, ge=0, le=60)
    """Seconds a step takes."""
    manner: FailureMode = "well"
    """fails: with a sentence. crashes: SIGSEGV. deaf: ignores SIGTERM. leaves children: forks one that is deaf.
    prints: 20 MB in long lines. torn: half a line among its events. silent: leaves with 0 in the middle.
    says nothing: leaves with 3. breathless: a step event for every step. tells: prints its environment."""
