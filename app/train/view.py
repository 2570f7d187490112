"""The texts of the Train tab: differences from a preset, memory and time, the report on a dataset. No gradio."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from app.markup import plain
from backend.core.units import amount, duration
from backend.training.dataset_report import DatasetReport, Sample
from backend.training.estimate import Estimate
from backend.training.request import TrainSettings
from backend.training.status import TrainingStatus

OTHER_TEMPLATE = (
    "⚠ **Another chat template.** If the base has its own chat template, this trains it with another one. The "
    "model must be used with this template afterwards, and a few rows teach it much less than its makers taught it "
    "with their own: the 1B models of the lab report got worse. Choose “own”, unless you want to repeat that report."
)
TRAINED, MASKED = "background:#2e7d3240;border-radius:3px", "opacity:.55"
CUT = "opacity:.35;text-decoration:line-through"


def differences(changes: Sequence[tuple[str, Any, Any]], preset: str) -> str:
    """The settings that differ from the preset, as a Markdown table. `changes`: title, value, value of the preset."""
    if not changes:
        return f"As in the preset **{plain(preset)}**."
    rows = "\n".join(f"| {plain(title)} | {_cell(value)} | {_cell(other)} |" for title, value, other in changes)
    return f"**Differs from the preset {plain(preset)}:**\n\n| setting | value | preset |\n|---|---|---|\n{rows}"


def _cell(value: Any) -> str:
    return plain(str(value)[:100])


def costs(settings: TrainSettings) -> str:
    """A warning if the chat template is not that of the base."""
    return f"\n\n{OTHER_TEMPLATE}" if settings.template != "own" else ""


def estimate(need: Estimate | None) -> str:
    """The memory and time that a training needs, and the free memory."""
    if need is None:
        return "The memory that this base needs is not known before its download. A try of five steps measures it."
    where = f"of {plain(need.gpu)}" if need.gpu else "of memory"
    mark = "" if need.fits else "⚠ **It does not fit.** "
    parts = f"{amount(need.weights)} base, {amount(need.adapter)} adapter and optimiser, "
    parts += f"{amount(need.activations)} activations at the maximum length, {amount(need.process)} for the process"
    time = f"at most about {duration(need.seconds)}" if need.seconds else "an unknown time, which a try measures"
    return (
        f"{mark}Needs at most about **{amount(need.memory)}** {where} ({parts}); **{amount(need.free)}** are free. "
        f"Takes {time}. This is an estimate: a try of five steps measures it."
    )


def attempt(status: TrainingStatus) -> str:
    """The measurements of a try."""
    if status.live:
        return f"Trying: {plain(status.activity or status.state)} …"
    if status.state != "done" or status.spec is None:
        return f"The try {status.state}: {plain(status.why)}"
    step_time, memory = float(status.result.get("seconds_per_step", 0)), int(status.result.get("memory", 0))
    return (
        f"Measured over five steps: **{step_time:.2f} s per step**, so {status.spec.steps:,} steps take about "
        f"**{duration(step_time * status.spec.steps)}**, and at most **{amount(memory)}** of memory."
    )


def activity(facts: Mapping[str, Any], state: str, seconds: float) -> str:
    """What an inspection does now, and how long the rest of it takes. `seconds`: since its start."""
    done, total = int(facts.get("done", 0)), int(facts.get("total", 0))
    rows = f": {done:,} of {total:,} rows" if total else ""
    left = f", about {duration(seconds * (total - done) / done)} left" if done and seconds > 5 else ""
    return f"{plain(str(facts.get('state', '')) or state)}{rows}{left} …"


def report(report: DatasetReport, settings: TrainSettings) -> str:
    """The report on a dataset, in Markdown."""
    examples = sum(report.counts)  # more than rows, where a row is divided into one example per answer
    unit = "row" if examples == report.rows else "example"
    lines = [
        f"**{report.rows:,} rows** in the training split and {report.held:,} in the eval split, {plain(report.shape)} "
        f"(columns {_cell(', '.join(report.columns))}); {report.tokens:,} tokens, {report.learnt:,} of them trained "
        "on.",
        f"{settings.steps:,} steps see {settings.steps * settings.samples:,} {unit}s: every {unit} "
        f"{settings.steps * settings.samples / max(1, examples):.1f} times.",
    ]
    if report.foreign:
        lines.append(OTHER_TEMPLATE)
    if report.notes:
        lines.append("\n".join(f"- {plain(note)}" for note in report.notes))
    if report.dropped:
        rows = "".join(f"\n- line {line:,}: {plain(why)}{_there(text)}" for line, why, text in report.why_dropped)
        several = [f"{plain(why)} ({count:,})" for why, count in report.reasons.items() if len(report.reasons) > 1]
        because = f" Reasons: {'; '.join(several)}." if several else ""
        lines.append(f"⚠ **{report.dropped:,} rows were dropped.**{because} The first:{rows}")
    if report.cut:
        lines.append(
            f"⚠ **{report.cut:,} rows are cut** at {report.limit:,} tokens; the longest has {report.longest:,}."
        )
    if report.duplicates:
        lines.append(f"⚠ {report.duplicates:,} rows are duplicates of others.")
    if report.leaks:
        rows = ", ".join(f"{line} and {other}" for line, other in report.in_both)
        lines.append(
            f"⚠ **{report.leaks:,} rows of the eval split are in the training split too** (lines {rows}): the "
            "evaluation loss will be too low."
        )
    if report.commit:
        lines.append(f"Revision {plain(report.commit[:12])}.")
    return "\n\n".join(lines)


def _there(text: str) -> str:
    return f": {plain(text)}" if text else ""


def samples(rows: Sequence[Sample]) -> str:
    """Rows as the model sees them, in HTML: tokens that are trained on have a background."""
    legend = f'<span style="{TRAINED}">trained on</span> <span style="{MASKED}">masked</span> '
    legend += f'<span style="{CUT}">cut off</span>'
    texts = "".join(
        f"<p><b>line {row.line}</b>: {row.tokens:,} tokens, {row.learnt:,} trained on</p>"
        f'<pre style="white-space:pre-wrap">{_text(row)}</pre>'
        for row in rows
    )
    return f"<p>Rows as the model sees them: {legend}</p>{texts}"


def _text(row: Sample) -> str:
    cut = f'<span style="{CUT}">{html.escape(row.cut)}</span>' if row.cut else ""
    return "".join(_piece(text, trained) for text, trained in row.pieces) + cut


def _piece(text: str, trained: bool) -> str:
    return f'<span style="{TRAINED if trained else MASKED}">{html.escape(text)}</span>'
