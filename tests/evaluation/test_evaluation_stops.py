"""Evaluations that end early: a judge that answers no more, a limit, a stop. What is judged is gone on from."""

import json
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from servers.judge import JudgeServer, Reply, Rule, graded, refused
from support.evaluations import (
    answer_in,
    asked_about,
    brought,
    by,
    done,
    ended,
    evaluated,
    judge,
    lab,
    points,
    saved,
    scores,
)
from support.judges import KEY, endpoint
from support.session import until

from backend.core import jsonl
from backend.core.errors import LabError
from backend.core.messages import Message
from backend.evaluation import records, scoring
from backend.evaluation.request import JudgeRequest
from backend.evaluation.scoring import ScoringTask, missing_scores, run_concurrently, score_tasks
from backend.jobs.run import Run
from backend.judge.grader import Grader
from backend.judge.rubric import rubrics
from backend.judge.score import Identity, Item, Score
from backend.lab import Lab
from backend.remote import ledger

__all__ = ["lab", "judge"]  # the fixtures
MANY = {"one": [f"one says {n}" for n in range(20)], "two": [f"two says {n}" for n in range(20)]}
SOON = 15.0  # seconds, less than calls under way are given


def after(count: int, trouble: Reply) -> Rule:
    """Grades so many answers, then the trouble begins."""
    graded_so_far: list[str] = []

    def rule(body: dict[str, Any]) -> Reply:
        if answer_in(body) == "Yellow.":
            return graded()
        graded_so_far.append(answer_in(body))
        return trouble if len(graded_so_far) > count else graded()

    return rule


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (refused(401, f"Incorrect API key provided: {KEY}"), "does not accept the key"),
        pytest.param(refused(403, "Not for you."), "does not let the key", marks=pytest.mark.long),
        pytest.param(
            refused(429, "You exceeded your current quota.", code="insufficient_quota"),
            "credit or its spending limit",
            marks=pytest.mark.long,
        ),
        pytest.param(
            refused(429, "Slow down.", {"Retry-After": "3600"}),
            "requires a pause of 60 minutes",
            marks=pytest.mark.long,
        ),
        pytest.param(refused(404, "No such model.", param="model"), "has no model 'judge-1'", marks=pytest.mark.long),
    ],
)
def test_what_makes_going_on_senseless_ends_it_at_once(trouble: Reply, why: str, lab: Lab, judge: JudgeServer) -> None:
    judge.rule = after(7, trouble)
    run = lab.evaluations.start(brought(lab, by(judge, together=3), MANY))
    ended(run, SOON)
    assert run.state == "failed" and why in run.why and KEY not in run.why + run.log(100)
    kept = [one for one in scores(run) if one.status == "ok"]
    assert len(kept) == 7 == len(scores(run))
    assert 8 <= asked_about(judge).total() <= 7 + 3
    standing = lab.evaluations.status(run.id)
    assert standing.resumable and len(lab.evaluations.result(run.id).table.cells) == 7
    assert not any(KEY.encode() in path.read_bytes() for path in run.folder.iterdir() if path.is_file())

    judge.rule, before = points(), asked_about(judge)
    found = done(lab, ended(lab.evaluations.resume(run.id)))
    assert len(found.table.cells) == 40 and all(cell.status == "ok" for cell in found.table.cells.values())
    again = asked_about(judge) - before
    assert again.total() == 33 and not any(one.prompt[-1]["content"] in str(again) for one in kept)
    assert judge.calls == asked_about(judge).total() + 1  # nothing was negotiated anew


def test_a_stop_keeps_whole_rows_and_a_resumed_run_asks_only_for_the_rest(lab: Lab, judge: JudgeServer) -> None:
    judge.rule = lambda body: Reply(graded().body, delay=0.1)
    run = lab.evaluations.start(brought(lab, by(judge, together=4), MANY))
    until(lambda: len(scores(run)) >= 8)
    lab.evaluations.stop(run.id)
    ended(run, SOON)
    assert (run.state, run.why) == ("stopped", "Stopped by you.")
    kept = scores(run)
    assert 8 <= len(kept) < 40 and {one.status for one in kept} == {"ok"}
    assert len(kept) == asked_about(judge).total()  # what was under way was waited for
    cells = lab.evaluations.result(run.id).table.cells
    rows = [sum((f"row-{n}", name) in cells for name in MANY) for n in range(20)]
    assert rows == sorted(rows, reverse=True) and rows.count(1) <= 2  # row by row, so that most are whole
    assert not [one for one in ledger_of(lab) if one.state == "reserved"]

    judge.rule = points()
    assert len(done(lab, ended(lab.evaluations.resume(run.id))).table.cells) == 40
    assert set(asked_about(judge).values()) == {1} and asked_about(judge).total() == 40


def ledger_of(lab: Lab) -> list[ledger.Entry]:
    """The last entry of each call."""
    found = map(ledger.Entry.model_validate, jsonl.read(lab.settings.lab_runs / ledger.FILE))
    return list({one.id: one for one in found}.values())


