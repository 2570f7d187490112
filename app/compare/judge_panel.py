"""A judge for the answers of a comparison: scores, or a winner."""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app import guard
from app.compare.comparison import Comparison
from app.judge import form_choices
from app.judge import view as judge_view
from app.judge.form_choices import IMPORTED_SCORES, OVERLAP, RUBRICS, Way
from backend.core.errors import LabError
from backend.lab import Lab

INTERVAL = 0.4  # seconds between two readings of the run


def judge_panel(lab: Lab, state: Any, tab: gr.Tab) -> Any:
    """`state`: the state of the comparison. Returns the component that shows the judgement."""
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("Ask a judge about these answers", open=False):
        gr.Markdown("One judgement says little. The Judge tab makes many, and says what can be concluded from them.")
        with gr.Row():
            judge = gr.Dropdown(_judges(lab), value=OVERLAP, label="Judge of the comparison", interactive=True)
            rubric = gr.Dropdown(list(RUBRICS), value="lab", label="Rubric of the comparison", interactive=True)
        reference = gr.Textbox(label="Reference answer (optional)", lines=2)
        with gr.Row():
            score = gr.Button("Score each answer")
            pick = gr.Button("Pick a winner, both orders")
        judgement = gr.Markdown(elem_id="opinion")

    # handlers
    def judging(way: Way) -> Any:
        @shown
        def judge_answers(
            request: gr.Request, state: Comparison, judge: str, rubric: str, reference: str | None
        ) -> Iterator[str]:
            guard.require_owner(lab.settings, request, "ask a judge")
            evaluation, answers = form_choices.judge_comparison(lab, state, reference or "", judge, rubric, way)
            run = lab.evaluations.start(evaluation, answers, listed=False)
            while (status := lab.evaluations.status(run.id)).live:
                yield judge_view.progress(status)
                time.sleep(INTERVAL)
            if status.state != "done":
                raise LabError(status.why or f"The judge ended as {status.state}. Try again.")
            names = judge_view.letters(form_choices.names_of(state), state.hidden)
            yield judge_view.comparison_judgement(lab.evaluations.result(run.id), names)

        return judge_answers

    # bindings
    streaming: dict[str, Any] = {"concurrency_limit": 4, "show_progress": "hidden"}
    inputs = [state, judge, rubric, reference]
    score.click(judging("score"), inputs, judgement, api_name="judge_scores", **streaming)
    pick.click(judging("winner"), inputs, judgement, api_name="judge_picks", **streaming)
    tab.select(
        lambda: gr.update(choices=_judges(lab)), None, judge, api_visibility="private",
        show_progress="hidden",
    )  # fmt: skip
    return judgement


def _judges(lab: Lab) -> list[tuple[str, str]]:
    return [choice for choice in form_choices.judges(lab.settings, lab.entries()) if choice[1] != IMPORTED_SCORES]
