"""What the training workers are asked: a spec, and whether it is the real thing or a try."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from backend.core.files import read_whole
from backend.training.request import TrainSpec

TRIAL = 5  # steps of a try


class Asked(BaseModel):
    """`trial`: a few steps to measure memory and time, of which nothing is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: TrainSpec
    trial: bool = False
    project: str = "peft-lab"
    """Of Weights & Biases."""

    @property
    def steps(self) -> int:
        return TRIAL if self.trial else self.spec.steps


def asked_of(run: Path) -> Asked:
    """What a training run was asked. ValueError or OSError if its spec.json does not say."""
    return Asked.model_validate(json.loads(read_whole(run / "spec.json"))["asked"])
