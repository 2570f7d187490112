"""A visitor of a Space may look, chat and compare. All that writes, starts, stops, uploads or rates is the owner's.

One app is enough for all of them. The Library has more handlers: `tests/library/test_library_visitors.py`.
"""

import json
from typing import Any

from conftest import App
from gradio_client import Client
from servers.hub import Hub
from support.session import cookie, until
from support.spaces import Session, hub, space, upload

from app import forms
from app.judge.form_choices import OVERLAP, TOY
from backend.evaluation.request import GREEDY, EvaluateOptions, JudgeOptions
from backend.jobs.run import runs_in
from backend.training.presets import presets

__all__ = ["hub", "space"]  # the fixtures

WORDS = "word " * 30


def compare_and_vote(app: App, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """One comparison and one vote; returns the judgements on disk."""
    client = Client(app.url, verbose=False, analytics_enabled=False, headers=headers)
    values = [0.0, 40, 0.95, 0.05, 1.0, -1, 40, ""]
    client.predict(WORDS, "echo", "echo", "none", "none", False, "together", "", *values, api_name="/compare")
    client.predict(api_name="/vote_a_is_better")
    file = app.home / "runs" / "judgements.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_visitors_vote_changes_nothing_on_disk(space: App) -> None:
    assert compare_and_vote(space) == []


def test_the_owners_vote_is_kept(space: App) -> None:
    kept = compare_and_vote(space, cookie("u1"))
    assert [record["judge"] for record in kept] == ["you"]
    answers = [candidate["messages"][-1]["content"] for candidate in kept[0]["candidates"]]
    assert [len(answer.split()) for answer in answers] == [30, 30]  # a visitor's would have 20


def test_only_the_owner_of_a_space_uploads(space: App) -> None:
    assert upload(space) == 403
    assert upload(space, **cookie("u2")) == 403
    assert upload(space, **cookie("u1")) == 200


def test_a_forged_login_is_a_visitors(space: App) -> None:
    before = compare_and_vote(space)
    forged = {"Cookie": cookie("u1")["Cookie"][:-4] + "AAAA"}
    assert compare_and_vote(space, forged) == before


def assert_refused(visitor: Session, calls: dict[str, list[object]]) -> None:
    for name, values in calls.items():
        why = str(visitor.call(name, *values)[1])
        assert "Only the owner of this lab may" in why, (name, why)


def test_a_visitor_trains_nothing_by_any_handler_and_the_owner_does(space: App, hub: Hub) -> None:
    owner, visitor = Session(space, cookie("u1")), Session(space, cookie("u2"))
    spec = presets()["tiny_lora"].spec
    form = [getattr(value, name) for value in (spec.data, spec) for name in forms.names(type(value))]
    assert owner.call("inspect", *form)[1] == ""
    runs = space.home / "runs"
    until(lambda: all(not run.live for run in runs_in(runs, "inspect")))
    before = sorted(path.name for path in runs.iterdir())

    assert visitor.call("runs")[1] == ""
    asked: dict[str, list[object]] = {
        "inspect": form, "try": form, "train": form, "bring_data": [None], "stop_run": [None], "resume_run": [None],
        "export_run": [None, "merged", "Q4_K_M", False],
    }  # fmt: skip
    assert_refused(visitor, asked)
    assert sorted(path.name for path in runs.iterdir()) == before
    assert "No run is chosen" in str(owner.call("stop_run", None)[1])  # the owner is heard


def evaluation_form() -> list[object]:
    values: list[object] = [["tiny_base", "tiny_lora"], TOY, 2, "", OVERLAP, "lab", ""]
    for value in (EvaluateOptions(), JudgeOptions(), GREEDY):
        values += [getattr(value, name) for name in forms.names(type(value))]
    return values


def test_a_visitor_judges_nothing_by_any_handler_and_the_owner_does(space: App, hub: Hub) -> None:
    owner, visitor = Session(space, cookie("u1")), Session(space, cookie("u2"))
    runs = space.home / "runs"
    before = sorted(path.name for path in runs.iterdir()) if runs.exists() else []
    assert visitor.call("judge")[1] == ""
    asked: dict[str, list[object]] = {
        "evaluate": evaluation_form(), "bring_answers": [None], "stop_evaluation": [None], "resume_evaluation": [None],
        "rate_next": [None], "rate": [None, 5, 5, 5], "judge_scores": [None, OVERLAP, "lab", ""],
        "judge_picks": [None, OVERLAP, "lab", ""], "save_evaluation": [None, "preference pairs for TRL (JSON lines)"],
    }  # fmt: skip
    assert_refused(visitor, asked)
    assert (sorted(path.name for path in runs.iterdir()) if runs.exists() else []) == before
    assert "No evaluation is chosen" in str(owner.call("stop_evaluation", None)[1])  # the owner is heard
    assert "no answers to judge yet" in str(owner.call("judge_scores", None, OVERLAP, "lab", "")[1])
