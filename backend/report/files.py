"""What leaves an evaluation: tables, JSON, a paragraph for a paper, and preference pairs to train on."""

import csv
import io
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from backend.core.errors import LabError, short
from backend.core.messages import Message, plain
from backend.evaluation.contrasts import ALPHA, FEW_FAILURES, ScoreTable, failure, values
from backend.evaluation.result import Result
from backend.evaluation.verdict import Verdict
from backend.judge.rubric import MEAN, Rubric
from backend.judge.score import Identity
from backend.judge.votes import Candidate, Vote
from backend.remote.prices import vendor_host
from backend.stats.paired import DRAWS, EXACT, SAME, SEED, Estimate

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of one; the last four are the full-width signs."""
MARGIN = 0.25  # of the scale
EXPORTS = {
    "table of variants (CSV)": "variants.csv",
    "planned comparisons (CSV)": "comparisons.csv",
    "every answer's points (CSV)": "cells.csv",
    "everything (JSON)": "evaluation.json",
    "methods paragraph": "methods.txt",
    "preference pairs for TRL (JSON lines)": "pairs.jsonl",
}
"""What can be had, and how its file's name ends."""
TEXTS = ("preference pairs for TRL (JSON lines)",)
"""Of those, what holds questions and answers."""


class ScoredAnswer(NamedTuple):
    """An answer with its primary number."""

    prompt: Sequence[Message]
    answer: str
    value: float
    cut: bool = False


def variants_csv(verdict: Verdict) -> str:
    """A line per variant."""
    criteria = list(verdict.variants[0].criteria) if verdict.variants else []
    head = ["variant", "baseline", "status", *_columns(""), "reached", "failures", "cut", "mean_uncut"]
    head += ["ceiling", "good", "good_low", "good_high"]
    lines: list[list[Any]] = [head + [column for name in criteria for column in _columns(f"{name}_")]]
    for one in verdict.variants:
        failures = " ".join(f"{status}:{count}" for status, count in one.failures.items())
        line = [one.variant, one.baseline, one.status, *_numbers(one.primary), one.reached, failures, one.cut]
        line += [one.uncut.mean, one.ceiling.share, one.good.share, one.good.low, one.good.high]
        lines.append(line + [number for name in criteria for number in _numbers(one.criteria[name])])
    return _csv(lines)


def contrasts_csv(verdict: Verdict) -> str:
    """A line per planned contrast."""
    criteria = list(verdict.contrasts[0].criteria) if verdict.contrasts else []
    head = ["variant", "against", "decided", *_columns(""), "clusters", "sd", "t_p", "sign_flip_p", "holm_p"]
    head += ["wins", "ties", "losses", "rows_needed", "failures", "failures_against", "worst", "best"]
    lines: list[list[Any]] = [head + [column for name in criteria for column in _columns(f"{name}_")]]
    for one in verdict.contrasts:
        gap = one.difference
        line = [one.variant, one.against, one.decided, *_numbers(gap), gap.clusters, gap.sd, gap.p, one.flip_p]
        line += [one.holm_p, one.wins, one.ties, one.losses, one.rows_needed, *one.failures]
        line += list(one.bounds or (None, None))
        lines.append(line + [number for name in criteria for number in _numbers(one.criteria[name])])
    return _csv(lines)


def cells_csv(table: ScoreTable) -> str:
    """A line per answer that was judged, or tried to; failures have no numbers."""
    names = [one.name for one in table.rubric.criteria]
    lines: list[list[Any]] = [["row", "cluster", "variant", "status", "cut", "length", "primary", *names]]
    for row, variant in _reached(table):
        cell, got = table.cells[row, variant], values(table, row, variant)
        numbers = [table.rubric.primary_of(got), *(got[name] for name in names)] if got else [None] * (1 + len(names))
        status = failure(table, row, variant) or cell.status
        lines.append([row, table.rows[row], variant, status, int(cell.cut), cell.length, *numbers])
    return _csv(lines)


def to_json(verdict: Verdict, table: ScoreTable, identity: Identity) -> str:
    """All of it: who judged, by what, what came of it, and every cell. What is no number is null."""
    cells = [
        {
            "row": row,
            "cluster": table.rows[row],
            "variant": variant,
            "status": failure(table, row, variant) or table.cells[row, variant].status,
            "cut": table.cells[row, variant].cut,
            "length": table.cells[row, variant].length,
            "values": dict(values(table, row, variant) or {}),
        }
        for row, variant in _reached(table)
    ]
    judge = identity.model_dump() | {"address": vendor_host(identity.address)}
    whole = {"judge": judge, "rubric": table.rubric.model_dump(), "verdict": verdict.model_dump(), "cells": cells}
    return plain(json.dumps(_finite(whole), ensure_ascii=False, allow_nan=False, indent=2)) + "\n"


