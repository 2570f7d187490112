"""Evaluations that choose winners: both orders, one vote for each pair, and a judge that favours a place."""

import json
from typing import Any

import pytest
from servers.judge import JudgeServer, Reply, graded
from support.evaluations import BARE, by, done, ended, evaluated, give, judge, lab, saved, scores, two_in
from support.session import until

from backend.core.errors import LabError
from backend.evaluation import records
from backend.evaluation.imported_answers import ImportedFile
from backend.evaluation.request import JudgeRequest
from backend.judge.votes import wins
from backend.lab import Lab

__all__ = ["lab", "judge"]  # the fixtures
THREE = {"llama-x": ["good a", "bad a"], "llama-y": ["bad b", "bad a"], "llama-z": ["fair c", None]}


def winner(name: str) -> Reply:
    return graded(json.dumps({"evidence": "It is right.", "winner": name}))


def by_worth(body: dict[str, Any]) -> Reply:
    """The better answer, wherever it stands."""
    first, second = (["bad", "fair", "good"].index(text.split()[0]) for text in two_in(body))
    return winner("A" if first > second else "B" if second > first else "tie")


def chosen(lab: Lab, judge: JudgeServer, columns: dict[str, list[str | None]], **more: Any) -> Any:
    spec = lab.evaluations.request(tuple(columns), by(judge, **more), answers=saved(lab, columns), way="winner", **BARE)
    return evaluated(lab, spec)


def test_every_pair_is_asked_in_both_orders_and_is_one_vote_of_that_judge(lab: Lab, judge: JudgeServer) -> None:
    judge.next(winner("tie"))  # the trial question
    judge.rule = by_worth
    run = chosen(lab, judge, THREE)
    found = done(lab, run)
    better = {(one.row, one.first, one.second): one.pick.better for one in found.picks}
    assert better == {
        ("row-0", "llama-x", "llama-y"): "first",
        ("row-0", "llama-x", "llama-z"): "first",
        ("row-0", "llama-y", "llama-z"): "second",
        ("row-1", "llama-x", "llama-y"): "tie",  # the same text: nobody is asked; and the last has not answered at all
    }
    assert judge.calls == 1 + 3 * 2
    assert not any(name in json.dumps(judge.bodies) for name in ("llama", "row-"))
    votes = lab.votes()
    assert len(votes) == 4 and {one.judge for one in votes} == {"judge-1"} and all(one.blind for one in votes)
    counted = {one.variant: (one.won, one.lost, one.tied) for one in wins(votes, "judge-1")}
    assert counted == {"llama-x": (2, 0, 1), "llama-z": (1, 1, 0), "llama-y": (0, 2, 1)}
    assert not scores(run) and not found.table.cells and found.cost == 0


def test_a_judge_that_favours_a_place_makes_ties(lab: Lab, judge: JudgeServer) -> None:
    judge.rule = lambda body: winner("A")
    found = done(lab, chosen(lab, judge, {"one": ["good", "bad"], "two": ["fair", "good"]}))
    assert [one.pick.better for one in found.picks] == ["tie", "tie"]
    assert all(one.pick.disagree and "swapped" in one.pick.reason for one in found.picks)
    assert {one.verdict for one in lab.votes()} == {"tie"} and len(lab.votes()) == 2


def test_a_verdict_that_failed_is_no_vote_and_is_asked_for_again(lab: Lab, judge: JudgeServer) -> None:
    judge.next(winner("tie"))
    judge.rule = lambda body: by_worth(body) if "fair" in str(two_in(body)) else graded("C")
    run = chosen(lab, judge, {"one": ["good a", "fair b"], "two": ["bad a", "bad b"]})
    found = done(lab, run)
    assert [one.pick.better for one in sorted(found.picks, key=lambda one: one.row)] == [None, "first"]
    assert {one.pick.forth.status for one in found.picks if one.row == "row-0"} == {"bad_json"}
    assert len(lab.votes()) == 1 and lab.evaluations.status(run.id).failed == 1
    calls, judge.rule = judge.calls, by_worth
    found = done(lab, ended(lab.evaluations.resume(run.id)))
    assert [one.pick.better for one in found.picks] == ["first", "first"] and judge.calls == calls + 2
    assert len(lab.votes()) == 2 and not lab.evaluations.status(run.id).resumable


def test_a_stop_keeps_the_winners_and_pays_for_no_order_twice(lab: Lab, judge: JudgeServer) -> None:
    columns = {name: [f"{worth} {n}" for n in range(10)] for name, worth in (("one", "good"), ("two", "bad"))}
    judge.next(winner("tie"))
    judge.rule = lambda body: Reply(by_worth(body).body, delay=0.1)
    spec = lab.evaluations.request(
        ("one", "two"), by(judge, together=2), answers=saved(lab, columns), way="winner", **BARE
    )
    run = lab.evaluations.start(spec)
    until(lambda: len(records.picks(run.folder)) >= 3)
    lab.evaluations.stop(run.id)
    assert ended(run, 15).state == "stopped"
    kept = len(records.picks(run.folder))
    half = judge.calls - 1 - 2 * kept  # pairs of which one order was answered when it was stopped
    assert 3 <= kept < 10 and len(lab.votes()) == kept and 0 <= half <= 2 == judge.peak
    judge.rule = by_worth
    found = done(lab, ended(lab.evaluations.resume(run.id)))
    assert {one.pick.better for one in found.picks} == {"first"} and len(found.picks) == 10 == len(lab.votes())
    assert judge.calls == 1 + 2 * 10


def test_winners_need_a_model_and_two_variants(lab: Lab, judge: JudgeServer) -> None:
    two, one = give({"one": ["a"], "two": ["b"]}), give({"one": ["a"]})
    for who, answers in ((JudgeRequest(), two), (JudgeRequest(kind="given", rubric="given"), two), (by(judge), one)):
        names = tuple(dict.fromkeys(answer.model for answer in answers))
        with pytest.raises(LabError, match="two variants or more, by a judge that is a model"):
            lab.evaluations.request(names, who, answers=ImportedFile(answers), way="winner")
