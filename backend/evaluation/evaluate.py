"""python -m backend.evaluation.evaluate RUN

Reads the rows, generates the answers, then scores them. Each answer and each score is stored when it arrives. A run
that was stopped or killed continues: what is stored is not done again.
"""

import os
import sys
import threading
import time
from itertools import combinations, islice
from pathlib import Path
from typing import Any, NamedTuple

from backend.core import jsonl
from backend.core.errors import LabError
from backend.core.files import write_atomic
from backend.core.messages import Message
from backend.evaluation import records
from backend.evaluation.answering import generate_answers, read_questions
from backend.evaluation.judge_setup import OpenJudge, open_judge
from backend.evaluation.records import Answer, Question, VoteRecord
from backend.evaluation.request import EvaluateRequest
from backend.evaluation.scoring import ScoringTask, missing_scores, run_concurrently, score_tasks
from backend.jobs.events import EvaluateResult, EvaluateStep
from backend.jobs.journal import Journal, run_worker
from backend.judge import check, votes
from backend.judge.grader import is_empty
from backend.judge.pairwise import PairwiseJudge, PairwiseVote
from backend.judge.rubric import rubrics
from backend.judge.score import Score
from backend.judge.votes import Candidate, Vote

CHECKS = "checks"  # a folder in the runs folder: the check of a judge is shared by all evaluations
TEMPORARY = ("api_error", "timed_out", "cancelled")  # failures that say nothing about the judge
Answers = dict[tuple[str, str], Answer]


def evaluate(request: EvaluateRequest, journal: Journal) -> None:
    folder = journal.folder
    key = os.environ.pop("OPENAI_API_KEY", "")  # only the judge needs it
    journal.step(EvaluateStep(state="reading the rows"), now=True)
    questions = read_questions(request, folder, print)
    if not request.given:
        started = time.monotonic()

        def say(done: int, total: int, tokens: int) -> None:
            seconds = max(time.monotonic() - started, 1e-3)
            journal.step(
                EvaluateStep(state="answering", done=done, total=total, tokens_per_second=tokens / seconds),
                now=done == total,
            )

        generate_answers(request, questions, folder, say)
    answers = records.answers(folder)
    failed, unknown = sum(bool(answer.error) for answer in answers.values()), 0
    if request.judge.kind != "given":
        journal.step(EvaluateStep(state="asking the judge"), now=True)
        with open_judge(request, folder, key) as ready:
            unknown = ready.unknown
            journal.step(EvaluateStep(state="asking the judge", unknown=unknown), now=True)
            judge_answers = vote_all if request.way == "winner" else score_all
            failed += judge_answers(request, questions, answers, ready, journal)
    journal.result(EvaluateResult(rows=len(questions), answers=len(answers), failed=failed, unknown=unknown))


