"""Files of an evaluation: CSV tables, JSON, a methods paragraph for a paper, and preference pairs from votes or scores.

Text that a spreadsheet would execute as a formula is escaped. The addresses of private judges are left out.
"""

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
"""Characters that start a formula in spreadsheets; the last four are full-width signs."""
MARGIN = 0.25  # of the scale; the default difference of a preference pair
EXPORTS = {
    "table of variants (CSV)": "variants.csv",
    "planned comparisons (CSV)": "comparisons.csv",
    "every answer's points (CSV)": "cells.csv",
    "everything (JSON)": "evaluation.json",
    "methods paragraph": "methods.txt",
    "preference pairs for TRL (JSON lines)": "pairs.jsonl",
}
"""Name of each export -> end of its file name."""
TEXTS = ("preference pairs for TRL (JSON lines)",)
"""The exports that contain questions and answers."""


class ScoredAnswer(NamedTuple):
    """An answer with its primary score. `cut`: the answer ended at its length limit."""

    prompt: Sequence[Message]
    answer: str
    value: float
    cut: bool = False


def variants_csv(verdict: Verdict) -> str:
    """CSV with one row per variant."""
    criteria = list(verdict.variants[0].criteria) if verdict.variants else []
    head = ["variant", "baseline", "status", *_columns(""), "reached", "failures", "cut", "mean_uncut"]
    head += ["ceiling", "good", "good_low", "good_high"]
    lines: list[list[Any]] = [head + [column for name in criteria for column in _columns(f"{name}_")]]
    for score in verdict.variants:
        failures = " ".join(f"{status}:{count}" for status, count in score.failures.items())
        line = [score.variant, score.baseline, score.status, *_numbers(score.primary), score.reached, failures]
        line += [score.cut, score.uncut.mean, score.ceiling.share, score.good.share, score.good.low, score.good.high]
        lines.append(line + [number for name in criteria for number in _numbers(score.criteria[name])])
    return _csv(lines)


def contrasts_csv(verdict: Verdict) -> str:
    """CSV with one row per planned contrast."""
    criteria = list(verdict.contrasts[0].criteria) if verdict.contrasts else []
    head = ["variant", "against", "decided", *_columns(""), "clusters", "sd", "t_p", "sign_flip_p", "holm_p"]
    head += ["wins", "ties", "losses", "rows_needed", "failures", "failures_against", "worst", "best"]
    lines: list[list[Any]] = [head + [column for name in criteria for column in _columns(f"{name}_")]]
    for contrast in verdict.contrasts:
        difference = contrast.difference
        line = [contrast.variant, contrast.against, contrast.decided, *_numbers(difference), difference.clusters]
        line += [difference.sd, difference.p, contrast.flip_p, contrast.holm_p, contrast.wins, contrast.ties]
        line += [contrast.losses, contrast.rows_needed, *contrast.failures, *(contrast.bounds or (None, None))]
        lines.append(line + [number for name in criteria for number in _numbers(contrast.criteria[name])])
    return _csv(lines)


def cells_csv(table: ScoreTable) -> str:
    """CSV with one row per judged answer; failed judgements have no numbers."""
    names = [criterion.name for criterion in table.rubric.criteria]
    lines: list[list[Any]] = [["row", "cluster", "variant", "status", "cut", "length", "primary", *names]]
    for row, variant in _cells_of(table):
        cell, scores = table.cells[row, variant], values(table, row, variant)
        numbers: list[float | None] = [None] * (1 + len(names))
        if scores:
            numbers = [table.rubric.primary_of(scores), *(scores[name] for name in names)]
        status = failure(table, row, variant) or cell.status
        lines.append([row, table.rows[row], variant, status, int(cell.cut), cell.length, *numbers])
    return _csv(lines)


def to_json(verdict: Verdict, table: ScoreTable, identity: Identity) -> str:
    """JSON with judge, rubric, verdict and all cells. NaN and infinity become null."""
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
        for row, variant in _cells_of(table)
    ]
    judge = identity.model_dump() | {"address": vendor_host(identity.address)}
    record = {"judge": judge, "rubric": table.rubric.model_dump(), "verdict": verdict.model_dump(), "cells": cells}
    return plain(json.dumps(_finite(record), ensure_ascii=False, allow_nan=False, indent=2)) + "\n"