def methods(verdict: Verdict, identity: Identity, rubric: Rubric, facts: Mapping[str, str]) -> str:
    """A paragraph for a paper. `facts`: `date`, and `check` with what the judge check found; others are appended."""
    primary = f"the mean of {len(rubric.criteria)} criteria" if rubric.primary == MEAN else rubric.primary
    criteria = ", ".join(f"{one.name} ({one.low:g}-{one.high:g})" for one in rubric.criteria)
    when = f" on {facts['date']}" if facts.get("date") else ""
    failed = sum(sum(one.failures.values()) for one in verdict.variants)
    cut = sum(one.cut for one in verdict.variants)
    rows = f"{verdict.rows} rows ({verdict.clusters} different questions; {verdict.complete} judged for all variants)"
    sentences = [
        f"Answers of {len(verdict.variants)} variants to {rows} were judged {_judge(identity)}{when}.",
        f"The rubric '{rubric.id}' (hash {rubric.hash}) has the criteria {criteria}; the primary number, declared "
        f"before, is {primary}.",
        "Variants were compared in pairs on the rows where both have a score, by the mean difference with a 95% "
        "interval of Student's t.",
        "Rows that ask the same thing form a cluster; standard errors are then cluster-robust with the correction "
        "G/(G-1) and G-1 degrees of freedom." if verdict.clusters < verdict.rows else "",
        f"P values are of two-sided sign-flip tests (all signs for up to {EXACT} rows that do not tie, else {DRAWS:,} "
        f"draws with seed {SEED}), corrected by Holm's method for {len(verdict.contrasts)} planned contrasts.",
        "A variant is called better or worse where the interval leaves out zero and the corrected p is at most "
        f"{ALPHA}. Other criteria are secondary and uncorrected.",
        f"Judgements that failed ({failed}) are no numbers and in no mean; where a variant has more of them than "
        f"{FEW_FAILURES:.0%} of the rows, or the two of a pair have different counts, nothing is called better or "
        "worse unless it would be so with every failure at the worst and at the best end of the scale.",
        f"Answers cut at their length limit ({cut}) were judged as they are.",
        _check(identity, facts.get("check", "")),
    ]  # fmt: skip
    others = [f"{name}: {facts[name]}." for name in sorted(facts) if name not in ("date", "check") and facts[name]]
    return plain(" ".join(one for one in [*sentences, *others] if one))


def _judge(identity: Identity) -> str:
    if identity.kind == "rule":
        return "by rule, without a model"
    if identity.kind in ("you", "given"):
        return "by a person" if identity.kind == "you" else "elsewhere; their scores were brought along"
    model = identity.model or "an unnamed model"
    answered = f" (answering as {identity.returned})" if identity.returned not in ("", identity.model) else ""
    return f"by the language model {model}{answered}, {_place(identity)}"


def _place(identity: Identity) -> str:
    """Only the host of an address that sells: the owner's own address is private."""
    if identity.kind == "variant":
        return "run on the machine of the lab"
    return f"at {vendor_host(identity.address) or 'an address that is not told'}"


def _check(identity: Identity, found: str) -> str:
    if found:
        return f"Check of the judge on fixed probes: {found.rstrip('.')}."
    asked = identity.kind in ("endpoint", "variant")
    return "The judge was not checked on fixed probes before." if asked else ""


def vote_pairs(votes: Iterable[Vote]) -> str:
    """Preference pairs as JSON lines, in TRL's conversational form: the winner of a vote against each of the others.

    Both answer the same messages: a vote late in conversations that had gone apart makes no pair. An answer that was
    cut, is empty or failed is never chosen.
    """
    found = []
    for vote in votes:
        if vote.winner is None:
            continue
        winner = _answered(vote.candidates[vote.winner])
        others = [_answered(other) for place, other in enumerate(vote.candidates) if place != vote.winner]
        found += [_pair(winner, other) for other in others if winner and other and _prefers(winner, other)]
    return _lines(found)


def score_pairs(rows: Iterable[Sequence[ScoredAnswer]], rubric: Rubric, margin: float | None = None) -> str:
    """The same from scores: of each row's answers the best against the worst, if they are `margin` apart.

    `margin` is on the scale of the primary number and MARGIN of it if not given. A row's order changes nothing.
    """
    least = MARGIN * (rubric.high - rubric.low) if margin is None else margin
    found = []
    for answers in rows:
        sound = sorted((one for one in answers if math.isfinite(one.value)), key=lambda one: (one.value, one.answer))
        best = next((one for one in reversed(sound) if not one.cut and one.answer.strip()), None)
        if best and best.value - sound[0].value >= max(least, 2 * SAME) - SAME and _prefers(best, sound[0]):
            found.append(_pair(best, sound[0]))
    return _lines(found)


