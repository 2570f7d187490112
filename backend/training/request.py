"""The requests of trainings and exports: every setting once, with its bounds and its label on the page."""

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
Learn = Literal["answers", "everything"]
Thoughts = Literal["keep", "drop"]
Quantisation = Literal["Q4_K_M", "Q5_K_M", "Q8_0", "F16"]
TRIAL = 5  # steps of a try


def _known(name: str) -> str:
    if name != "own" and name not in templates():
        raise ValueError(f"there is no chat template {name!r}. Choose own, {', '.join(templates())}")
    return name


class TrainSettings(BaseModel):
    """The settings of a training. They are stored with the run and with its adapter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=ID, title="Name", description="Name of the fine-tuned variant.")
    base: str = Field(
        min_length=1,
        max_length=1000,
        title="Base",
        description="A model on the Hub (owner/name), the absolute path of a folder, or tiny_base, the embedded model.",
    )
    revision: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_./-]{0,200}$",
        title="Revision of the base",
        description="Branch, tag or commit on the Hub; empty: main.",
    )
    data: DatasetSpec
    template: Annotated[str, AfterValidator(_known)] = Field(
        "own",
        title="Chat template",
        description="own: the template of the base. An instruct model that is trained with another template unlearns "
        "some of its abilities.",
    )
    learn: Learn = Field("answers", title="Loss on", description="The answers only, or the prompts as well.")
    thoughts: Thoughts = Field(
        "keep",
        title="Thoughts",
        description="Text between <think> and </think> in an answer: train on it, or drop it before the training.",
    )
    max_length: int = Field(
        2048, ge=16, le=131_072, title="Maximum length, tokens", description="Longer rows are cut off at the end."
    )
    method: Method = Field("lora", title="Method", description="qlora loads the base in 4 bits (NF4).")
    engine: Engine = Field(
        "auto",
        title="Engine",
        description="auto: Unsloth if it is installed and there is a CUDA GPU, otherwise Transformers.",
    )
    rank: int = Field(16, ge=1, le=512, title="Rank", description="Rank of the two LoRA matrices of each projection.")
    alpha: int = Field(16, ge=1, le=2048, title="Alpha", description="The LoRA update is scaled by alpha / rank.")
    rslora: bool = Field(False, title="rsLoRA", description="Scale by alpha / sqrt(rank) instead, for high ranks.")
    dropout: float = Field(0.0, ge=0, le=0.9, title="Dropout", description="Dropout of the inputs of the adapter.")
    projections: Literal["all", "attention"] = Field(
        "all",
        title="Projections",
        description="Layers that get LoRA matrices: all seven linear layers of a block, or the four of attention.",
    )
    steps: int = Field(120, ge=1, le=1_000_000, title="Steps", description="Optimiser steps.")
    batch: int = Field(1, ge=1, le=256, title="Batch size", description="Rows in memory at the same time.")
    accumulation: int = Field(4, ge=1, le=1024, title="Gradient accumulation", description="Batches per step.")
    learning_rate: float = Field(2e-4, gt=0, le=1, title="Learning rate", description="The highest, after the warm-up.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", title="Schedule", description="Of the learning rate after the warm-up."
    )
    warmup_steps: int = Field(
        5, ge=0, le=100_000, title="Warm-up steps", description="Steps in which the learning rate rises from 0."
    )
    weight_decay: float = Field(0.01, ge=0, le=1, title="Weight decay", description="Of the adapter's weights.")
    optimizer: Literal["adamw_8bit", "adamw"] = Field(
        "adamw_8bit", title="Optimiser", description="adamw_8bit: bitsandbytes, with its state in 8 bits."
    )
    seed: int = Field(
        3407,
        ge=0,
        le=2**31 - 1,
        title="Training seed",
        description="For the initial adapter and the order of the rows.",
    )
    save_every: int = Field(
        20,
        ge=1,
        le=100_000,
        title="Save every, steps",
        description="Steps between checkpoints. A stopped run is resumed from the newest.",
    )
    evaluate_every: int = Field(
        0,
        ge=0,
        le=100_000,
        title="Evaluate every, steps",
        description="Steps between measurements of the evaluation loss; 0: never.",
    )
    keep_best: bool = Field(
        False,
        title="Keep the best",
        description="Save the adapter with the lowest evaluation loss instead of the last one.",
    )
    patience: int = Field(
        0,
        ge=0,
        le=1000,
        title="Patience",
        description="Stop after this many evaluations without a lower loss; 0: never.",
    )
    importance: bool = Field(
        False,
        title="Importance matrix",
        description="Measure the activations after the training; an export to Q4 loses less with them.",
    )
    track: Literal["none", "wandb"] = Field(
        "none",
        title="Track with",
        description="Weights & Biases: online with a key, otherwise offline in the run's folder.",
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        """Check settings that depend on each other."""
        if (self.keep_best or self.patience) and not self.evaluate_every:
            raise ValueError("Keep the best and Patience need evaluations: set “Evaluate every, steps”")
        if self.patience and not self.keep_best:
            raise ValueError(
                "Patience needs “Keep the best”; otherwise the last adapter, which is not the best, would be saved"
            )
        if self.keep_best and self.save_every != self.evaluate_every:
            raise ValueError("“Save every” must equal “Evaluate every”; otherwise the best step may not be saved")
        if self.method == "lora" and self.base.endswith("-bnb-4bit"):
            raise ValueError("this base has 4-bit weights: choose the method qlora, or a base with 16-bit weights")
        if self.evaluate_every and not self.data.held_rows and self.data.splits == "numbers":
            raise ValueError("evaluations need an eval split: set “Eval rows”, or evaluate every 0 steps")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the layers that get LoRA matrices."""
        return LINEARS if self.projections == "all" else ATTENTION

    @property
    def samples(self) -> int:
        """Rows per step."""
        return self.batch * self.accumulation


class TrainRequest(BaseModel):
    """A training. With `trial`, a few steps measure memory and time, and nothing is saved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: TrainSettings
    trial: bool = False
    project: str = "peft-lab"
    """The project in Weights & Biases."""

    @property
    def steps(self) -> int:
        return TRIAL if self.trial else self.spec.steps


class ExportRequest(BaseModel):
    """Export the adapter of a finished training as a variant. `run` and `weights` are absolute paths of folders."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    id: str = Field(pattern=ID)
    weights: str
    form: Literal["merged", "adapter"] = "merged"
    quantisation: Quantisation = "Q4_K_M"
    """Of a merged model; an adapter is always F16."""
    importance: bool = False
    """Quantise with the importance matrix, which the training run must have measured."""


def train_request(run: Path) -> TrainRequest:
    """Read the request of a training run. ValueError or OSError if its spec.json cannot be read."""
    return TrainRequest.model_validate(json.loads(read_whole(run / "spec.json"))["asked"])
