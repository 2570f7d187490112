"""A judge for the answers of a comparison: scores, or a winner."""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app import guard
from app.compare.comparison import Comparison
from app.judge import form_choices
from app.judge import view as judge_view
from app.judge.form_choices import CAME, OVERLAP, RUBRICS, Way
from backend.core.errors import LabError
from backend.lab import Lab

INTERVAL = 0.4  # seconds between two readings of the run


def judge_panel(lab: Lab, match: Any, tab: gr.Tab) -> Any:
    """`match`: the state of the comparison. Returns the component with the judgement of these answers."""
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("Ask a judge about these answers", open=False):
        gr.Markdown(
            "One judgement is an impression. The Judge tab makes many, and says what can be concluded from them."
        )
        with gr.Row():
            judge = gr.Dropdown(_judges(lab), value=OVERLAP, label="Judge of the screen", interactive=True)
            rubric = gr.Dropdown(list(RUBRICS), value="lab", label="Rubric of the screen", interactive=True)
        reference = gr.Textbox(label="Reference answer, if there is one", lines=2)
        with gr.Row():
            score = gr.Button("Score each answer")
            pick = gr.Button("Pick a winner, both orders")
        said = gr.Markdown(elem_id="opinion")

    # handlers
    def asking(way: Way) -> Any:
        @shown
        def ask(request: gr.Request, now: Comparison, judge: str, rubric: str, reference: str | None) -> Iterator[str]:
            guard.require_owner(lab.settings, request, "ask a judge")
            evaluation, answers = form_choices.judge_comparison(lab, now, reference or "", judge, rubric, way)
            run = lab.evaluations.start(evaluation, answers, listed=False)
            while (status := lab.evaluations.status(run.id)).live:
                yield judge_view.progress(status)
                time.sleep(INTERVAL)
            if status.state != "done":
                raise LabError(status.why or f"The judge ended as {status.state}. Try again.")
            names = judge_view.letters(form_choices.names_of(now), now.hidden)
            yield judge_view.on_screen(lab.evaluations.result(run.id), names)

        return ask

    # bindings
    streaming: dict[str, Any] = {"concurrency_limit": 4, "show_progress": "hidden"}
    inputs = [match, judge, rubric, reference]
    score.click(asking("score"), inputs, said, api_name="judge_scores", **streaming)
    pick.click(asking("winner"), inputs, said, api_name="judge_picks", **streaming)
    tab.select(
        lambda: gr.update(choices=_judges(lab)), None, judge, api_visibility="private",
        show_progress="hidden",
    )  # fmt: skip
    return said


def _judges(lab: Lab) -> list[tuple[str, str]]:
    return [choice for choice in form_choices.judges(lab.settings, lab.entries()) if choice[1] != CAME]
