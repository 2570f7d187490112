"""An evaluation on its way: what it will cost, how it stands, and what a judge says of the screen. Knows no gradio."""

import time
from collections.abc import Mapping, Sequence

from app.chat.view import LETTERS
from app.judge.result_view import judge, picked_sentence
from app.markup import plain
from app.runs.view import duration
from backend.evaluation.cost_forecast import CostForecast
from backend.evaluation.evaluations import EvaluationStatus
from backend.evaluation.records import VoteRecord
from backend.evaluation.result import Result
from backend.remote.ledger import Spent, dollars


def label(one: EvaluationStatus) -> str:
    """Tells evaluations of one name apart."""
    return f"{one.name} · {time.strftime('%d %b %H:%M:%S', time.localtime(one.asked))} · {one.state}"


def options(found: Sequence[EvaluationStatus]) -> list[tuple[str, str]]:
    """What may be chosen: evaluations as a list shows them and by id."""
    return [(label(one), one.id) for one in found]


def progress(one: EvaluationStatus, owner: bool = True) -> str:
    """How it stands, as Markdown. Why it failed may name files and addresses: that is for its owner."""
    told = [f"**{plain(one.state)}**. {plain(one.why if owner else '')}".strip()]
    facts = one.doing
    if one.live and facts:
        done, total = facts.get("done"), facts.get("total")
        count = f" {done:,} of {total:,}" if isinstance(done, int) and isinstance(total, int) else ""
        failed = f", {facts['failed']:,} failed" if facts.get("failed") else ""
        paid = f", {dollars(float(facts['dollars']))} so far" if facts.get("dollars") else ""
        told.append(f"{plain(str(facts.get('state', '')) if owner else '')}{count}{failed}{paid} …")
        wait = float(facts.get("waiting_until") or 0) - time.time()
        if wait > 0:
            told.append(f"The judge's address asks for a pause: {wait:.0f} s to go.")
    if one.waiting:
        told.append(f"It waits for {plain(', '.join(one.waiting)) if owner else 'other runs'}.")
    if facts.get("unknown"):
        calls = plain(str(facts["unknown"]))
        told.append(f"⚠ The outcome of {calls} calls is not known: a kill came between. They may be billed.")
    return " ".join(told)


def forecast(found: CostForecast, spent: Spent, cap_run: float, cap_day: float) -> str:
    """What it will cost, before it begins."""
    if not found.calls:
        return "Judging by rule, or by scores that came along: **no calls, no cost**."
    told = [f"**{found.calls:,} calls**" + (f" ({found.checks} of them the judge check)" if found.checks else "")]
    told.append(f"{found.tokens[0] / 1000:,.0f}k to {found.tokens[1] / 1000:,.0f}k tokens")
    if found.dollars is None:
        told.append("⚠ no price is known for this judge")
    elif found.dollars[1]:
        told.append(f"about **{dollars(found.dollars[0])} to {dollars(found.dollars[1])}**")
    else:
        told.append("no cost")
    if found.seconds:
        told.append(f"{duration(found.seconds[0])} to {duration(found.seconds[1])} of judging")
    limits = f"Limits: {dollars(cap_run)} for this run, {dollars(cap_day)} a day for all"
    used = f"; {dollars(spent.most)} are used of that." if spent.most else "."
    return ", ".join(told) + "." + (f" {limits}{used}" if found.dollars and found.dollars[1] else "")


def on_screen(found: Result, names: Mapping[str, str]) -> str:
    """What a judge says of what stands in Compare. `names`: what each variant is called there now."""
    lines = [f"Judge: {plain(judge(found))}"]
    if found.check:
        lines.append(f"{'' if found.check.reliable else '⚠ '}Judge check: {plain(found.check.sentence)}.")
    elif found.spec.judge.kind != "rule":
        lines.append("⚠ This judge was not checked. An evaluation with it in the Judge tab does that.")
    if found.spec.way == "winner":
        told = plain(picked_sentence([_renamed(one, names) for one in found.picks]))
        reasons = [f"- {plain(one.pick.reason)}" for one in found.picks if one.pick.reason]
        return "\n\n".join([f"**{told}**", "\n".join(reasons), *lines])
    rows = [_scored(found, row.id, name, names) for row in found.questions for name in found.spec.variants]
    return "\n\n".join([*(row for row in rows if row), *lines])


def _renamed(one: VoteRecord, names: Mapping[str, str]) -> VoteRecord:
    return one.model_copy(
        update={"first": names.get(one.first, one.first), "second": names.get(one.second, one.second)}
    )


def _scored(found: Result, row: str, name: str, names: Mapping[str, str]) -> str:
    score = found.scores.get((row, name))
    if score is None:
        return ""
    called = plain(names.get(name, name))
    if score.status != "ok":
        return f"**{called}**: no verdict ({plain(score.status)}). {plain(score.why)}"
    points = plain(", ".join(f"{key} {value:.3g}" for key, value in score.values.items()))
    return f"**{called}: {found.rubric.primary_of(score.values):.2f}** ({points}). {plain(score.evidence)}"


def letters(variants: Sequence[str], hidden: bool) -> dict[str, str]:
    """What each is called on the screen: a letter, as long as names are hidden."""
    told = [LETTERS[place] if hidden else f"{LETTERS[place]} · {name}" for place, name in enumerate(variants)]
    return dict(zip(variants, told, strict=True))
