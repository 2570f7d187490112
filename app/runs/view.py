"""Pure formatting of trainings: values to text and rows. Knows no gradio."""

import html
import time
from collections.abc import Sequence
from typing import Any

from app.markup import link, plain
from backend.core.errors import short
from backend.core.machine import amount
from backend.training import artifacts
from backend.training.dataset_report import DatasetReport, Sample
from backend.training.estimate import Estimate
from backend.training.request import TrainSettings
from backend.training.status import TrainingStatus

RUNS = ["run", "begun", "kind", "state", "step", "loss", "evaluation", "tokens/s", "left", "memory", "says"]
COSTS = (
    "⚠ **Foreign template.** Where the base has a chat template of its own, this trains it on another. It will answer "
    "only as well as it relearns in these few rows what its makers taught it with many, and it must be asked with this "
    "template for ever after: the lab's 1B models got worse this way. Choose “own” unless you repeat the lab."
)
TRAINED, MASKED = "background:#2e7d3240;border-radius:3px", "opacity:.55"
CUT = "opacity:.35;text-decoration:line-through"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def differences(found: Sequence[tuple[str, Any, Any]], preset: str) -> str:
    """What differs from the preset, as Markdown."""
    if not found:
        return f"As in the preset **{plain(preset)}**."
    rows = "\n".join(f"| {plain(title)} | {_cell(here)} | {_cell(there)} |" for title, here, there in found)
    return f"**Differs from the preset {plain(preset)}:**\n\n| setting | here | preset |\n|---|---|---|\n{rows}"


def _cell(value: Any) -> str:
    return plain(str(value)[:100])


def costs(spec: TrainSettings) -> str:
    """What training on a template that is not the base's own costs, if it is asked for."""
    return f"\n\n{COSTS}" if spec.template != "own" else ""


def estimate(found: Estimate | None) -> str:
    """What a training will need, beside what there is."""
    if found is None:
        return "The shape of this base is not known here before it is fetched. A try of five steps measures it."
    where = f"of {plain(found.gpu)}" if found.gpu else "of memory"
    mark = "" if found.fits else "⚠ **It does not fit.** "
    parts = f"{amount(found.weights)} base, {amount(found.adapter)} adapter and optimiser, "
    parts += f"{amount(found.activations)} for rows of the full length, {amount(found.process)} the process itself"
    told = f"at most about {duration(found.seconds)}" if found.seconds else "its time is not known before a try"
    return (
        f"{mark}Needs at most about **{amount(found.memory)}** {where} ({parts}); **{amount(found.free)}** are free. "
        f"Takes {told}. Reckoned, not measured: a try of five steps measures it."
    )


def attempted(one: TrainingStatus) -> str:
    """What a try has measured."""
    if one.state != "done" or one.spec is None:
        return f"Trying: {plain(one.doing or one.state)} …" if one.live else f"The try {one.state}: {plain(one.why)}"
    pace, memory = float(one.result.get("seconds_per_step", 0)), int(one.result.get("memory", 0))
    return (
        f"Measured over five steps: **{pace:.2f} s a step**, so {one.spec.steps:,} steps take about "
        f"**{duration(pace * one.spec.steps)}**, and **{amount(memory)}** of memory at the most."
    )


def inspected(found: DatasetReport, spec: TrainSettings) -> str:
    """What is in the data, as Markdown."""
    lines = [
        f"**{found.rows:,} rows** to train on and {found.held:,} held out, {plain(found.shape)} "
        f"(columns {_cell(', '.join(found.columns))}); {found.tokens:,} tokens, {found.learnt:,} of them learnt.",
        f"{spec.steps:,} steps see {spec.steps * spec.samples:,} rows: every row "
        f"{spec.steps * spec.samples / max(1, found.rows):.1f} times.",
    ]
    if found.foreign:
        lines.append(COSTS)
    if found.dropped:
        rows = "".join(f"\n- line {line}: {plain(why)}" for line, why in found.why_dropped)
        lines.append(f"⚠ **{found.dropped:,} rows were dropped.** The first:{rows}")
    if found.cut:
        lines.append(f"⚠ **{found.cut:,} rows are cut** at {found.limit:,} tokens; the longest has {found.longest:,}.")
    if found.duplicates:
        lines.append(f"⚠ {found.duplicates:,} rows are there more than once.")
    if found.leaks:
        rows = ", ".join(f"{line} and {other}" for line, other in found.in_both)
        lines.append(f"⚠ **{found.leaks:,} held-out rows are trained on too** (lines {rows}): this loss will flatter.")
    if found.commit:
        lines.append(f"Revision {plain(found.commit[:12])}.")
    return "\n\n".join(lines)


def samples(found: Sequence[Sample]) -> str:
    """Rows as the model will see them, in HTML: what is learnt has a ground of its own."""
    legend = f'<span style="{TRAINED}">learnt</span> <span style="{MASKED}">only read</span> '
    legend += f'<span style="{CUT}">cut off</span>'
    rows = "".join(
        f"<p><b>line {one.line}</b>: {one.tokens:,} tokens, {one.learnt:,} learnt</p>"
        f'<pre style="white-space:pre-wrap">{_text(one)}</pre>'
        for one in found
    )
    return f"<p>Rows as the model will see them: {legend}</p>{rows}"


def _text(one: Sample) -> str:
    beyond = f'<span style="{CUT}">{html.escape(one.cut)}</span>' if one.cut else ""
    return "".join(_piece(text, learnt) for text, learnt in one.pieces) + beyond


