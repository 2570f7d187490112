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
    """Everything a page shows. `scores` by row and variant: the one that counts, or the newest failure."""

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
    """How many answers were judged twice, and the spread within one, in points of the scale."""
    cost: float = 0.0
    """Dollars that its judgements took, each once: the check, failures and repetitions included."""

    @property
    def leaked(self) -> int:
        """Rows whose question was trained on."""
        return sum(question.leaked for question in self.questions)

    @property
    def identity(self) -> Identity:
        """Who judged; for a run that has not asked yet, whom it was told to ask."""
        if self.by:
            return self.by.identity
        return Identity(kind=self.spec.judge.kind, model=self.spec.judge.model, rubric=self.rubric.hash)


def read_result(folder: Path, spec: EvaluateRequest) -> Result:
    """As it is now; read again only when a file has changed."""
    return _result(folder, spec.model_dump_json(), tuple(version(folder / name) for name in FILES))


@lru_cache(maxsize=8)
def _result(folder: Path, spec_json: str, stamps: tuple[str, ...]) -> Result:
    spec = EvaluateRequest.model_validate_json(spec_json)
    rubric = rubric_of(spec)
    by = records.read_one(folder / records.JUDGE, JudgeRecord)
    questions, answers = records.questions(folder), records.answers(folder)
    found = records.scores(folder)
    cells: dict[Key, ScoreCell] = {}
    scores: dict[Key, Score] = {}
    for question in questions:
        for name in spec.variants:
            key = (question.id, name)
            several = _scores(spec, by, question, answers.get(key), found)
            if several:
                scores[key] = several[0]
            if (cell := _cell(spec, answers.get(key), several)) is not None:
                cells[key] = cell
    table = ScoreTable(
        rubric=rubric,
        rows={one.id: one.cluster for one in questions},
        variants=spec.variants,
        baselines=spec.baselines,
        contrasts=spec.contrasts,
        cells=cells,
    )
    ratings, picks = records.ratings(folder), records.picks(folder).values()
    costs = [score.cost for several in found.values() for score in several]
    costs += [one.cost for picked in picks for one in (picked.pick.forth, picked.pick.back)]
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
        steadiness=_steadiness(spec, by, rubric, questions, answers, found),
        cost=math.fsum(costs),
    )


def rubric_of(spec: EvaluateRequest) -> Rubric:
    """Of scores that came along, a rubric with one number on their scale."""
    if spec.judge.kind != "given":
        return rubrics()[spec.judge.rubric]
    about = "The score that came with the answer."
    one = Criterion(name="score", title="Score", about=about, low=spec.low, high=spec.high)
    return Rubric(id="given", title=f"points ({spec.low:g}-{spec.high:g})", primary="score", criteria=(one,))


def _scores(
    spec: EvaluateRequest,
    by: JudgeRecord | None,
    question: Question,
    answer: Answer | None,
    scores: Mapping[str, list[Score]],
) -> list[Score]:
    """The one of each repetition that counts, failures too; none before it was judged."""
    if answer is None or answer.error or by is None:
        return []
    item = records.item(question, answer, spec.judge.reference)
    keys = [item.key(by.identity.id, repeat) for repeat in range(spec.judge.repeats)]
    several = [records.best(scores[key]) for key in keys if key in scores]
    return sorted(several, key=lambda one: one.status != "ok")


def _cell(spec: EvaluateRequest, answer: Answer | None, several: list[Score]) -> ScoreCell | None:
    """None for what was not reached yet."""
    if answer is None:
        return None
    if answer.error:
        return ScoreCell("no_answer", {}, length=len(answer.text))
    cut, length = answer.cut, len(answer.text)
    if spec.judge.kind == "given":
        values = {} if answer.score is None else {"score": answer.score}
        return ScoreCell("ok" if values else "no_answer", values, cut, length)
    good = [score for score in several if score.status == "ok"]
    if not several:
        return None
    if not good:
        return ScoreCell(several[0].status, {}, cut, length)
    names = good[0].values
    return ScoreCell(
        "ok", {name: math.fsum(one.values[name] for one in good) / len(good) for name in names}, cut, length
    )


def _steadiness(
    spec: EvaluateRequest,
    by: JudgeRecord | None,
    rubric: Rubric,
    questions: list[Question],
    answers: Mapping[Key, Answer],
    scores: Mapping[str, list[Score]],
) -> tuple[int, float] | None:
    """Of answers that were judged once more than the verdict needs."""
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
            if len(pair) == 2 and all(one.status == "ok" and not one.by_rule for one in pair):
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