def score_all(
    request: EvaluateRequest,
    questions: list[Question],
    answers: Answers,
    ready: OpenJudge,
    journal: Journal,
) -> int:
    """Check the judge, score every answer, then score some of them once more. Returns the number of scores that are
    missing because the judge failed."""
    judge, known = ready.judge, records.scores(journal.folder)
    if ready.client:
        check_judge(request, ready, known, journal)
    items = [
        records.item(question, answers[question.id, name], request.judge.reference)
        for question in questions
        for name in request.variants
        if (question.id, name) in answers and not answers[question.id, name].error
    ]
    wanted = [ScoringTask(item, repeat) for item in items for repeat in range(request.judge.repeats)]
    by_model = ready.client is not None
    again = [item for item in {item.key(""): item for item in items}.values() if by_model and not is_empty(item.answer)]
    step = max(1, len(again) // max(1, request.rejudged))
    more = [ScoringTask(item, request.judge.repeats) for item in islice(again[::step], request.rejudged)]
    run(ready, wanted + more, known, "judging", journal)
    return len(missing_scores(judge, wanted, known)) if by_model else 0


def check_judge(request: EvaluateRequest, ready: OpenJudge, known: dict[str, list[Score]], journal: Journal) -> None:
    """Check the judge with the probes, unless it was checked before or the check is off."""
    judge, wanted = ready.judge, check.probe_tasks()
    shared = Path(request.runs) / CHECKS / f"{judge.identity.id}-{check.digest()}.json"
    if earlier := records.read_one(shared, check.JudgeCheck):
        write_atomic(journal.folder / records.CHECK, earlier.model_dump_json(indent=1))
        return
    if not request.check:
        return
    run(ready, [ScoringTask(task.item, task.repeat) for task in wanted], known, "checking the judge", journal)
    keys = {task.id: task.item.key(judge.identity.id, task.repeat) for task in wanted}
    scores = {id: records.best(known[key]) for id, key in keys.items() if key in known}
    text = check.report(judge.identity.id, rubrics()[request.judge.rubric], scores).model_dump_json(indent=1)
    write_atomic(journal.folder / records.CHECK, text)
    if not any(score.status in TEMPORARY for score in scores.values()):
        shared.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(shared, text)


def run(
    ready: OpenJudge, wanted: list[ScoringTask], known: dict[str, list[Score]], state: str, journal: Journal
) -> None:
    """Score the tasks that have no valid score yet, and write progress."""
    todo = missing_scores(ready.judge, wanted, known)
    spent = sum(score.cost for repeated in known.values() for score in repeated)
    failed = 0

    def keep(score: Score) -> None:
        nonlocal spent, failed
        jsonl.append(journal.folder / records.SCORES, score.model_dump(mode="json"))
        spent, failed = spent + score.cost, failed + (score.status != "ok")

    def say(done: int) -> None:
        facts: dict[str, Any] = {"done": done, "total": len(todo), "failed": failed, "dollars": spent}
        facts["unknown"] = ready.unknown
        journal.step(EvaluateStep(state=state, waiting_until=ready.waiting_until, **facts), now=done == len(todo))

    score_tasks(ready.judge, todo, known, keep, say, ready)


def vote_all(
    request: EvaluateRequest,
    questions: list[Question],
    answers: Answers,
    ready: OpenJudge,
    journal: Journal,
) -> int:
    """Compare every two answers to each row, in both orders. Each valid vote is also stored with the votes of people.
    Returns the number of votes that are missing because the judge failed."""
    if ready.client is None:
        raise LabError("A rule cannot pick a winner. Let it score, or choose a judge that is a model.")
    judge = PairwiseJudge(ready.client, rubrics()[request.judge.rubric])
    known, tried, folder = records.picks(journal.folder), records.tries(journal.folder), journal.folder
    every = [(question, a, b) for question in questions for a, b in combinations(request.variants, 2)]
    todo = [
        Pair(place, question, answers[question.id, a], answers[question.id, b])
        for place, (question, a, b) in enumerate(every)
        if _answered(answers, question, a) and _answered(answers, question, b)
        if (question.id, a, b) not in known or known[question.id, a, b].pick.better is None
    ]
    lock, failed, spent = threading.Lock(), 0, 0.0

    def pick(pair: Pair) -> None:
        nonlocal failed, spent
        question, first, second = pair.question, pair.first, pair.second
        reference = question.reference if request.judge.reference else None
        what = f"{question.id}.{pair.place}.{tried[question.id, first.variant, second.variant]}"
        vote = judge.pick(question.messages, reference, first.text, second.text, what)
        if "cancelled" in (vote.forth.status, vote.back.status):
            return
        record = VoteRecord(row=question.id, first=first.variant, second=second.variant, pick=vote)
        with lock:
            jsonl.append(folder / records.PICKS, record.model_dump(mode="json"))
            failed, spent = failed + (vote.better is None), spent + vote.forth.cost + vote.back.cost
            if vote.better is not None:
                shared = _vote(request, question, first, second, vote, ready.by.identity.model)
                votes.append_vote(Path(request.runs) / votes.FILE, shared)

    def say(done: int) -> None:
        facts: dict[str, Any] = {"done": done, "total": len(todo), "failed": failed, "dollars": spent}
        facts |= {"unknown": ready.unknown, "waiting_until": ready.waiting_until}
        journal.step(EvaluateStep(state="judging", **facts), now=done == len(todo))

    run_concurrently(todo, pick, ready.client.together, say, ready)
    return failed


class Pair(NamedTuple):
    """Two answers to one row. `place`: its number among all pairs, those without answers included."""

    place: int
    question: Question
    first: Answer
    second: Answer


def _answered(answers: Answers, question: Question, name: str) -> bool:
    return (question.id, name) in answers and not answers[question.id, name].error


def _vote(
    request: EvaluateRequest, question: Question, first: Answer, second: Answer, pick: PairwiseVote, model: str
) -> Vote:
    """The vote in the form of a person's vote, so that the two can be compared."""
    winner = {"first": 0, "second": 1}.get(pick.better or "")
    return Vote(
        judge=model,
        blind=True,
        candidates=[_candidate(question, first), _candidate(question, second)],
        verdict="tie" if winner is None else "winner",
        winner=winner,
        reason=pick.reason,
        sampling=request.sampling,
    )


def _candidate(question: Question, answer: Answer) -> Candidate:
    said = [*question.messages, Message(role="assistant", content=answer.text)]
    return Candidate(variant=answer.variant, messages=said, generation=answer.generation)


if __name__ == "__main__":
    sys.exit(run_worker(EvaluateRequest, evaluate))
