"""What a training run is asked: every setting once, with its bounds and a sentence."""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from backend.core.files import read_whole
from backend.data.dataset import DatasetSpec
from models.templates import templates
from models.variant import ID

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ATTENTION = LINEARS[:4]
Method = Literal["lora", "qlora"]
Engine = Literal["auto", "transformers", "unsloth"]
TRIAL = 5  # steps of a try


def _known(name: str) -> str:
    if name != "own" and name not in templates():
        raise ValueError(f"there is no template {name!r}; there are own, {', '.join(templates())}")
    return name


class TrainSettings(BaseModel):
    """A value that is kept in the run and in everything the run makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=ID, title="Name", description="What the fine-tuned variant will be called.")
    base: str = Field(
        min_length=1,
        max_length=1000,
        title="Base",
        description="A model of the Hub (owner/name), a folder of this machine, or tiny_base, which is here.",
    )
    revision: str = Field(
        "", pattern=r"^[A-Za-z0-9_./-]{0,200}$", title="Revision of the base", description="Of the Hub; empty is main."
    )
    data: DatasetSpec
    template: Annotated[str, AfterValidator(_known)] = Field(
        "own",
        title="Template",
        description="own is the one the base was made with; another costs an instruct model what it knows of its own.",
    )
    learn: Literal["answers", "everything"] = Field(
        "answers", title="Loss on", description="Answers only, or prompts too."
    )
    max_length: int = Field(
        2048, ge=16, le=131_072, title="Longest row, tokens", description="What is beyond it is cut off."
    )
    method: Method = Field("lora", title="Method", description="qlora keeps the base in 4 bits (NF4) while training.")
    engine: Engine = Field(
        "auto", title="Engine", description="auto takes Unsloth on a CUDA GPU where it is installed."
    )
    rank: int = Field(16, ge=1, le=512, title="Rank", description="Of the two matrices beside each projection.")
    alpha: int = Field(16, ge=1, le=2048, title="Alpha", description="The update is scaled by alpha / rank.")
    rslora: bool = Field(False, title="rsLoRA", description="Scale by alpha / sqrt(rank): for high ranks.")
    dropout: float = Field(0.0, ge=0, le=0.9, title="Dropout", description="Of the adapter's inputs.")
    projections: Literal["all", "attention"] = Field(
        "all", title="Projections", description="All seven, or the four of attention."
    )
    steps: int = Field(120, ge=1, le=1_000_000, title="Steps", description="Updates of the adapter.")
    batch: int = Field(1, ge=1, le=256, title="Rows at a time", description="Held in memory together.")
    accumulation: int = Field(4, ge=1, le=1024, title="Accumulation", description="Times this many, for one step.")
    learning_rate: float = Field(2e-4, gt=0, le=1, title="Learning rate", description="At its highest.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", title="Schedule", description="How it falls after the warm-up."
    )
    warmup_steps: int = Field(5, ge=0, le=100_000, title="Warm-up steps", description="While it rises.")
    weight_decay: float = Field(0.01, ge=0, le=1, title="Weight decay", description="Of the adapter's weights.")
    optimizer: Literal["adamw_8bit", "adamw"] = Field(
        "adamw_8bit", title="Optimiser", description="adamw_8bit (bitsandbytes) keeps its state in 8 bits."
    )
    seed: int = Field(
        3407, ge=0, le=2**31 - 1, title="Training seed", description="Of the adapter and of the rows' order."
    )
    save_every: int = Field(
        20, ge=1, le=100_000, title="Save every, steps", description="What a stopped or killed run goes on from."
    )
    evaluate_every: int = Field(
        0, ge=0, le=100_000, title="Evaluate every, steps", description="Loss on held-out rows; 0 is never."
    )
    keep_best: bool = Field(
        False, title="Keep the best", description="The adapter of the lowest evaluation loss, not the last."
    )
    patience: int = Field(
        0, ge=0, le=1000, title="Patience", description="End after so many evaluations without a new low; 0 is never."
    )
    importance: bool = Field(
        False, title="Importance matrix", description="Measure at the end which inputs matter, for a better Q4."
    )
    track: Literal["none", "wandb"] = Field(
        "none", title="Track with", description="Weights & Biases: online with a key, else into the run's folder."
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        """Settings that need each other."""
        if (self.keep_best or self.patience) and not self.evaluate_every:
            raise ValueError("Keep the best and Patience need evaluations: set “Evaluate every, steps”")
        if self.patience and not self.keep_best:
            raise ValueError("Patience needs “Keep the best”, or it would end with a worse adapter than it had")
        if self.keep_best and self.save_every != self.evaluate_every:
            raise ValueError("“Save every” must be “Evaluate every”, or the best could be a step that was not saved")
        if self.method == "lora" and self.base.endswith("-bnb-4bit"):
            raise ValueError("this base is in 4 bits: choose the method qlora, or the base in 16 bits")
        if self.evaluate_every and not self.data.held_rows:
            raise ValueError("evaluations need an eval split: set “Eval rows”, or evaluate every 0 steps")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The projections that get an adapter."""
        return LINEARS if self.projections == "all" else ATTENTION

    @property
    def samples(self) -> int:
        """Rows that one step sees."""
        return self.batch * self.accumulation


class TrainRequest(BaseModel):
    """`trial`: a few steps to measure memory and time, of which nothing is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: TrainSettings
    trial: bool = False
    project: str = "peft-lab"
    """Of Weights & Biases."""

    @property
    def steps(self) -> int:
        return TRIAL if self.trial else self.spec.steps


def train_request(run: Path) -> TrainRequest:
    """What a training run was asked. ValueError or OSError if its spec.json does not say."""
    return TrainRequest.model_validate(json.loads(read_whole(run / "spec.json"))["asked"])
