"""The adapter folder of a finished training: its record and its model card.

runs/<id>/adapter/
  adapter_model.safetensors, adapter_config.json     the adapter, as PEFT saves it
  tokenizer.json, tokenizer_config.json, ...          the tokenizer, with the chat template of the training
  made.json                                           TrainingRecord
  reference.npz                                       tokens [t] int32; logits [t - first, vocabulary] float16 of the
                                                      trained model at positions first..t-1; first int
  importance.npz                                      optional: GGUF weight name -> [inputs] float32, mean of squares
  README.md                                           the model card
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from backend.core.errors import LabError, short
from backend.core.files import read_whole
from backend.core.units import amount
from backend.jobs.events import Count, Number
from backend.training.request import TrainSettings

FOLDER = "adapter"
MADE, REFERENCE, IMPORTANCE, CARD = "made.json", "reference.npz", "importance.npz", "README.md"


class TrainingRecord(BaseModel):
    """Facts about a finished training. A loss that was not measured is None. `seconds` is the time of the steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: TrainSettings
    base: str
    """Name of the 16-bit base that the adapter is merged into."""
    folder: str = ""
    """The folder of that base, if it is on this machine."""
    commit: str = ""
    """Commit of the base, if it came from the Hub."""
    template: str
    """The chat template of the training, as Jinja."""
    data: str
    """sha256 of the rows in their order."""
    data_commit: str = ""
    rows: Count
    held: Count
    tokens_trained: Count
    step: Count
    """The step whose weights were saved."""
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
    """Peak of the process, in bytes."""
    engine: str
    machine: str
    versions: dict[str, str] = Field(default_factory=dict)


def read_record(run: Path) -> TrainingRecord:
    """Read the record of a finished training. LabError if there is none."""
    path = run / FOLDER / MADE
    try:
        return TrainingRecord.model_validate_json(read_whole(path))
    except OSError:
        raise LabError(f"{run.name} has no adapter yet. Wait until it is done, or resume it, then export it.") from None
    except ValueError as error:
        raise LabError(f"The record of {run.name} cannot be read ({path.name}). Train again.") from error


def card(record: TrainingRecord) -> str:
    """The model card, in Markdown."""
    rows = "\n".join(f"| {title} | {value} |" for title, value in facts(record))
    table = f"# {record.spec.name}\n\n| | |\n|---|---|\n{rows}\n"
    return f"{table}\n## Chat template\n\n```jinja\n{record.template.strip()}\n```\n"


def facts(record: TrainingRecord) -> list[tuple[str, str]]:
    """The lines of the card, in order."""
    spec = record.spec
    scale = "alpha / sqrt(rank)" if spec.rslora else "alpha / rank"
    rows = [
        ("Base", short(record.base) + _at_commit(record.commit)),
        ("Method", f"{spec.method}, rank {spec.rank}, alpha {spec.alpha} ({scale}), {spec.projections} projections"),
        ("Data", f"{short(spec.data.source)}{_at_commit(record.data_commit)}, sha256 {record.data[:16]}"),
        ("Rows", f"{record.rows:,} trained on, {record.held:,} in the eval split"),
        ("Chat template", f"{spec.template}, loss on {spec.learn}"),
        ("Optimiser", f"{spec.optimizer}, {spec.learning_rate:g} {spec.schedule}, {spec.warmup_steps} warm-up steps"),
        ("Steps", f"{record.steps:,} of {spec.steps:,}, {spec.samples} rows each; {record.samples:,} rows seen"),
        ("Tokens", f"{record.tokens_trained:,}"),
        ("Loss", _first_to_last(record.loss_first, record.loss_last, " (mean of the last 10 steps)")),
        ("Evaluation loss", _first_to_last(record.eval_first, record.eval_kept)),
        ("Lowest evaluation loss", f"{record.eval_best:.3f}" if record.eval_best is not None else ""),
        ("Adapter of", f"step {record.step:,}"),
        ("Time", f"{record.seconds:,.0f} s"),
        ("Memory", amount(record.memory)),
        ("Machine", record.machine),
        ("Engine", ", ".join([record.engine, *(f"{name} {version}" for name, version in record.versions.items())])),
        ("Seed", str(spec.seed)),
    ]
    return [(title, text) for title, text in rows if text]


def _at_commit(commit: str) -> str:
    return f" at {commit[:12]}" if commit else ""


def _first_to_last(first: float | None, last: float | None, note: str = "") -> str:
    return f"{first:.3f} to {last:.3f}{note}" if first is not None and last is not None else ""