def methods(verdict: Verdict, identity: Identity, rubric: Rubric, facts: Mapping[str, str]) -> str:
    """Write a methods paragraph. `facts`: `date` and `check` (of the judge) have their places; others are appended."""
    primary = f"the mean of {len(rubric.criteria)} criteria" if rubric.primary == MEAN else rubric.primary
    criteria = ", ".join(f"{item.name} ({item.low:g}-{item.high:g})" for item in rubric.criteria)
    when = f" on {facts['date']}" if facts.get("date") else ""
    failed = sum(sum(variant.failures.values()) for variant in verdict.variants)
    cut = sum(variant.cut for variant in verdict.variants)
    rows = f"{verdict.rows} rows ({verdict.clusters} different questions; {verdict.complete} judged for all variants)"
    sentences = [
        f"Answers of {len(verdict.variants)} variants to {rows} were judged {_judge_phrase(identity)}{when}.",
        f"The rubric '{rubric.id}' (hash {rubric.hash}) has the criteria {criteria}; the primary number, declared "
        f"before, is {primary}.",
        "Variants were compared in pairs on the rows where both have a score, by the mean difference with a 95% "
        "interval of Student's t.",
        "Rows with the same question form a cluster; standard errors are then cluster-robust with the correction "
        "G/(G-1) and G-1 degrees of freedom." if verdict.clusters < verdict.rows else "",
        f"P values are of two-sided sign-flip tests (all signs for up to {EXACT} rows without a tie, else {DRAWS:,} "
        f"draws with seed {SEED}), corrected by Holm's method for {len(verdict.contrasts)} planned contrasts.",
        "A variant is called better or worse if the interval excludes zero and the corrected p is at most "
        f"{ALPHA}. Other criteria are secondary and uncorrected.",
        f"Failed judgements ({failed}) have no score and are in no mean. If a variant has more of them than "
        f"{FEW_FAILURES:.0%} of the rows, or the two of a pair have different counts, nothing is called better or "
        "worse unless that holds with every failure at the worst and at the best end of the scale.",
        f"Answers cut at their length limit ({cut}) were judged as they are.",
        _check_sentence(identity, facts.get("check", "")),
    ]  # fmt: skip
    others = [f"{name}: {facts[name]}." for name in sorted(facts) if name not in ("date", "check") and facts[name]]
    return plain(" ".join(sentence for sentence in [*sentences, *others] if sentence))


def _judge_phrase(identity: Identity) -> str:
    if identity.kind == "rule":
        return "by rule, without a model"
    if identity.kind in ("you", "given"):
        return "by a person" if identity.kind == "you" else "elsewhere; the scores were imported"
    model = identity.model or "an unnamed model"
    answered = f" (answering as {identity.returned})" if identity.returned not in ("", identity.model) else ""
    return f"by the language model {model}{answered}, {_place(identity)}"


def _place(identity: Identity) -> str:
    """Where the judge runs. Only hosts of known vendors are named: other addresses are private."""
    if identity.kind == "variant":
        return "run on the machine of the lab"
    return f"at {vendor_host(identity.address) or 'a private address'}"


def _check_sentence(identity: Identity, check: str) -> str:
    if check:
        return f"Check of the judge on fixed probes: {check.rstrip('.')}."
    is_model = identity.kind in ("endpoint", "variant")
    return "The judge was not checked on fixed probes before." if is_model else ""


def vote_pairs(votes: Iterable[Vote]) -> str:
    """Preference pairs as JSON lines in TRL's conversational format: the winner of each vote with each other answer.

    Both answers of a pair have the same prompt: a vote in conversations that differ gives no pair. An answer that is
    cut, empty or failed is never the chosen one.
    """
    pairs = []
    for vote in votes:
        if vote.winner is None:
            continue
        winner = _last_answer(vote.candidates[vote.winner])
        others = [_last_answer(other) for place, other in enumerate(vote.candidates) if place != vote.winner]
        pairs += [_pair(winner, other) for other in others if winner and other and _is_pair(winner, other)]
    return _json_lines(pairs)


def score_pairs(rows: Iterable[Sequence[ScoredAnswer]], rubric: Rubric, margin: float | None = None) -> str:
    """Preference pairs from scores: the best and the worst answer of each row, if they differ by at least `margin`.

    `margin` is in units of the primary score; the default is MARGIN of the scale. The order of the answers has no
    effect.
    """
    minimum = MARGIN * (rubric.high - rubric.low) if margin is None else margin
    pairs = []
    for answers in rows:
        scored = [answer for answer in answers if math.isfinite(answer.value)]
        scored.sort(key=lambda answer: (answer.value, answer.answer))
        best = next((answer for answer in reversed(scored) if not answer.cut and answer.answer.strip()), None)
        if best and best.value - scored[0].value >= max(minimum, 2 * SAME) - SAME and _is_pair(best, scored[0]):
            pairs.append(_pair(best, scored[0]))
    return _json_lines(pairs)


