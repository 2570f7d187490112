"""The request of the fake job, which makes nothing: for tests of runs."""

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
    """`steps` of `pause` seconds each; `manner` is the failure, in the middle of the steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(20, ge=1, le=100_000)
    pause: float = Field(0.05, ge=0, le=60)
    manner: FailureMode = "well"
    """fails: LabError. crashes: SIGSEGV. deaf: ignores SIGTERM. leaves children: starts a process that ignores SIGTERM.
    prints: 20 MB in long lines. torn: half a line in its events. silent: exits with 0. says nothing: exits with 3.
    breathless: writes an event for every step. tells: prints its environment.
    """