def test_a_judge_that_is_not_the_same_any_more_is_not_gone_on_with(lab: Lab, judge: JudgeServer) -> None:
    judge.rule = after(3, refused(401, "No."))
    run = evaluated(lab, brought(lab, by(judge), MANY))
    known = json.loads((run.folder / records.JUDGE).read_text())
    known["identity"]["rubric"] = "another"
    (run.folder / records.JUDGE).write_text(json.dumps(known))
    ended(lab.evaluations.resume(run.id))
    assert run.state == "failed" and "scores of two judges cannot be compared" in run.why
    assert len(scores(run)) == 3


def test_answers_that_were_brought_and_changed_are_not_judged(lab: Lab) -> None:
    spec = brought(lab, JudgeRequest(), {"one": ["a", "b"], "two": ["c", "d"]})
    path = Path(spec.given)
    path.write_bytes(path.read_bytes().replace(b'"candidate":"c"', b'"candidate":"x"'))
    run = evaluated(lab, spec)
    assert run.state == "failed" and "are gone or were changed. Import them again" in run.why
    path.unlink()
    ended(lab.evaluations.resume(run.id))
    assert run.state == "failed" and "are gone or were changed" in run.why
    saved(lab, {"one": ["a", "b"], "two": ["c", "d"]})
    assert len(done(lab, ended(lab.evaluations.resume(run.id))).table.cells) == 4


def judged(judge: JudgeServer, folder: Path, known: dict[str, list[Score]], cap: float, together: int) -> Grader:
    """Judge twelve answers through a line that costs something, until a limit or the end."""
    rubric = rubrics()["lab"]
    asker = endpoint(judge, folder, cap_run=cap, together=together)
    grader = Grader(asker, rubric, Identity(kind="endpoint", model="judge-1", rubric=rubric.hash))
    ask = [Message(role="user", content="What is 2 plus 2?")]
    items = [ScoringTask(Item(messages=ask, reference="4", answer=f"It is {n}.")) for n in range(12)]
    todo, kept = missing_scores(grader, items, known), list[Score]()
    try:
        score_tasks(grader, todo, known, kept.append, lambda done: None, asker)
    finally:
        assert sum(map(len, known.values())) >= len(kept)
    return grader


@pytest.mark.parametrize("together", [1, 4])
def test_a_limit_on_spending_is_never_passed_and_is_gone_on_from(
    together: int, judge: JudgeServer, tmp_path: Path
) -> None:
    known: dict[str, list[Score]] = {}
    cap = 0.02
    judge.rule = lambda body: graded(usage={"prompt_tokens": 2000, "completion_tokens": 300})
    with pytest.raises(LabError, match=r"The limit for this run is \$0.0200"):
        judged(judge, tmp_path, known, cap, together)
    first = ledger.spent(tmp_path / ledger.FILE)
    assert 0 < len(known) < 12 and judge.calls == len(known) == first.calls
    assert first.most <= cap and first.open == 0
    assert {one.status for several in known.values() for one in several} == {"ok"}
    judged(judge, tmp_path, known, 1.0, together)
    assert judge.calls == len(known) == 12 and set(asked_about(judge).values()) == {1}
    assert ledger.spent(tmp_path / ledger.FILE).settled == pytest.approx(12 * 0.0026)


class Asked:
    """Waits until it is closed, and tells in which order it was ended."""

    def __init__(self) -> None:
        self.over, self.said = Event(), list[str]()

    def cancel_waiting(self) -> None:
        self.said.append("let go")

    def close(self) -> None:
        self.said.append("closed")
        self.over.set()


def test_what_has_not_begun_when_it_is_stopped_never_does(tmp_path: Path) -> None:
    """Also where what is under way ends only because it is closed."""
    began, asked = list[int](), Asked()

    def do(one: int) -> None:
        began.append(one)
        asked.over.wait(SOON)

    def say(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "GRACE", 0.1)
        run_concurrently(range(1000), do, 3, say, asked)
    assert sorted(began) == [0, 1, 2] and asked.said == ["let go", "closed"]


def test_a_run_says_how_it_goes(lab: Lab, judge: JudgeServer) -> None:
    judge.rule = lambda body: Reply(graded().body, delay=0.05)
    run: Run = evaluated(lab, brought(lab, by(judge), MANY))
    steps = [one.facts for one in run.events() if one.kind == "step" and one.facts["state"] == "judging"]
    assert steps[-1] == {
        "state": "judging", "waiting_until": 0.0, "done": 40, "total": 40, "failed": 0, "dollars": 0.0, "unknown": 0
    }  # fmt: skip
    assert [one["done"] for one in steps] == sorted(one["done"] for one in steps) and len(steps) >= 3
    made = run.last("result")
    assert made and made.facts == {"rows": 20, "answers": 40, "failed": 0, "unknown": 0}
    assert lab.evaluations.spent().calls == 41 and lab.evaluations.spent().settled == 0
