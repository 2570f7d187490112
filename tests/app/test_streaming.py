"""What a streamed frame and a tick cost: finished turns are rendered once, and run folders are read once."""

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app import markup
from app.page import create_ui
from backend.evaluation.evaluations import Evaluations
from backend.inference.conversation import Turn
from backend.inference.sampling import Sampling
from backend.lab import Lab
from backend.library.library import Library
from backend.training.training import Training

FINISHED = "An earlier answer, **finished**."


def handler(page: gr.Blocks, api_name: str) -> Any:
    return next(fn.fn for fn in page.fns.values() if fn.api_name == api_name)


@pytest.fixture
def request_() -> Any:
    return SimpleNamespace(session_hash="s", request=None, client=None, headers={})


def test_a_finished_turn_is_rendered_once_however_many_pieces_arrive(
    lab: Lab, request_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []
    real = markup.answer_html
    monkeypatch.setattr(markup, "answer_html", lambda text: rendered.append(text) or real(text))  # type: ignore[func-returns-value]
    history = [Turn(role="user", content="Hello"), Turn(role="assistant", content=FINISHED, variant="echo")]
    chat = handler(create_ui(lab), "chat")
    frames = list(
        chat(
            request_, message="/slow " + "la " * 20, history=history, variant="echo", prompt_format="as trained",
            system_prompt="", **Sampling().model_dump(),
        )
    )  # fmt: skip
    assert len(frames) > 3 and rendered.count(FINISHED) == 1
    assert all(
        FINISHED.replace("**", "") in str(frame[2]).replace("<strong>", "").replace("</strong>", "") for frame in frames
    )


@pytest.mark.parametrize("tab", ["judge", "library", "runs"])
def test_a_tick_reads_trainings_variants_and_evaluations_at_most_once(
    tab: str, lab: Lab, request_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(owner: type, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *values, **more: read.append(name) or real(*values, **more))

    page = create_ui(lab)
    counting(Training, "statuses")
    counting(Evaluations, "statuses")
    counting(Library, "entries")
    handler(page, tab)(request_)
    assert read.count("entries") <= 1 and read.count("statuses") <= 2  # of trainings, and of evaluations
