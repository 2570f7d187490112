"""A visitor of a Space may look at evaluations; all that starts, stops, rates or asks is the owner's."""

from conftest import App
from servers.hub import Hub
from support.session import cookie
from support.spaces import Session, hub, space

from app import forms
from app.judge.form_choices import OVERLAP, TOY
from backend.evaluation.request import GREEDY, EvaluateOptions, JudgeOptions

__all__ = ["hub", "space"]  # the fixtures


def form() -> list[object]:
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
        "evaluate": form(), "bring_answers": [None], "stop_evaluation": [None], "resume_evaluation": [None],
        "rate_next": [None], "rate": [None, 5, 5, 5], "judge_scores": [None, OVERLAP, "lab", ""],
        "judge_picks": [None, OVERLAP, "lab", ""], "save_evaluation": [None, "preference pairs for TRL (JSON lines)"],
    }  # fmt: skip
    for name, values in asked.items():
        why = str(visitor.call(name, *values)[1])
        assert "Only the owner of this lab may" in why, (name, why)
    assert (sorted(path.name for path in runs.iterdir()) if runs.exists() else []) == before
    assert "No evaluation is chosen" in str(owner.call("stop_evaluation", None)[1])  # the owner is heard
    assert "no answers to judge yet" in str(owner.call("judge_scores", None, OVERLAP, "lab", "")[1])