def _answered(candidate: Candidate) -> ScoredAnswer | None:
    """A candidate's last answer; None where it failed."""
    if candidate.generation is None or not candidate.messages or candidate.messages[-1]["role"] != "assistant":
        return None
    cut = candidate.generation.end != "stop"
    return ScoredAnswer(candidate.messages[:-1], candidate.messages[-1]["content"], 0.0, cut)


def _prefers(chosen: ScoredAnswer, rejected: ScoredAnswer) -> bool:
    """Whether one can be learned from: a whole answer, and another one to the same prompt."""
    whole = chosen.answer.strip() and not chosen.cut
    return bool(
        whole and chosen.prompt and list(chosen.prompt) == list(rejected.prompt) and chosen.answer != rejected.answer
    )


def _pair(chosen: ScoredAnswer, rejected: ScoredAnswer) -> dict[str, list[Message]]:
    prompt = [Message(role=one["role"], content=plain(one["content"])) for one in chosen.prompt]
    good, bad = ([Message(role="assistant", content=plain(one.answer))] for one in (chosen, rejected))
    return {"prompt": prompt, "chosen": good, "rejected": bad}


def _lines(records: Iterable[Mapping[str, Any]]) -> str:
    """One line each, and the same pair once."""
    return "".join(dict.fromkeys(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def _reached(table: ScoreTable) -> list[tuple[str, str]]:
    return [(row, variant) for row in table.rows for variant in table.variants if (row, variant) in table.cells]


def _columns(prefix: str) -> list[str]:
    return [f"{prefix}{name}" for name in ("n", "mean", "low", "high")]


def _numbers(one: Estimate) -> list[float | None]:
    return [one.n, one.mean, one.low, one.high]


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([[_harmless(field) for field in line] for line in lines])
    return text.getvalue()


def _harmless(field: Any) -> Any:
    """Numbers as they are; text that a spreadsheet would compute gets an apostrophe before it."""
    if isinstance(field, str):
        text = plain(field)
        return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA) else text
    return field


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def export(found: Result, what: str) -> str:
    """LabError for something nobody knows."""
    match EXPORTS.get(what, ""):
        case "variants.csv":
            return variants_csv(found.verdict)
        case "comparisons.csv":
            return contrasts_csv(found.verdict)
        case "cells.csv":
            return cells_csv(found.table)
        case "evaluation.json":
            return to_json(found.verdict, found.table, found.identity)
        case "methods.txt":
            return methods(found.verdict, found.identity, found.rubric, facts(found))
        case "pairs.jsonl":
            return score_pairs([_scored(found, one.id) for one in found.questions], found.rubric)
    raise LabError("What to save is not chosen. Choose it in the list.")


def facts(found: Result) -> dict[str, str]:
    """What a reader of the paragraph must know besides the numbers."""
    spec, told = found.spec, {}
    last = max((score.at for score in found.scores.values()), default=0.0)
    if last:
        told["date"] = time.strftime("%Y-%m-%d", time.gmtime(last))
    if found.check:
        told["check"] = found.check.sentence
    if spec.data:
        rows = f"{short(spec.data.source)} {spec.data.revision}".strip()
        told["Rows"] = f"the {'held-out' if spec.part == 'held' else 'chosen'} rows of {rows}"
        sampling = spec.sampling
        how = "greedily" if sampling.temperature == 0 else f"at temperature {sampling.temperature:g}"
        told["Answers"] = (
            f"generated {how} with seed {sampling.seed} and at most {sampling.max_tokens} tokens, each variant in the "
            "prompt template it was trained on"
        )
    else:
        told["Answers"] = "made elsewhere and brought along"
    if found.steadiness:
        told["Repeatability"] = f"SD {found.steadiness[1]:.2f} within an answer, {found.steadiness[0]} judged twice"
    if not spec.judge.reference:
        told["Reference"] = "not shown to the judge"
    return told


def _scored(found: Result, row: str) -> list[ScoredAnswer]:
    question = next(one for one in found.questions if one.id == row)
    return [
        ScoredAnswer(question.messages, answer.text, found.rubric.primary_of(got), answer.cut)
        for name in found.spec.variants
        if (answer := found.answers.get((row, name))) and (got := values(found.table, row, name)) is not None
    ]
