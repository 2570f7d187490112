"""`Result`: an evaluation read from its folder, with questions, answers, scores, table and verdict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from backend.core import jsonl
from backend.core.files import version
from backend.evaluation import human_ratings, records
from backend.evaluation.contrasts import ScoreCell, ScoreTable
from backend.evaluation.records import Answer, JudgeRecord, Question, Rating, VoteRecord
from backend.evaluation.request import EvaluateRequest
from backend.evaluation.verdict import Verdict, verdict
from backend.judge.check import JudgeCheck
from backend.judge.rubric import Criterion, Rubric, rubrics
from backend.judge.score import Identity, Score
from models.variant import Variant

FILES = (
    records.ROWS, records.ANSWERS, records.JUDGE, records.SCORES, records.PICKS, records.CHECK, records.RATINGS,
    records.VARIANTS,
)  # fmt: skip
Key = tuple[str, str]


@dataclass(frozen=True)
class Result:
    """Everything that the page shows. `scores`: (row, variant) -> the score that counts, or the newest failure."""

    spec: EvaluateRequest
    rubric: Rubric
    by: JudgeRecord | None
    check: JudgeCheck | None
    questions: tuple[Question, ...]
    answers: Mapping[Key, Answer]
    scores: Mapping[Key, Score]
    picks: tuple[VoteRecord, ...]
    ratings: Mapping[Key, Rating]
    table: ScoreTable
    verdict: Verdict
    people: human_ratings.HumanAgreement
    variants: Mapping[str, Variant] = field(default_factory=dict)
    steadiness: tuple[int, float] | None = None
    """Number of answers that were judged twice, and the standard deviation between their scores in points."""
    cost: float = 0.0
    """Dollars for all judgements of the run, the judge check, failures and repetitions included."""

    @property
    def leaked(self) -> int:
        """Number of rows whose question is in the training split."""
        return sum(question.leaked for question in self.questions)

    @property
    def identity(self) -> Identity:
        """The judge; before the first judgement, the judge of the request."""
        if self.by:
            return self.by.identity
        return Identity(kind=self.spec.judge.kind, model=self.spec.judge.model, rubric=self.rubric.hash)


def read_result(folder: Path, spec: EvaluateRequest) -> Result:
    """Read the current result. Files that have not changed are not read again."""
    return _result(folder, spec.model_dump_json(), tuple(version(folder / name) for name in FILES))


@lru_cache(maxsize=8)
def _result(folder: Path, spec_json: str, stamps: tuple[str, ...]) -> Result:
    spec = EvaluateRequest.model_validate_json(spec_json)
    rubric = rubric_of(spec)
    by = records.read_one(folder / records.JUDGE, JudgeRecord)
    questions, answers = records.questions(folder), records.answers(folder)
    by_key = records.scores(folder)
    cells: dict[Key, ScoreCell] = {}
    scores: dict[Key, Score] = {}
    for question in questions:
        for name in spec.variants:
            key = (question.id, name)
            repeats = _scores(spec, by, question, answers.get(key), by_key)
            if repeats:
                scores[key] = repeats[0]
            if (cell := _cell(spec, answers.get(key), repeats)) is not None:
                cells[key] = cell
    table = ScoreTable(
        rubric=rubric,
        rows={question.id: question.cluster for question in questions},
        variants=spec.variants,
        baselines=spec.baselines,
        contrasts=spec.contrasts,
        cells=cells,
    )
    ratings, picks = records.ratings(folder), records.picks(folder).values()
    costs = [score.cost for repeats in by_key.values() for score in repeats]
    costs += [order.cost for vote in picks for order in (vote.pick.forth, vote.pick.back)]
    return Result(
        spec=spec,
        rubric=rubric,
        by=by,
        check=records.read_one(folder / records.CHECK, JudgeCheck),
        questions=tuple(questions),
        answers=answers,
        scores=scores,
        picks=tuple(picks),
        ratings=ratings,
        table=table,
        verdict=verdict(table),
        people=human_ratings.human_agreement(table, ratings),
        variants=_variants(folder),
        steadiness=_steadiness(spec, by, rubric, questions, answers, by_key),
        cost=math.fsum(costs),
    )


def rubric_of(spec: EvaluateRequest) -> Rubric:
    """The rubric of an evaluation. Imported scores have a rubric with one criterion on their scale."""
    if spec.judge.kind != "given":
        return rubrics()[spec.judge.rubric]
    about = "The score that came with the answer."
    criterion = Criterion(name="score", title="Score", about=about, low=spec.low, high=spec.high)
    return Rubric(id="given", title=f"points ({spec.low:g}-{spec.high:g})", primary="score", criteria=(criterion,))


def _scores(
    spec: EvaluateRequest,
    by: JudgeRecord | None,
    question: Question,
    answer: Answer | None,
    scores: Mapping[str, list[Score]],
) -> list[Score]:
    """The score of each repetition, valid ones first. Empty before the answer was judged."""
    if answer is None or answer.error or by is None:
        return []
    item = records.item(question, answer, spec.judge.reference)
    keys = [item.key(by.identity.id, repeat) for repeat in range(spec.judge.repeats)]
    repeats = [records.best(scores[key]) for key in keys if key in scores]
    return sorted(repeats, key=lambda score: score.status != "ok")


def _cell(spec: EvaluateRequest, answer: Answer | None, repeats: list[Score]) -> ScoreCell | None:
    """The score of an answer, the mean of its repetitions; None if it was not reached yet."""
    if answer is None:
        return None
    if answer.error:
        return ScoreCell("no_answer", {}, length=len(answer.text))
    cut, length = answer.cut, len(answer.text)
    if spec.judge.kind == "given":
        values = {} if answer.score is None else {"score": answer.score}
        return ScoreCell("ok" if values else "no_answer", values, cut, length)
    valid = [score for score in repeats if score.status == "ok"]
    if not repeats:
        return None
    if not valid:
        return ScoreCell(repeats[0].status, {}, cut, length)
    means = {name: math.fsum(score.values[name] for score in valid) / len(valid) for name in valid[0].values}
    return ScoreCell("ok", means, cut, length)


def _steadiness(
    spec: EvaluateRequest,
    by: JudgeRecord | None,
    rubric: Rubric,
    questions: list[Question],
    answers: Mapping[Key, Answer],
    scores: Mapping[str, list[Score]],
) -> tuple[int, float] | None:
    """Compare the scores of answers that were judged once more than the verdict needs."""
    if by is None or by.identity.kind == "rule":
        return None
    gaps: dict[str, float] = {}
    for question in questions:
        for name in spec.variants:
            answer = answers.get((question.id, name))
            if answer is None or answer.error:
                continue
            item = records.item(question, answer, spec.judge.reference)
            first, again = (item.key(by.identity.id, repeat) for repeat in (0, spec.judge.repeats))
            pair = [records.best(scores[key]) for key in (first, again) if key in scores]
            if len(pair) == 2 and all(score.status == "ok" and not score.by_rule for score in pair):
                gaps[first] = rubric.primary_of(pair[0].values) - rubric.primary_of(pair[1].values)
    if not gaps:
        return None
    return len(gaps), math.sqrt(math.fsum(gap * gap for gap in gaps.values()) / len(gaps) / 2)


def _variants(folder: Path) -> dict[str, Variant]:
    variants: dict[str, Variant] = {}
    for record in jsonl.read(folder / records.VARIANTS):
        variants |= _of_record(record)
    return variants


def _of_record(record: dict[str, object]) -> dict[str, Variant]:
    try:
        return {name: Variant.model_validate(value) for name, value in record.items()}
    except ValueError:
        return {}
