"""The texts and tables of the Runs tab. No gradio."""

import html
import time
from collections.abc import Mapping, Sequence
from typing import Any

from app.markup import link, plain
from backend.core.errors import short
from backend.core.units import amount, duration
from backend.training import artifacts
from backend.training.request import TrainSettings
from backend.training.status import TrainingStatus

RUNS = ["run", "started", "kind", "state", "step", "loss", "evaluation", "tokens/s", "left", "memory", "note"]


def runs(statuses: Sequence[TrainingStatus], owner: bool = True) -> list[list[str]]:
    """A row for each run, the newest first."""
    return [_row(status, owner) for status in statuses]


def _row(status: TrainingStatus, owner: bool) -> list[str]:
    running = status.state == "running" and status.curve.steps
    left = duration(status.curve.facts.get("left") or 0) if running else ""
    figures = [_steps(status), _loss(status), _evaluation(status), _fact(status, "tokens_per_second"), left]
    memory = amount(int(status.curve.facts.get("memory", 0)))
    return [status.name, started(status), status.kind, status.state, *figures, memory, note(status, owner)]


def note(status: TrainingStatus, owner: bool = True) -> str:
    """A note on the state of a run. Reasons and steps may have names of files, so only the owner sees them."""
    if status.waiting:
        return f"waits for {', '.join(status.waiting) if owner else 'other runs'}"
    if status.why:
        return status.why if owner else ""
    if status.live:
        return status.activity if owner else ""
    if status.kind == "export" and status.result:
        return f"{status.result.get('id', status.name)} is in the Library"
    if status.made and status.made.steps < status.made.spec.steps:
        return "ended early: the evaluation loss did not improve any more"
    return ""


def _steps(status: TrainingStatus) -> str:
    step, steps = status.curve.facts.get("step"), status.curve.facts.get("steps")
    return f"{step}/{steps}" if step and steps else ""


def _loss(status: TrainingStatus) -> str:
    return f"{status.curve.losses[-1]:.3f}" if status.curve.losses else ""


def _evaluation(status: TrainingStatus) -> str:
    return f"{status.curve.evaluations[-1]:.3f}" if status.curve.evaluations else ""


def _fact(status: TrainingStatus, name: str) -> str:
    value = status.curve.facts.get(name)
    return f"{value:,.0f}" if isinstance(value, int | float) and value else ""


def label(status: TrainingStatus) -> str:
    """The label of a run in a list, different for runs of the same name."""
    return f"{status.name} · {started(status)} · {status.kind} · {status.state}"


def started(status: TrainingStatus) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(status.created)) if status.created else ""


def detail(status: TrainingStatus, owner: bool = True) -> str:
    """A summary of a run, in Markdown. Only the owner sees paths of this machine."""
    facts = status.curve.facts
    lines = [f"**{plain(status.name)}**: {status.state}. {plain(note(status, owner))}".strip()]
    if status.curve.steps:
        lines.append(
            f"Step {plain(_steps(status))}, epoch {facts.get('epoch', 0):.2f}, {facts.get('samples', 0):,} rows and "
            f"{facts.get('tokens', 0):,} tokens seen; loss {status.curve.losses[-1]:.3f}, learning rate "
            f"{status.curve.rates[-1]:.1e}, gradient norm {status.curve.norms[-1]:.2f}; "
            f"{duration(status.curve.seconds)} of training."
        )
    if status.resumable is not None:
        step = f"step {status.resumable}" if status.resumable else "the first step"
        lines.append(f"It can be resumed from {step}.")
    if owner:
        lines += [f"⚠ {plain(warning)}" for warning in facts.get("said", []) if isinstance(warning, str)]
    if owner and (tracked := facts.get("tracked")):
        address = str(tracked)
        offline = f"W&B, offline: {plain(address)}; upload it with {plain(f'wandb sync {address}')}"
        lines.append(link("W&B", address) if address.startswith("http") else offline)
    if status.kind == "export" and status.result:
        lines.append(exported(status.result))
    return "\n\n".join(lines)


def exported(result: Mapping[str, Any]) -> str:
    """The file that an export made, and the result of its check."""
    agreement, divergence = result.get("agreement"), result.get("kl")
    checked = (
        f" Compared with the trained model: the same most likely token at {agreement:.0%} of the positions, "
        f"KL divergence {divergence:.4f}."
        if isinstance(agreement, float) and isinstance(divergence, float)
        else ""
    )
    name, size = plain(str(result.get("id", ""))), amount(int(result.get("size", 0)))
    return f"Exported as {name}: {size}.{checked} You can choose it in Chat."


def card(status: TrainingStatus, owner: bool = True) -> str:
    """The model card of a finished training, in HTML; empty for visitors, because it has names of files."""
    record = status.made
    if record is None or not owner:
        return ""
    rows = "".join(f"<tr><td>{name}</td><td>{html.escape(value)}</td></tr>" for name, value in artifacts.facts(record))
    template = f'<pre style="white-space:pre-wrap">{html.escape(record.template.strip())}</pre>'
    return f"<h3>{html.escape(record.spec.name)}</h3><table>{rows}</table><h4>Chat template</h4>{template}"


def settings(statuses: Sequence[TrainingStatus], owner: bool = True) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of a table of settings, with those that differ first. Visitors see no names of files."""
    trained = [status for status in statuses if status.spec]
    columns = [_settings(status.spec, owner) for status in trained if status.spec]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    return ["setting", *map(label, trained)], sorted(rows, key=lambda row: len(set(row[1:])) < 2)


def _settings(spec: TrainSettings, owner: bool) -> dict[str, str]:
    texts = {}
    for value in (spec, spec.data):
        for name, field in type(value).model_fields.items():
            if name != "data" or value is not spec:
                text = str(getattr(value, name))
                private = text.startswith("/") and not owner
                texts[field.title or name] = "a file of the owner" if private else short(text)
    return texts
