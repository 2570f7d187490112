"""A visitor of a Space may look at trainings; starting, stopping, resuming and exporting are the owner's."""

from conftest import App
from servers.hub import Hub
from support.session import cookie, until
from support.spaces import Session, hub, space

from app import forms
from backend.jobs.run import runs_in
from backend.training.presets import presets

__all__ = ["hub", "space"]  # the fixtures


def test_a_visitor_trains_nothing_by_any_handler_and_the_owner_does(space: App, hub: Hub) -> None:
    owner, visitor = Session(space, cookie("u1")), Session(space, cookie("u2"))
    spec = presets()["tiny_lora"].spec
    form = [getattr(value, name) for value in (spec.data, spec) for name in forms.names(type(value))]
    assert owner.call("inspect", *form)[1] == ""
    runs = space.home / "runs"
    until(lambda: all(not run.live for run in runs_in(runs, "inspect")))
    before = sorted(path.name for path in runs.iterdir())

    assert visitor.call("runs")[1] == ""
    asked = {
        "inspect": form, "try": form, "train": form, "bring_data": [None], "stop_run": [None], "resume_run": [None],
        "export_run": [None, "merged", "Q4_K_M", False],
    }  # fmt: skip
    for name, values in asked.items():
        why = str(visitor.call(name, *values)[1])
        assert "Only the owner of this lab may" in why, (name, why)
    assert sorted(path.name for path in runs.iterdir()) == before
    assert "No run is chosen" in str(owner.call("stop_run", None)[1])  # the owner is heard
