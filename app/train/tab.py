"""The Train tab: a preset, its form, a look at the data, and Start."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app import forms, guard
from app.markup import plain
from app.runs import view as runs_view
from backend.core.errors import LabError
from backend.data.dataset import ENDINGS, DatasetSpec
from backend.lab import Lab
from backend.report import figures
from backend.training.presets import changes, presets
from backend.training.request import TrainSettings
from models.templates import templates

FIRST = "tiny_lora"
LOOK = 0.3  # seconds between two looks at a run that is waited for
NOTHING = ["", "", gr.update(visible=False), ""]  # said, report, lengths, rows
OWN = "**A file of your own**: JSON, JSONL, CSV or Parquet, as ShareGPT, messages, Alpaca or prompt and completion."


def train_tab(lab: Lab, tabs: gr.Tabs) -> None:
    shown = guard.shown(lab.settings)
    first = presets()[FIRST]

    # components
    with gr.Tab("Train", id="train") as tab:
        visiting = gr.Markdown(
            "You are a visitor here: only the owner trains. You may look at everything.", visible=False
        )
        with gr.Row():
            preset = gr.Dropdown(list(presets()), value=FIRST, label="Preset", interactive=True, scale=1)
            about = gr.Markdown(first.about)
        with gr.Accordion("Data", open=False):
            gr.Markdown(OWN)
            drop = gr.UploadButton("Drop or choose a file", file_types=list(ENDINGS), size="sm")
            of_data = forms.draw(DatasetSpec)
        with gr.Accordion("Every setting", open=False):
            of_spec = forms.draw(TrainSettings, choices={"template": ["own", *templates()]})
        different = gr.Markdown(runs_view.differences([], FIRST))
        needs = gr.Markdown()  # reckoned when somebody comes to the tab: it asks the processor and the GPU
        with gr.Row():
            look = gr.Button("Look at the data")
            attempt = gr.Button("Try five steps")
            start = gr.Button("Start training", variant="primary")
        said = gr.Markdown()
        report = gr.Markdown()
        lengths = gr.Plot(label="Lengths of rows", visible=False)
        rows = gr.HTML()
    controls = [*of_data, *of_spec]
    for component, value in zip(controls, _values(first.spec), strict=True):
        component.value = value

    # handlers
    def spec_of(values: tuple[Any, ...]) -> TrainSettings:
        for name, value in zip((*forms.drawn(DatasetSpec), *forms.drawn(TrainSettings)), values, strict=True):
            if value is None:
                field = DatasetSpec.model_fields.get(name) or TrainSettings.model_fields[name]
                raise LabError(f"{field.title} is empty. Fill it in, or choose the preset again.")
        data = forms.parse(DatasetSpec, values[: len(of_data)])
        return forms.parse(TrainSettings, values[len(of_data) :], data=data)

    @shown
    def choose(name: str) -> list[Any]:
        chosen = presets()[name]
        same = runs_view.differences([], name) + runs_view.costs(chosen.spec)
        told = [chosen.about, same, _needs(lab, chosen.spec)]
        return [*told, *_values(chosen.spec), *NOTHING]

    @shown
    def compare(request: gr.Request, name: str, *values: Any) -> list[Any]:
        """Called while somebody types: what is not whole yet is said, not refused."""
        try:
            spec = spec_of(values)
        except LabError as error:
            return [f"⚠ {plain(str(error))}", ""]
        told = runs_view.differences(changes(spec, presets()[name].spec), name) + runs_view.costs(spec)
        # A visitor must not learn which folders there are, and which models of the Hub are in the cache.
        public = spec.base in {one.spec.base for one in presets().values()}
        return [told, _needs(lab, spec) if public or guard.may_change(lab.settings, request) else ""]

    @shown
    def visit(request: gr.Request, name: str, *values: Any) -> list[Any]:
        return [gr.update(visible=not guard.may_change(lab.settings, request)), compare(request, name, *values)[1]]

    @shown
    def keep(path: str | None, request: gr.Request) -> list[Any]:
        guard.require_owner(lab.settings, request, "bring data")
        kept = lab.training.keep_file(Path(path or ""))
        count = lab.training.length(kept)
        held = min(20, count // 10)
        rows = [0, count - held, count - held, held] if count else [gr.skip()] * 4
        guard.info(f"{kept.name} is kept. See which rows are trained on and which are held out, then look at the data.")
        return [str(kept), "", *rows, *NOTHING]

    @shown
    def inspect(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        guard.require_owner(lab.settings, request, "look at data")
        spec = spec_of(values)
        run = lab.training.inspect(spec)
        while run.live:
            step = run.last("step")
            state = str(step.facts.get("state", "")) if step else run.state
            yield [f"Looking: {plain(state)} …", *NOTHING[1:]]
            time.sleep(LOOK)
        try:
            found = lab.training.inspected(run.id)
        except LabError as error:
            yield [f"⚠ {plain(str(error))}", *NOTHING[1:]]
            return
        yield [
            "",
            runs_view.inspected(found, spec),
            gr.update(value=figures.lengths(found), visible=True),
            runs_view.samples(found.samples),
        ]

    @shown
    def measure(request: gr.Request, *values: Any) -> Iterator[str]:
        guard.require_owner(lab.settings, request, "try trainings")
        run = lab.training.attempt(spec_of(values))
        while (one := lab.training.standing(run.id)).live:
            yield runs_view.attempted(one)
            time.sleep(LOOK)
        yield runs_view.attempted(one)

    @shown
    def begin(request: gr.Request, *values: Any) -> list[Any]:
        guard.require_owner(lab.settings, request, "train")
        spec = spec_of(values)
        run = lab.training.start(spec)
        guard.info(f"{spec.name} has begun. Its curve is in the Runs tab.")
        begun = f"{plain(spec.name)} has begun: run {plain(run.id)}. Its curve is in the Runs tab."
        return [begun, gr.Tabs(selected="runs")]

    # bindings
    tab.select(visit, [preset, *controls], [visiting, needs], api_visibility="private", show_progress="hidden")
    preset.input(choose, preset, [about, different, needs, *controls, said, report, lengths, rows], api_name="preset")
    typed = [component.blur for component in controls if isinstance(component, gr.Textbox)]  # input misses a paste
    for changed in [*(component.input for component in controls), *typed]:
        changed(
            compare, [preset, *controls], [different, needs], api_visibility="private", show_progress="hidden",
            trigger_mode="always_last",
        )  # fmt: skip
    seen = [said, report, lengths, rows]
    named = dict(zip(forms.drawn(DatasetSpec), of_data, strict=True))
    filled = [named[name] for name in ("source", "revision", "first", "rows", "held_first", "held_rows")]
    kept = drop.upload(keep, drop, [*filled, *seen], api_name="bring_data")
    kept.then(compare, [preset, *controls], [different, needs], api_visibility="private", show_progress="hidden")
    told = {"show_progress": "minimal", "concurrency_limit": 4}
    look.click(inspect, controls, [said, report, lengths, rows], api_name="inspect", **told)
    attempt.click(measure, controls, said, api_name="try", **told)
    start.click(begin, controls, [said, tabs], api_name="train")


def _values(spec: TrainSettings) -> list[Any]:
    """What the form holds for a spec."""
    return [getattr(value, name) for value in (spec.data, spec) for name in forms.drawn(type(value))]


def _needs(lab: Lab, spec: TrainSettings) -> str:
    return runs_view.estimate(lab.training.estimate(spec))