def _last_answer(candidate: Candidate) -> ScoredAnswer | None:
    """The last answer of a candidate; None if it failed."""
    if candidate.generation is None or not candidate.messages or candidate.messages[-1]["role"] != "assistant":
        return None
    cut = candidate.generation.end != "stop"
    return ScoredAnswer(candidate.messages[:-1], candidate.messages[-1]["content"], 0.0, cut)


def _is_pair(chosen: ScoredAnswer, rejected: ScoredAnswer) -> bool:
    """Whether the answers make a pair: the same prompt, different answers, and the chosen one complete."""
    complete = chosen.answer.strip() and not chosen.cut
    return bool(
        complete and chosen.prompt and list(chosen.prompt) == list(rejected.prompt) and chosen.answer != rejected.answer
    )


def _pair(chosen: ScoredAnswer, rejected: ScoredAnswer) -> dict[str, list[Message]]:
    prompt = [Message(role=message["role"], content=plain(message["content"])) for message in chosen.prompt]
    good, bad = ([Message(role="assistant", content=plain(answer.answer))] for answer in (chosen, rejected))
    return {"prompt": prompt, "chosen": good, "rejected": bad}


def _json_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """One record per line, without duplicates."""
    return "".join(dict.fromkeys(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def _cells_of(table: ScoreTable) -> list[tuple[str, str]]:
    return [(row, variant) for row in table.rows for variant in table.variants if (row, variant) in table.cells]


def _columns(prefix: str) -> list[str]:
    return [f"{prefix}{name}" for name in ("n", "mean", "low", "high")]


def _numbers(score: Estimate) -> list[float | None]:
    return [score.n, score.mean, score.low, score.high]


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([[_without_formula(field) for field in line] for line in lines])
    return text.getvalue()


def _without_formula(field: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would execute as a formula."""
    if isinstance(field, str):
        text = plain(field)
        return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA) else text
    return field


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by None, at any depth."""
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def export(result: Result, what: str) -> str:
    """The text of an export in EXPORTS. Raises LabError for another name."""
    match EXPORTS.get(what, ""):
        case "variants.csv":
            return variants_csv(result.verdict)
        case "comparisons.csv":
            return contrasts_csv(result.verdict)
        case "cells.csv":
            return cells_csv(result.table)
        case "evaluation.json":
            return to_json(result.verdict, result.table, result.identity)
        case "methods.txt":
            return methods(result.verdict, result.identity, result.rubric, facts(result))
        case "pairs.jsonl":
            return score_pairs([_scored_answers(result, question.id) for question in result.questions], result.rubric)
    raise LabError(f"{short(what)!r} is not an export. Choose one in the list under What to save.")


def facts(result: Result) -> dict[str, str]:
    """The facts of an evaluation for the methods paragraph."""
    spec, texts = result.spec, {}
    last = max((score.at for score in result.scores.values()), default=0.0)
    if last:
        texts["date"] = time.strftime("%Y-%m-%d", time.gmtime(last))
    if result.check:
        texts["check"] = result.check.sentence
    if spec.data:
        rows = f"{short(spec.data.source)} {spec.data.revision}".strip()
        texts["Rows"] = f"the {'eval split' if spec.part == 'held' else 'chosen rows'} of {rows}"
        sampling = spec.sampling
        how = "greedily" if sampling.temperature == 0 else f"at temperature {sampling.temperature:g}"
        texts["Answers"] = (
            f"generated {how} with seed {sampling.seed} and at most {sampling.max_tokens} tokens, each variant in the "
            "prompt format it was trained on"
        )
    else:
        texts["Answers"] = "imported"
    if result.steadiness:
        texts["Repeatability"] = f"SD {result.steadiness[1]:.2f} within an answer, {result.steadiness[0]} judged twice"
    if not spec.judge.reference:
        texts["Reference"] = "not shown to the judge"
    return texts


def _scored_answers(result: Result, row: str) -> list[ScoredAnswer]:
    question = next(item for item in result.questions if item.id == row)
    return [
        ScoredAnswer(question.messages, answer.text, result.rubric.primary_of(scores), answer.cut)
        for name in result.spec.variants
        if (answer := result.answers.get((row, name))) and (scores := values(result.table, row, name)) is not None
    ]
