"""Part of the Compare tab: what a judge says of the answers on the screen."""

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

LOOK = 0.4  # seconds between two looks at a run that is waited for


def judge_panel(lab: Lab, match: Any, tab: gr.Tab) -> Any:
    """`match`: the comparison on the screen. Returns what holds the opinion: it is of these answers and no others."""
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("Ask a judge about these answers", open=False):
        gr.Markdown("One judgement is an impression. The Judge tab makes many of them, and says what they can carry.")
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
        def ask(now: Comparison, who: str, by: str, known: str, request: gr.Request) -> Iterator[str]:
            guard.require_owner(lab.settings, request, "ask a judge")
            run = lab.evaluations.start(form_choices.on_screen(lab, now, known or "", who, by, way), listed=False)
            while (one := lab.evaluations.standing(run.id)).live:
                yield judge_view.progress(one)
                time.sleep(LOOK)
            if one.state != "done":
                raise LabError(one.why or f"The judge ended as {one.state}. Try again.")
            names = judge_view.letters(form_choices.names_of(now), now.hidden)
            yield judge_view.on_screen(lab.evaluations.result(run.id), names)

        return ask

    # bindings
    told: dict[str, Any] = {"concurrency_limit": 4, "show_progress": "hidden"}
    score.click(asking("score"), [match, judge, rubric, reference], said, api_name="judge_scores", **told)
    pick.click(asking("winner"), [match, judge, rubric, reference], said, api_name="judge_picks", **told)
    tab.select(
        lambda: gr.update(choices=_judges(lab)), None, judge, api_visibility="private",
        show_progress="hidden",
    )  # fmt: skip
    return said


def _judges(lab: Lab) -> list[tuple[str, str]]:
    return [one for one in form_choices.judges(lab) if one[1] != CAME]
