"""What leaves an evaluation: tables, JSON, a paragraph for a paper, and preference pairs to train on."""

import time

from backend.core.errors import LabError, short
from backend.evaluation.contrasts import values
from backend.evaluation.result import Result
from backend.report import tables as made
from backend.report.tables import Scored

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


def export(found: Result, what: str) -> str:
    """LabError for something nobody knows."""
    match EXPORTS.get(what, ""):
        case "variants.csv":
            return made.variants_csv(found.verdict)
        case "comparisons.csv":
            return made.contrasts_csv(found.verdict)
        case "cells.csv":
            return made.cells_csv(found.table)
        case "evaluation.json":
            return made.to_json(found.verdict, found.table, found.identity)
        case "methods.txt":
            return made.methods(found.verdict, found.identity, found.rubric, facts(found))
        case "pairs.jsonl":
            return made.score_pairs([_scored(found, one.id) for one in found.questions], found.rubric)
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


def _scored(found: Result, row: str) -> list[Scored]:
    question = next(one for one in found.questions if one.id == row)
    return [
        Scored(question.messages, answer.text, found.rubric.primary_of(got), answer.cut)
        for name in found.spec.variants
        if (answer := found.answers.get((row, name))) and (got := values(found.table, row, name)) is not None
    ]
