"""What a training run leaves for those that come after it, and what an export is asked.

runs/<id>/adapter/
  adapter_model.safetensors, adapter_config.json     the adapter, as PEFT saves it
  tokenizer.json, tokenizer_config.json, ...          the tokenizer, its template the one that was trained
  made.json                                           Made: what made it
  reference.npz                                       tokens [t] int32; logits [t - first, vocabulary] float16 of the
                                                      trained model at positions first..t-1; first int
  importance.npz                                      optional: GGUF weight name -> [inputs] float32, mean of squares
  README.md                                           the card
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.core.errors import LabError, short
from backend.core.files import read_whole
from backend.core.units import amount
from backend.jobs.events import Count, Number
from backend.training.request import TrainSettings
from models.variant import ID

FOLDER = "adapter"
MADE, REFERENCE, IMPORTANCE, CARD = "made.json", "reference.npz", "importance.npz", "README.md"


class TrainingRecord(BaseModel):
    """Of a finished training run. Losses are None where none was measured; seconds are of training alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: TrainSettings
    base: str
    """The 16-bit base, as its makers name it: what the adapter is merged into."""
    folder: str = ""
    """Where that base lies, if it is a folder of this machine."""
    commit: str = ""
    """Of the base the training used, if it came from the Hub."""
    template: str
    """Jinja: the chat template that was trained."""
    data: str
    """sha256 of the rows, in their order."""
    data_commit: str = ""
    rows: Count
    held: Count
    tokens_trained: Count
    step: Count
    """The step whose weights these are."""
    steps: Count
    samples: Count
    loss_first: Number | None = None
    loss_last: Number | None = None
    eval_first: Number | None = None
    eval_best: Number | None = None
    eval_kept: Number | None = None
    """The evaluation loss at `step`."""
    seconds: Number
    memory: Count
    """Bytes, the most the process had."""
    engine: str
    machine: str
    versions: dict[str, str] = Field(default_factory=dict)


class ExportRequest(BaseModel):
    """A finished training run to be made a variant. `run` and `weights` are absolute folders."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    id: str = Field(pattern=ID)
    weights: str
    form: Literal["merged", "adapter"] = "merged"
    quantisation: Literal["Q4_K_M", "Q5_K_M", "Q8_0", "F16"] = "Q4_K_M"
    """Of a merged model; an adapter is F16."""
    importance: bool = False
    """Whether to quantise with the importance matrix, which the training run must have measured."""


def read_record(run: Path) -> TrainingRecord:
    """What a training run made. LabError if it has not made anything yet."""
    path = run / FOLDER / MADE
    try:
        return TrainingRecord.model_validate_json(read_whole(path))
    except OSError:
        raise LabError(f"{run.name} has not made an adapter. Let it finish, or resume it, then export.") from None
    except ValueError as error:
        raise LabError(f"The record of {run.name} cannot be read ({path.name}). Train again.") from error


def card(made: TrainingRecord) -> str:
    """Markdown."""
    rows = "\n".join(f"| {title} | {value} |" for title, value in facts(made))
    table = f"# {made.spec.name}\n\n| | |\n|---|---|\n{rows}\n"
    return f"{table}\n## Prompt template\n\n```jinja\n{made.template.strip()}\n```\n"


def facts(made: TrainingRecord) -> list[tuple[str, str]]:
    """The lines of the card, in order."""
    spec = made.spec
    scale = "alpha / sqrt(rank)" if spec.rslora else "alpha / rank"
    rows = [
        ("Base", short(made.base) + _at(made.commit)),
        ("Method", f"{spec.method}, rank {spec.rank}, alpha {spec.alpha} ({scale}), {spec.projections} projections"),
        ("Data", f"{short(spec.data.source)}{_at(made.data_commit)}, sha256 {made.data[:16]}"),
        ("Rows", f"{made.rows:,} trained on, {made.held:,} held out"),
        ("Template", f"{spec.template}, loss on {spec.learn}"),
        ("Optimiser", f"{spec.optimizer}, {spec.learning_rate:g} {spec.schedule}, {spec.warmup_steps} warm-up steps"),
        ("Steps", f"{made.steps:,} of {spec.steps:,}, {spec.samples} rows each; {made.samples:,} rows seen"),
        ("Tokens", f"{made.tokens_trained:,}"),
        ("Loss", _fall(made.loss_first, made.loss_last, " (mean of the last 10 steps)")),
        ("Evaluation loss", _fall(made.eval_first, made.eval_kept)),
        ("Lowest evaluation loss", f"{made.eval_best:.3f}" if made.eval_best is not None else ""),
        ("Adapter of", f"step {made.step:,}"),
        ("Time", f"{made.seconds:,.0f} s"),
        ("Memory", amount(made.memory)),
        ("Machine", made.machine),
        ("Engine", ", ".join([made.engine, *(f"{name} {version}" for name, version in made.versions.items())])),
        ("Seed", str(spec.seed)),
    ]
    return [(title, text) for title, text in rows if text]


def _at(commit: str) -> str:
    return f" at {commit[:12]}" if commit else ""


def _fall(first: float | None, last: float | None, how: str = "") -> str:
    return f"{first:.3f} to {last:.3f}{how}" if first is not None and last is not None else ""
