"""Part of the Judge tab: what is to be evaluated, what it will cost, and Start."""

from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from app import forms, guard
from app.chat import view as chat_view
from app.judge import form_choices
from app.judge import view as judge_view
from app.judge.form_choices import ANSWERS, CAME, ENDPOINT, FILE, OVERLAP, RUBRICS, TOY, FormChoices
from app.markup import plain
from backend.core.errors import LabError
from backend.evaluation.request import GREEDY, EvaluateOptions, JudgeOptions
from backend.inference.sampling import Sampling
from backend.lab import Lab
from backend.remote.prices import retirement

NONE = ""
AUTOMATIC = ("automatic: a fine-tune against its base", NONE)
ROWS = 60
LONGEST = 128  # tokens of an answer, at first: what is cut is marked


class Form(NamedTuple):
    """What the tab needs of it: the event that starts a run, and what to choose from again when the tab is opened."""

    started: Any
    lists: list[Any]


def evaluate_form(lab: Lab, tab: gr.Tab, which: Any) -> Form:
    """`which`: the list of evaluations, in which a new one is chosen."""
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("New evaluation", open=True):
        variants = gr.Dropdown(
            chat_view.options(lab.entries()), value=["tiny_base", "tiny_lora"], multiselect=True,
            label="Variants to evaluate", info="Each answers every row, in the template it was trained on.",
        )  # fmt: skip
        with gr.Row():
            source = gr.Dropdown(form_choices.sources(lab), value=TOY, label="Rows", interactive=True, scale=3)
            rows = gr.Number(ROWS, label="Rows at the most", minimum=1, maximum=10_000, precision=0, scale=1)
            drop = gr.UploadButton("Drop or choose a file", file_types=[".csv", ".jsonl", ".json", ".parquet"], scale=1)
        file = gr.Textbox(label="The file", interactive=False, visible=False)
        with gr.Row():
            judge = gr.Dropdown(form_choices.judges(lab), value=OVERLAP, label="Judge", interactive=True, scale=3)
            rubric = gr.Dropdown(list(RUBRICS), value="lab", label="Rubric of a model", interactive=True, scale=1)
            baseline = gr.Dropdown([AUTOMATIC], value=NONE, label="Baseline", interactive=True, scale=2)
        with gr.Accordion("How answers are made, and how the judge is asked", open=False):
            of_how = forms.draw(EvaluateOptions)
            of_judge = forms.draw(JudgeOptions)
            of_sampling = forms.draw(Sampling, " (evaluation)")
        cost = gr.Markdown()
        start = gr.Button("Start evaluation", variant="primary")
        said = gr.Markdown()
    for name, component in zip(forms.drawn(Sampling), of_sampling, strict=True):
        component.value = LONGEST if name == "max_tokens" else getattr(GREEDY, name)
    named = dict(zip(forms.drawn(JudgeOptions), of_judge, strict=True))
    named["cap_run"].value = lab.settings.judge_cap_run
    controls = [variants, source, rows, file, judge, rubric, baseline, *of_how, *of_judge, *of_sampling]

    # handlers
    def chosen(values: tuple[Any, ...]) -> FormChoices:
        first, rest = values[:7], values[7:]
        names, where, count, path, who, by, against = first
        if count is None:
            raise LabError("How many rows is empty. Fill it in.")
        return FormChoices(
            variants=tuple(names or ()),
            source=where,
            rows=int(count),
            file=path or "",
            judge=who,
            rubric=by,
            baseline=against or "",
            how=forms.parse(EvaluateOptions, rest[: len(of_how)]),
            judge_how=forms.parse(JudgeOptions, rest[len(of_how) : len(of_how) + len(of_judge)]),
            sampling=forms.parse(Sampling, rest[len(of_how) + len(of_judge) :]),
        )

    @shown
    def reckon(request: gr.Request, *values: Any) -> str:
        """Called while somebody chooses: what is missing is said, not refused."""
        if not guard.may_change(lab.settings, request):
            return "You are a visitor here: only the owner evaluates. You may look at what was evaluated."
        try:
            wanted = chosen(values)
            found = form_choices.forecast(lab, wanted)
        except LabError as error:
            return f"⚠ {plain(str(error))}"
        limits = wanted.judge_how.cap_run, lab.settings.judge_cap_day
        told = judge_view.forecast(found, lab.evaluations.spent(), *limits)
        leaving = retirement(lab.settings.judge_model, date.today()) if wanted.judge == ENDPOINT else ""
        return f"{told}\n\n⚠ {plain(leaving)}" if leaving else told

    @shown
    def take(path: str | None, request: gr.Request) -> list[Any]:
        guard.require_owner(lab.settings, request, "bring rows or answers")
        kept = lab.training.keep_file(Path(path or ""))
        where = ANSWERS if _means_answers(kept) else FILE
        found = lab.evaluations.brought(kept) if where == ANSWERS else None  # says what is wrong with it
        scored = found is not None and found.scored
        who = CAME if scored else gr.skip()
        against = [AUTOMATIC, *((name, name) for name in found.models)] if found else []
        baselines = gr.update(choices=against, value=NONE) if found else gr.skip()
        return [gr.update(value=str(kept), visible=True), where, who, baselines]

    @shown
    def choose_rows(where: str, path: str | None) -> list[Any]:
        """Which controls make sense for these rows."""
        own = where in (FILE, ANSWERS)
        return [
            gr.update(visible=where != ANSWERS),
            gr.update(visible=where != ANSWERS),
            gr.update(visible=own and bool(path)),
        ]

    @shown
    def among(names: list[str] | None, against: str | None) -> Any:
        options = [AUTOMATIC, *((name, name) for name in names or ())]
        return gr.update(choices=options, value=against if against in (names or ()) else NONE)

    @shown
    def begin(request: gr.Request, *values: Any) -> list[Any]:
        guard.require_owner(lab.settings, request, "evaluate")
        run = lab.evaluations.start(form_choices.asked(lab, chosen(values)))
        guard.info(f"The evaluation has begun: {run.spec.name}.")
        listed = gr.update(choices=judge_view.options(lab.evaluations.standings()), value=run.id)
        return [f"Run {plain(run.id)} has begun; it stands below. The page may be closed meanwhile.", listed]

    # bindings
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    brought = drop.upload(take, drop, [file, source, judge, baseline], api_name="bring_answers", show_progress="hidden")
    fitting = brought.then(choose_rows, [source, file], [variants, rows, file], **quiet)
    fitting.then(reckon, controls, cost, **quiet)
    source.input(choose_rows, [source, file], [variants, rows, file], **quiet)
    tab.select(reckon, controls, cost, **quiet)
    variants.change(among, [variants, baseline], baseline, **quiet)
    for control in controls:
        event = control.change if control in (variants, source, judge) else getattr(control, "input", None)
        if event is not None and control is not file:
            event(reckon, controls, cost, trigger_mode="always_last", **quiet)
    started = start.click(begin, controls, [said, which], api_name="evaluate", show_progress="hidden")
    return Form(started, [variants, source, judge])


def _means_answers(path: Path) -> bool:
    """Whether a file looks like answers made elsewhere, with or without faults; else it is one of rows."""
    with path.open("rb") as file:
        head = file.read(1 << 16).split(b"\n", 1)[0]
    return b"candidate" in head and b"model" in head
