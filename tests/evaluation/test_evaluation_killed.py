"""An evaluation whose runner and worker are killed at any moment, again and again (J5): in the end
every answer has one good score, and nobody was asked twice for what had been said already."""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from typing import Any

import pytest
from servers.judge import JudgeServer, Reply, graded
from support.evaluations import answer_in, brought, by, done, ended, judge, lab
from support.runs import alive
from support.session import until

from backend.core import jsonl
from backend.evaluation import records
from backend.jobs.run import Run
from backend.lab import Lab
from backend.remote import ledger

__all__ = ["lab", "judge"]  # the fixtures
TOGETHER = 4
TIMES = [(2, 25), pytest.param((5, 100), marks=pytest.mark.long), pytest.param((30, 100), marks=pytest.mark.long)]


def kill(run: Run) -> None:
    """SIGKILL to both groups, the worker's and the runner's."""
    until(lambda: bool(run.workers) or not run.alive)
    workers = run.workers
    for one in (workers.worker, workers.runner) if workers else ():
        if one:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one[0], signal.SIGKILL)
    until(lambda: not run.alive and alive(run) == [])


def said(run: Run) -> set[str]:
    """The askings whose reply is written down."""
    return {str(one["what"]) for one in jsonl.read(run.folder / records.REPLIES)}


@pytest.mark.parametrize("amount", TIMES)
def test_kills_at_any_moment_lose_no_score_and_ask_nothing_twice(
    amount: tuple[int, int], lab: Lab, judge: JudgeServer
) -> None:
    times, rows = amount  # kills, and answers of each of two models
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    def rule(body: dict[str, Any]) -> Reply:
        return Reply(graded(model=body["model"]).body, delay=chance.random() * 0.2)

    judge.rule = rule
    columns = {name: [f"{name} says {n}" for n in range(rows)] for name in ("one", "two")}
    run = lab.evaluations.start(brought(lab, by(judge, together=TOGETHER), columns))
    kills: list[tuple[int, set[str]]] = []
    for number in range(times):
        share = 2 * rows * (number + 1) // (times + 2)  # of the way, so that every kill finds something to cut off
        if early := chance.random() < 0.2:
            time.sleep(chance.random() * 2)
        until(lambda: early or not run.live or len(said(run)) >= share, 120)  # noqa: B023
        time.sleep(chance.random() * 2 / times)
        kill(run)
        if run.state == "done":
            break
        assert run.state in ("lost", "failed") and run.why and lab.evaluations.status(run.id).resumable
        assert lab.evaluations.result(run.id).spec.name  # it can be looked at as it stands
        kills.append((judge.calls, said(run)))
        lab.evaluations.resume(run.id)
    found = done(lab, ended(run))
    print(f"{len(kills)} kills, {judge.calls} calls")
    assert len(kills) >= max(1, times // 2)  # the run may end in the pause before a kill

    several = records.scores(run.folder)
    assert [cell.status for cell in found.table.cells.values()] == ["ok"] * 2 * rows
    assert len(several) == 2 * rows and {len(scores) for scores in several.values()} == {1}
    key_of = {scores[0].prompt[-1]["content"]: key for key, scores in several.items()}
    calls = [key_of.get(body["messages"][-1]["content"], "") for body in judge.bodies]
    for begins, stored in kills:
        known = {what.partition(".")[0] for what in stored}
        assert not known & set(calls[begins:])  # its reply was there when the kill came
    asked = Counter(key for key in calls if key)
    assert len(asked) == 2 * rows and asked.total() - 2 * rows <= TOGETHER * len(kills)
    trials = sum(answer_in(body) == "Yellow." for body in judge.bodies)
    assert judge.calls == asked.total() + trials and 1 <= trials <= 1 + len(kills)

    every = [ledger.Entry.model_validate(one) for one in jsonl.read(lab.settings.lab_runs / ledger.FILE)]
    settled = Counter(one.what for one in every if one.state == "settled" and one.what != "negotiation")
    assert set(settled.values()) == {1} and len(settled) == 2 * rows
    open_ones = [one for one in {one.id: one for one in every}.values() if one.state == "reserved"]
    assert len(open_ones) <= TOGETHER * len(kills) + len(kills)
    made = run.last("result")
    told = {one.facts["unknown"] for one in run.events()[_begins(run) :] if "unknown" in one.facts}
    assert made and made.facts["unknown"] == len(open_ones) and told == {len(open_ones)}
    assert lab.evaluations.spent().open == len(open_ones)


def _begins(run: Run) -> int:
    """Where its events begin to be of the last time it ran."""
    return max((place for place, one in enumerate(run.events()) if one.kind == "again"), default=0)


@pytest.mark.long
@pytest.mark.parametrize("who", ["runner", "worker"])
def test_either_of_the_two_may_be_killed_alone(who: str, lab: Lab, judge: JudgeServer) -> None:
    judge.rule = lambda body: Reply(graded().body, delay=0.05)
    columns = {name: [f"{name} says {n}" for n in range(20)] for name in ("one", "two")}
    run = lab.evaluations.start(brought(lab, by(judge, together=2), columns))
    until(lambda: len(said(run)) >= 6)
    assert run.workers and run.workers.worker
    os.kill(run.workers.runner[0] if who == "runner" else run.workers.worker[0], signal.SIGKILL)
    ended(run)
    until(lambda: alive(run) == [])
    assert run.state == ("lost" if who == "runner" else "failed") and run.why
    kept = said(run)
    done(lab, ended(lab.evaluations.resume(run.id)))
    asked = Counter(text for body in judge.bodies if (text := answer_in(body)) != "Yellow.")
    assert len(asked) == 40 and asked.total() <= 42 and len(kept) >= 6


def test_a_reply_that_was_stored_but_not_accounted_for_is_settled_and_used(lab: Lab, judge: JudgeServer) -> None:
    """The kill fell between the reply and everything that comes after it."""
    columns = {"one": ["a", "b"], "two": ["c", "d"]}
    run = lab.evaluations.start(brought(lab, by(judge), columns))
    done(lab, ended(run))
    until(lambda: not run.alive)
    path = lab.settings.lab_runs / ledger.FILE
    lines = path.read_text().splitlines()
    kept = [line for line in lines if '"settled"' not in line or '"negotiation"' in line]
    path.write_text("".join(line + "\n" for line in kept))
    (run.folder / records.SCORES).unlink()
    for name in ("events.jsonl", "exit.json"):
        (run.folder / name).unlink()
    assert run.state == "lost" and lab.evaluations.spent().open == 4
    calls = judge.calls
    found = done(lab, ended(lab.evaluations.resume(run.id)))
    assert judge.calls == calls and lab.evaluations.spent().open == 0 and lab.evaluations.spent().calls == 5
    assert [cell.status for cell in found.table.cells.values()] == ["ok"] * 4
