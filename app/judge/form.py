"""The form of a new evaluation: variants, rows, judge, the estimated cost, and Start."""

from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from app import forms, guard
from app.chat import view as chat_view
from app.judge import form_choices
from app.judge import view as judge_view
from app.judge.form_choices import (
    ANSWERS,
    ENDPOINT,
    FILE,
    IMPORTED_SCORES,
    MAX_ROWS,
    OVERLAP,
    RUBRICS,
    TOY,
    FormChoices,
)
from app.markup import plain
from backend.core.errors import LabError
from backend.data.dataset import ENDINGS
from backend.evaluation.imported_answers import are_answers
from backend.evaluation.request import GREEDY, EvaluateOptions, JudgeOptions
from backend.inference.sampling import Sampling
from backend.lab import Lab
from backend.remote.prices import retirement

NONE = ""
AUTOMATIC = ("automatic: a fine-tune against its base", NONE)
ROWS = 60
ANSWER_TOKENS = 128  # default limit of an answer; answers that are cut at it are marked


class Form(NamedTuple):
    """For the tab: the event that starts an evaluation, and the lists to update when the tab is opened."""

    started: Any
    lists: list[Any]


def evaluate_form(lab: Lab, tab: gr.Tab, evaluation_list: Any) -> Form:
    """`evaluation_list`: the dropdown in which a new evaluation is chosen."""
    shown = guard.shown(lab.settings)
    entries = lab.entries()

    # components
    with gr.Accordion("New evaluation", open=True):
        variants = gr.Dropdown(
            chat_view.options(entries), value=["tiny_base", "tiny_lora"], multiselect=True,
            label="Variants to evaluate", info="Each answers every row, with the chat template it was trained with.",
        )  # fmt: skip
        with gr.Row():
            source = gr.Dropdown(
                form_choices.sources(lab.training.statuses()), value=TOY, label="Rows", interactive=True, scale=3
            )
            rows = gr.Number(ROWS, label="Maximum rows", minimum=1, maximum=10_000, precision=0, scale=1)
            drop = gr.UploadButton("Upload a file", file_types=list(ENDINGS), scale=1)
        file = gr.Textbox(label="Uploaded file", interactive=False, visible=False)
        with gr.Row():
            judge = gr.Dropdown(
                form_choices.judges(lab.settings, entries), value=OVERLAP, label="Judge", interactive=True, scale=3
            )
            rubric = gr.Dropdown(list(RUBRICS), value="lab", label="Rubric", interactive=True, scale=1)
            baseline = gr.Dropdown([AUTOMATIC], value=NONE, label="Baseline", interactive=True, scale=2)
        with gr.Accordion("Settings of answers and judge", open=False):
            evaluate_controls = forms.draw(EvaluateOptions)
            judge_controls = forms.draw(JudgeOptions, prefix="judge_")
            sampling_controls = forms.draw(Sampling, " (evaluation)")
        cost = gr.Markdown()
        start = gr.Button("Start evaluation", variant="primary")
        message = gr.Markdown()
    for name, component in sampling_controls.items():
        component.value = ANSWER_TOKENS if name == "max_tokens" else getattr(GREEDY, name)
    judge_controls["judge_cap_run"].value = lab.settings.judge_cap_run
    controls = {
        "variants": variants,
        "source": source,
        "rows": rows,
        "file": file,
        "judge": judge,
        "rubric": rubric,
        "baseline": baseline,
        **evaluate_controls,
        **judge_controls,
        **sampling_controls,
    }

    # handlers
    def choices(values: dict[str, Any]) -> FormChoices:
        return FormChoices(
            variants=tuple(values["variants"] or ()),
            source=values["source"],
            rows=forms.number(values["rows"], "Maximum rows", 1, MAX_ROWS),
            file=values["file"] or "",
            judge=values["judge"],
            rubric=values["rubric"],
            baseline=values["baseline"] or "",
            options=forms.parse(EvaluateOptions, values),
            judge_options=forms.parse(JudgeOptions, values, "judge_"),
            sampling=forms.parse(Sampling, values),
        )

    @shown
    def estimate_cost(request: gr.Request, **values: Any) -> str:
        """Called on every change of a control, so a missing choice is text and not an error. Writes nothing."""
        if not guard.may_change(lab.settings, request):
            return "You are a visitor here: you can see the results, but only the owner can start evaluations."
        try:
            form_values = choices(values)
            cost = form_choices.cost_forecast(lab, form_values)
        except LabError as error:
            return f"⚠ {plain(str(error))}"
        limits = form_values.judge_options.cap_run, lab.settings.judge_cap_day
        text = judge_view.forecast(cost, lab.evaluations.spent(), *limits)
        retires = retirement(lab.settings.judge_model, date.today()) if form_values.judge == ENDPOINT else ""
        return f"{text}\n\n⚠ {plain(retires)}" if retires else text

    @shown
    def upload(path: str | None, request: gr.Request) -> list[Any]:
        guard.require_owner(lab.settings, request, "upload rows or answers")
        saved = lab.training.save_upload(Path(path or ""))
        source = ANSWERS if are_answers(saved) else FILE
        answers = lab.evaluations.read_answers(saved) if source == ANSWERS else None  # LabError for a faulty file
        judge = IMPORTED_SCORES if answers and answers.scored else gr.skip()
        names = [AUTOMATIC, *((name, name) for name in answers.models)] if answers else []
        baselines = gr.update(choices=names, value=NONE) if answers else gr.skip()
        return [gr.update(value=str(saved), visible=True), source, judge, baselines]

    @shown
    def choose_rows(source: str, file: str | None) -> list[Any]:
        """Show the controls that belong to this source of rows."""
        own = source in (FILE, ANSWERS)
        return [
            gr.update(visible=source != ANSWERS),
            gr.update(visible=source != ANSWERS),
            gr.update(visible=own and bool(file)),
        ]

    @shown
    def list_baselines(variants: list[str] | None, baseline: str | None) -> Any:
        options = [AUTOMATIC, *((name, name) for name in variants or ())]
        return gr.update(choices=options, value=baseline if baseline in (variants or ()) else NONE)

    @shown
    def start_evaluation(request: gr.Request, **values: Any) -> list[Any]:
        guard.require_owner(lab.settings, request, "evaluate")
        chosen = choices(values)
        run = lab.evaluations.start(form_choices.evaluate_request(lab, chosen), form_choices.imported(chosen))
        guard.info(f"The evaluation has started: {run.spec.name}.")
        listed = gr.update(choices=judge_view.options(lab.evaluations.statuses()), value=run.id)
        return [f"Run {plain(run.id)} has started; see below. It continues if you close the page.", listed]

    # bindings
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    uploaded = drop.upload(
        upload, drop, [file, source, judge, baseline], api_name="bring_answers", show_progress="hidden"
    )
    refreshed = uploaded.then(choose_rows, [source, file], [variants, rows, file], **quiet)
    refreshed.then(estimate_cost, None, cost, inputs_kwargs=controls, **quiet)
    source.input(choose_rows, [source, file], [variants, rows, file], **quiet)
    tab.select(estimate_cost, None, cost, inputs_kwargs=controls, **quiet)
    variants.change(list_baselines, [variants, baseline], baseline, **quiet)
    for control in controls.values():
        event = control.change if control in (variants, source, judge) else getattr(control, "input", None)
        if event is not None and control is not file:
            event(estimate_cost, None, cost, inputs_kwargs=controls, trigger_mode="always_last", **quiet)
    started = start.click(
        start_evaluation,
        None,
        [message, evaluation_list],
        inputs_kwargs=controls,
        api_name="evaluate",
        show_progress="hidden",
    )
    return Form(started, [variants, source, judge])