def _piece(text: str, learnt: bool) -> str:
    return f'<span style="{TRAINED if learnt else MASKED}">{html.escape(text)}</span>'


def runs(found: Sequence[TrainingStatus], owner: bool = True) -> list[list[str]]:
    """A row for each run, the newest first."""
    return [_row(one, owner) for one in found]


def _row(one: TrainingStatus, owner: bool) -> list[str]:
    left = duration(one.curve.facts.get("left") or 0) if one.state == "running" and one.curve.steps else ""
    figures = [_steps(one), _loss(one), _evaluation(one), _fact(one, "tokens_per_second"), left]
    memory = amount(int(one.curve.facts.get("memory", 0)))
    return [one.name, begun(one), one.kind, one.state, *figures, memory, says(one, owner)]


def says(one: TrainingStatus, owner: bool = True) -> str:
    """The one thing to know about it now. Reasons and steps may name files of this machine: they are for its owner."""
    if one.waiting:
        return f"waits for {', '.join(one.waiting) if owner else 'other runs'}"
    if one.why:
        return one.why if owner else ""
    if one.live:
        return one.doing if owner else ""
    if one.kind == "export" and one.result:
        return f"{one.result.get('id', one.name)} is in the Library"
    if one.made and one.made.steps < one.made.spec.steps:
        return "ended early: its evaluation loss fell no more"
    return ""


def _steps(one: TrainingStatus) -> str:
    step, steps = one.curve.facts.get("step"), one.curve.facts.get("steps")
    return f"{step}/{steps}" if step and steps else ""


def _loss(one: TrainingStatus) -> str:
    return f"{one.curve.losses[-1]:.3f}" if one.curve.losses else ""


def _evaluation(one: TrainingStatus) -> str:
    return f"{one.curve.evaluations[-1]:.3f}" if one.curve.evaluations else ""


def _fact(one: TrainingStatus, name: str) -> str:
    value = one.curve.facts.get(name)
    return f"{value:,.0f}" if isinstance(value, int | float) and value else ""


def label(one: TrainingStatus) -> str:
    """Tells runs of one name apart."""
    return f"{one.name} · {begun(one)} · {one.kind} · {one.state}"


def begun(one: TrainingStatus) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(one.asked)) if one.asked else ""


def detail(one: TrainingStatus, owner: bool = True) -> str:
    """A run at a glance, as Markdown. Where things lie on this machine is for its owner."""
    facts = one.curve.facts
    told = [f"**{plain(one.name)}**: {one.state}. {plain(says(one, owner))}".strip()]
    if one.curve.steps:
        told.append(
            f"Step {plain(_steps(one))}, epoch {facts.get('epoch', 0):.2f}, {facts.get('samples', 0):,} rows and "
            f"{facts.get('tokens', 0):,} tokens seen; loss {one.curve.losses[-1]:.3f}, learning rate "
            f"{one.curve.rates[-1]:.1e}, gradient norm {one.curve.norms[-1]:.2f}; "
            f"{duration(one.curve.seconds)} of training."
        )
    if one.resumable is not None:
        where = f"from step {one.resumable}" if one.resumable else "from its beginning"
        told.append(f"It can be resumed {where}.")
    if owner:
        told += [f"⚠ {plain(said)}" for said in facts.get("said", []) if isinstance(said, str)]
    if owner and (tracked := facts.get("tracked")):
        where = str(tracked)
        offline = f"W&B, offline: {plain(where)}; send it with {plain(f'wandb sync {where}')}"
        told.append(link("W&B", where) if where.startswith("http") else offline)
    if one.kind == "export" and one.result:
        told.append(exported(one.result))
    return "\n\n".join(told)


def exported(result: dict[str, Any]) -> str:
    """What a finished export has made and how it was checked."""
    agreement, divergence = result.get("agreement"), result.get("kl")
    checked = (
        f" Checked against the trained model: the same likeliest token at {agreement:.0%} of the positions, "
        f"divergence {divergence:.4f}."
        if isinstance(agreement, float) and isinstance(divergence, float)
        else ""
    )
    name, size = plain(str(result.get("id", ""))), amount(int(result.get("size", 0)))
    return f"Made {name}: {size}.{checked} It can be chosen in Chat now."


def made(one: TrainingStatus, owner: bool = True) -> str:
    """Its card, in HTML. It names files, so it is for the owner."""
    if one.made is None or not owner:
        return ""
    rows = "".join(f"<tr><td>{name}</td><td>{html.escape(value)}</td></tr>" for name, value in artifacts.facts(one.made))
    template = f'<pre style="white-space:pre-wrap">{html.escape(one.made.template.strip())}</pre>'
    return f"<h3>{html.escape(one.made.spec.name)}</h3><table>{rows}</table><h4>Prompt template</h4>{template}"


def settings(found: Sequence[TrainingStatus], owner: bool = True) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: settings side by side, those that differ first. Names of files are for the owner."""
    told = [_settings(one.spec, owner) for one in found if one.spec]
    names = list(dict.fromkeys(name for one in told for name in one))
    rows = [[name, *(one.get(name, "") for one in told)] for name in names]
    return ["setting", *(label(one) for one in found if one.spec)], sorted(rows, key=lambda row: len(set(row[1:])) < 2)


def _settings(spec: TrainSettings, owner: bool) -> dict[str, str]:
    found = {}
    for value in (spec, spec.data):
        for name, field in type(value).model_fields.items():
            if name != "data" or value is not spec:
                text = str(getattr(value, name))
                private = text.startswith("/") and not owner
                found[field.title or name] = "a file of the owner" if private else short(text)
    return found
