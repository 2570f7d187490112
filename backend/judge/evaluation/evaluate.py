"""python -m backend.judge.evaluation.evaluate RUN

Rows, then answers, then judgements, each written down as it comes. What is there already is not done again, so a run
that was stopped or killed goes on where it was.
"""

import os
import sys
import time
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from backend import jsonl
from backend.errors import LabError
from backend.jobs.work import Journal, work
from backend.judge import check, judgement
from backend.judge.evaluation import records
from backend.judge.evaluation.answering import answer_all
from backend.judge.evaluation.judges import Ready, judge_of
from backend.judge.evaluation.judging import Wanted, judge_all, missing
from backend.judge.evaluation.questions import gathered
from backend.judge.evaluation.records import Answer, Picked, Question
from backend.judge.evaluation.spec import EvaluateSpec
from backend.judge.judgement import Candidate, Judgement
from backend.judge.pairs import Chooser, Pick
from backend.judge.rubric import rubrics
from backend.judge.score import Score
from backend.messages import Message

CHECKS = "checks"  # the folder of checks, below the runs: one for all evaluations by the same judge
VOTES = "judgements.jsonl"
PASSING = ("api_error", "timed_out", "cancelled")  # failures that say nothing of the judge itself
Answers = dict[tuple[str, str], Answer]


def evaluate(asked: EvaluateSpec, journal: Journal) -> None:
    folder = journal.folder
    key = os.environ.pop("OPENAI_API_KEY", "")  # nothing else of this process needs it
    journal.step(now=True, state="reading the rows")
    questions = gathered(asked, folder, print)
    if not asked.given:
        started = time.monotonic()

        def say(done: int, total: int, tokens: int) -> None:
            seconds = max(time.monotonic() - started, 1e-3)
            journal.step(done == total, state="answering", done=done, total=total, tokens_per_second=tokens / seconds)

        answer_all(asked, questions, folder, say)
    answers = records.answers(folder)
    if asked.judge.kind != "given":
        journal.step(now=True, state="asking the judge")
        with judge_of(asked, folder, key) as ready:
            journal.step(now=True, state="asking the judge", unknown=ready.unknown)
            if asked.way == "winner":
                pick_all(asked, questions, answers, ready, journal)
            else:
                score_all(asked, questions, answers, ready, journal)
    journal.result(rows=len(questions), answers=len(answers))


def score_all(
    asked: EvaluateSpec,
    questions: list[Question],
    answers: dict[tuple[str, str], Answer],
    ready: Ready,
    journal: Journal,
) -> None:
    """The check of the judge first, then every answer, then some of them once more."""
    judge, known = ready.judge, records.scores(journal.folder)
    if asked.check and ready.asker:
        check_judge(asked, ready, known, journal)
    items = [
        records.item(one, answers[one.id, name], asked.judge.reference)
        for one in questions
        for name in asked.variants
        if (one.id, name) in answers and not answers[one.id, name].error
    ]
    wanted = [Wanted(item, repeat) for item in items for repeat in range(asked.judge.repeats)]
    again = list({item.key(judge.identity.id): item for item in items}.values()) if ready.asker else []
    step = max(1, len(again) // max(1, asked.rejudged))
    wanted += [Wanted(item, asked.judge.repeats) for item in islice(again[::step], asked.rejudged)]
    run(ready, wanted, known, "judging", journal)


def check_judge(asked: EvaluateSpec, ready: Ready, known: dict[str, list[Score]], journal: Journal) -> None:
    """The probes, unless this very judge has been tried on them before."""
    judge, wanted = ready.judge, check.wanted()
    shared = Path(asked.runs) / CHECKS / f"{judge.identity.id}-{check.digest()}.json"
    if shared.is_file():
        records.write_whole(journal.folder / records.CHECK, shared.read_text(encoding="utf-8"))
        return
    run(ready, [Wanted(one.item, one.repeat) for one in wanted], known, "checking the judge", journal)
    keys = {one.id: one.item.key(judge.identity.id, one.repeat) for one in wanted}
    scores = {id: records.best(known[key]) for id, key in keys.items() if key in known}
    found = check.report(judge.identity.id, rubrics()[asked.judge.rubric], scores).model_dump_json(indent=1)
    records.write_whole(journal.folder / records.CHECK, found)
    if not any(one.status in PASSING for one in scores.values()):
        shared.parent.mkdir(parents=True, exist_ok=True)
        records.write_whole(shared, found)


def run(ready: Ready, wanted: list[Wanted], known: dict[str, list[Score]], state: str, journal: Journal) -> None:
    todo = missing(ready.judge, wanted, known)
    spent = sum(one.cost for several in known.values() for one in several)
    failed = 0

    def keep(score: Score) -> None:
        nonlocal spent, failed
        jsonl.append(journal.folder / records.SCORES, score.model_dump(mode="json"))
        spent, failed = spent + score.cost, failed + (score.status != "ok")

    def say(done: int) -> None:
        facts: dict[str, Any] = {"done": done, "total": len(todo), "failed": failed, "dollars": spent}
        journal.step(done == len(todo), state=state, waiting_until=ready.waiting_until, **facts)

    judge_all(ready.judge, todo, known, keep, say, ready.close)


def pick_all(
    asked: EvaluateSpec,
    questions: list[Question],
    answers: dict[tuple[str, str], Answer],
    ready: Ready,
    journal: Journal,
) -> None:
    """Every two answers to each row, in both orders; those of two variants also become votes of that judge."""
    if ready.asker is None:
        raise LabError("A rule measures, it does not choose. Let it score, or choose a judge that is a model.")
    chooser = Chooser(ready.asker, rubrics()[asked.judge.rubric])
    known, folder = records.picks(journal.folder), journal.folder
    todo = [(one, a, b) for one in questions for a, b in combinations(asked.variants, 2)]
    for place, (one, a, b) in enumerate(todo):
        journal.step(state="judging", done=place, total=len(todo))
        if (found := known.get((one.id, a, b))) and found.pick.better is not None:
            continue
        first, second = answers[one.id, a], answers[one.id, b]
        reference = one.reference if asked.judge.reference else None
        what = f"{one.id}.{place}.{_tries(folder, one.id, a, b)}"
        pick = chooser.pick(one.messages, reference, first.text, second.text, what)
        jsonl.append(folder / records.PICKS, Picked(row=one.id, first=a, second=b, pick=pick).model_dump(mode="json"))
        if pick.better is not None:
            judgement.keep(Path(asked.runs) / VOTES, _vote(asked, one, first, second, pick, ready.by.identity.model))


def _tries(folder: Path, row: str, a: str, b: str) -> int:
    found = jsonl.read(folder / records.PICKS)
    return sum((one.get("row"), one.get("first"), one.get("second")) == (row, a, b) for one in found)


def _vote(asked: EvaluateSpec, one: Question, first: Answer, second: Answer, pick: Pick, model: str) -> Judgement:
    """In the same file as a person's votes, so that they can be compared."""
    winner = {"first": 0, "second": 1}.get(pick.better or "")
    return Judgement(
        judge=model,
        blind=True,
        candidates=[_candidate(one, first), _candidate(one, second)],
        verdict="tie" if winner is None else "winner",
        winner=winner,
        reason=pick.reason,
        sampling=asked.sampling,
    )


def _candidate(one: Question, answer: Answer) -> Candidate:
    said = [*one.messages, Message(role="assistant", content=answer.text)]
    return Candidate(variant=answer.variant, messages=said, generation=answer.generation)


if __name__ == "__main__":
    sys.exit(work(EvaluateSpec, evaluate))
