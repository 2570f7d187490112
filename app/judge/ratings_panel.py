"""Blind ratings: people rate the same answers, and the page shows how far the judge agrees with them."""

from typing import Any

import gradio as gr

from app import guard
from app.judge import result_view
from app.judge.answer_view import text_block
from app.polling import LiveSection
from backend.core.errors import LabError
from backend.evaluation.human_ratings import FEWEST, MOST, SCALE, RatingTask
from backend.judge.prompt import conversation
from backend.judge.rubric import Criterion, rubrics
from backend.lab import Lab


def ratings_panel(lab: Lab, evaluation_list: Any) -> LiveSection:
    shown, scale = guard.shown(lab.settings), rubrics()[SCALE]

    # components
    with gr.Accordion("Rate answers yourself, blind", open=False):
        agreement = gr.Markdown()
        show_first = gr.Button("Show an answer")
        current = gr.State(None)
        answer = gr.HTML()
        with gr.Row(visible=False) as points:
            radios = [
                gr.Radio(_points(criterion), label=criterion.title, info=criterion.about)
                for criterion in scale.criteria
            ]
        save = gr.Button("Save and show the next", variant="primary", visible=False)

    # handlers
    def next_task(run: str) -> list[Any]:
        task = lab.evaluations.next_to_rate(run)
        key = (run, task.question.id, task.answer.variant) if task else None
        visible = gr.update(visible=task is not None)
        return [key, task_html(task), visible, visible, *[gr.update(value=None) for _ in radios]]

    @shown
    def show(run: str | None, request: gr.Request) -> list[Any]:
        guard.require_owner(lab.settings, request, "rate answers")
        if not run:
            raise LabError("No evaluation is chosen. Choose one in “Evaluation”.")
        return next_task(run)

    @shown
    def save_rating(request: gr.Request, key: tuple[str, str, str] | None, **points: float | None) -> list[Any]:
        guard.require_owner(lab.settings, request, "rate answers")
        if key is None:
            raise LabError("No answer is shown. Press “Show an answer” first.")
        run, row, variant = key
        values = {name: float(value) for name, value in points.items() if value is not None}
        lab.evaluations.rate(run, row, variant, values)
        return next_task(run)

    def view(snapshot: Any, chosen: Any) -> list[Any]:
        result = snapshot.result(chosen)
        return [result_view.human_agreement(result.people) if result else ""]

    # bindings
    outputs = [current, answer, points, save, *radios]
    show_first.click(show, evaluation_list, outputs, api_name="rate_next", show_progress="hidden")
    controls = {
        "key": current,
        **{criterion.name: radio for criterion, radio in zip(scale.criteria, radios, strict=True)},
    }
    events = [save.click(save_rating, None, outputs, inputs_kwargs=controls, api_name="rate", show_progress="hidden")]
    evaluation_list.input(lambda: [None, "", gr.update(visible=False), gr.update(visible=False)], None, outputs[:4],
                api_visibility="private")  # fmt: skip
    return LiveSection([agreement], view, events, {"evaluation": evaluation_list})


def _points(criterion: Criterion) -> list[tuple[str, int]]:
    return [(f"{number}: {anchor}", number) for number, anchor in enumerate(criterion.anchors, int(criterion.low))]


def task_html(task: RatingTask | None) -> str:
    """An answer to rate, without the name of its variant, in HTML."""
    if task is None:
        return "<p>All answers are rated.</p>"
    parts = [f"<p>{task.done} of {task.wanted} rated. Rate {FEWEST} to {MOST} rows; you can stop at any time.</p>"]
    parts.append(text_block("Question", conversation(task.question.messages)))
    if task.question.reference:
        parts.append(text_block("Reference", task.question.reference))
    parts.append(text_block("Answer" + (" – ⚠ CUT at its limit" if task.answer.cut else ""), task.answer.text))
    return "".join(parts)
