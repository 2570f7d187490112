"""The texts of the Judge tab: costs, progress, and the judgement of a comparison. No gradio."""

import time
from collections.abc import Mapping, Sequence

from app.compare.comparison import LETTERS
from app.judge.result_view import judge, picked_sentence
from app.markup import plain
from backend.core.units import duration
from backend.evaluation.cost_forecast import CostForecast
from backend.evaluation.evaluations import EvaluationStatus
from backend.evaluation.records import VoteRecord
from backend.evaluation.result import Result
from backend.remote.ledger import Spent, dollars


def label(status: EvaluationStatus) -> str:
    """The label of an evaluation in a list, different for evaluations of the same name."""
    created = time.strftime("%d %b %H:%M:%S", time.localtime(status.created))
    return f"{status.name} · {created} · {status.state}"


def options(statuses: Sequence[EvaluationStatus]) -> list[tuple[str, str]]:
    """Label and id of the evaluations."""
    return [(label(status), status.id) for status in statuses]


def progress(status: EvaluationStatus, owner: bool = True) -> str:
    """The status, in Markdown. Reasons of failures may have names of files and addresses: only the owner sees them."""
    lines = [f"**{plain(status.state)}**. {plain(status.why if owner else '')}".strip()]
    facts = status.progress or status.result
    if status.live and facts:
        done, total = facts.get("done"), facts.get("total")
        count = f" {done:,} of {total:,}" if isinstance(done, int) and isinstance(total, int) else ""
        failed = f", {facts['failed']:,} failed" if facts.get("failed") else ""
        paid = f", {dollars(float(facts['dollars']))} so far" if facts.get("dollars") else ""
        lines.append(f"{plain(status.activity if owner else '')}{count}{failed}{paid} …")
        wait = float(facts.get("waiting_until") or 0) - time.time()
        if wait > 0:
            lines.append(f"The judge's address requested a pause: {wait:.0f} s left.")
    if status.waiting:
        lines.append(f"It waits for {plain(', '.join(status.waiting)) if owner else 'other runs'}.")
    if facts.get("unknown"):
        calls = plain(str(facts["unknown"]))
        lines.append(f"⚠ The outcome of {calls} calls is unknown, because the run was killed. They may be billed.")
    return " ".join(lines)


def forecast(cost: CostForecast, spent: Spent, cap_run: float, cap_day: float) -> str:
    """The estimated cost of an evaluation, and the spending limits."""
    if not cost.calls:
        return "Judging by a rule, or by imported scores: **no calls, no cost**."
    parts = [f"**{cost.calls:,} calls**" + (f" ({cost.checks} of them the judge check)" if cost.checks else "")]
    parts.append(f"{cost.tokens[0] / 1000:,.0f}k to {cost.tokens[1] / 1000:,.0f}k tokens")
    if cost.dollars is None:
        parts.append("⚠ no price is known for this judge")
    elif cost.dollars[1]:
        parts.append(f"about **{dollars(cost.dollars[0])} to {dollars(cost.dollars[1])}**")
    else:
        parts.append("no cost")
    if cost.seconds:
        parts.append(f"{duration(cost.seconds[0])} to {duration(cost.seconds[1])} of judging")
    limits = f"Limits: {dollars(cap_run)} for this run, {dollars(cap_day)} a day for all"
    used = f"; {dollars(spent.most)} of it are spent." if spent.most else "."
    return ", ".join(parts) + "." + (f" {limits}{used}" if cost.dollars and cost.dollars[1] else "")


def comparison_judgement(result: Result, names: Mapping[str, str]) -> str:
    """The judgement of a comparison, in Markdown. `names`: the names of the variants in Compare, by variant."""
    lines = [f"Judge: {plain(judge(result))}"]
    if result.check:
        lines.append(f"{'' if result.check.reliable else '⚠ '}Judge check: {plain(result.check.sentence)}.")
    elif result.spec.judge.kind != "rule":
        lines.append("⚠ This judge was not checked. An evaluation in the Judge tab checks it.")
    if result.spec.way == "winner":
        sentence = plain(picked_sentence([_renamed(pick, names) for pick in result.picks]))
        reasons = [f"- {plain(record.pick.reason)}" for record in result.picks if record.pick.reason]
        return "\n\n".join([f"**{sentence}**", "\n".join(reasons), *lines])
    rows = [_scored(result, row.id, name, names) for row in result.questions for name in result.spec.variants]
    return "\n\n".join([*(row for row in rows if row), *lines])


def _renamed(record: VoteRecord, names: Mapping[str, str]) -> VoteRecord:
    return record.model_copy(
        update={"first": names.get(record.first, record.first), "second": names.get(record.second, record.second)}
    )


def _scored(result: Result, row: str, name: str, names: Mapping[str, str]) -> str:
    score = result.scores.get((row, name))
    if score is None:
        return ""
    called = plain(names.get(name, name))
    if score.status != "ok":
        return f"**{called}**: no verdict ({plain(score.status)}). {plain(score.why)}"
    points = plain(", ".join(f"{key} {value:.3g}" for key, value in score.values.items()))
    return f"**{called}: {result.rubric.primary_of(score.values):.2f}** ({points}). {plain(score.evidence)}"


def letters(variants: Sequence[str], hidden: bool) -> dict[str, str]:
    """The name of each variant in Compare: a letter, and the id unless names are hidden."""
    labels = [LETTERS[place] if hidden else f"{LETTERS[place]} · {name}" for place, name in enumerate(variants)]
    return dict(zip(variants, labels, strict=True))
