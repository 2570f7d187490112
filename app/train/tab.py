"""The Train tab: a preset, its form, a report on the dataset, and Start."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app import forms, guard
from app.markup import plain
from app.train import view as train_view
from backend.core.errors import LabError
from backend.data.dataset import ENDINGS, DatasetSpec
from backend.lab import Lab
from backend.report import figures
from backend.training.presets import changes, presets, without_foreign_numbers
from backend.training.request import TrainSettings
from models.templates import templates

FIRST = "tiny_lora"
INTERVAL = 0.3  # seconds between two readings of a run
NOTHING = ["", "", gr.update(visible=False), ""]  # empty message, report, lengths and rows
OWN = "**Your own file**: JSON, JSONL, CSV or Parquet with ShareGPT, messages, Alpaca or prompt and completion rows."


def train_tab(lab: Lab, tabs: gr.Tabs) -> None:
    shown = guard.shown(lab.settings)
    first = presets()[FIRST]

    # components
    with gr.Tab("Train", id="train") as tab:
        visiting = gr.Markdown(
            "You are a visitor here: you can see everything, but only the owner can train.", visible=False
        )
        with gr.Row():
            preset = gr.Dropdown(list(presets()), value=FIRST, label="Preset", interactive=True, scale=1)
            about = gr.Markdown(first.about)
        with gr.Accordion("Dataset", open=False):
            gr.Markdown(OWN)
            drop = gr.UploadButton("Upload a file", file_types=list(ENDINGS), size="sm")
            data_controls = forms.draw(DatasetSpec, prefix="data_")
        with gr.Accordion("All settings", open=False):
            settings_controls = forms.draw(TrainSettings, choices={"template": ["own", *templates()]})
        different = gr.Markdown(train_view.differences([], FIRST))
        needs = gr.Markdown()  # filled when the tab is opened: it reads the processor and the GPU
        with gr.Row():
            look = gr.Button("Inspect dataset")
            cancel = gr.Button("Cancel the inspection", visible=False)
            attempt = gr.Button("Try five steps")
            start = gr.Button("Start training", variant="primary")
        message = gr.Markdown()
        report = gr.Markdown()
        lengths = gr.Plot(label="Lengths of rows", visible=False)
        rows = gr.HTML()
        inspecting = gr.State("")
    controls = {**data_controls, **settings_controls}
    for component, value in zip(controls.values(), _values(first.spec), strict=True):
        component.value = value

    # handlers
    def settings_of(values: dict[str, Any]) -> TrainSettings:
        settings = forms.parse(TrainSettings, values, data=forms.parse(DatasetSpec, values, "data_"))
        return without_foreign_numbers(settings)

    @shown
    def choose(preset: str) -> list[Any]:
        chosen = presets()[preset]
        same = train_view.differences([], preset) + train_view.costs(chosen.spec)
        return [chosen.about, same, _needs(lab, chosen.spec), *_values(chosen.spec), *NOTHING]

    @shown
    def compare(request: gr.Request, preset: str, **values: Any) -> list[Any]:
        """Called on every change of a control, so an invalid value is shown in the text and is not an error."""
        try:
            settings = settings_of(values)
        except LabError as error:
            return [f"⚠ {plain(str(error))}", ""]
        text = train_view.differences(changes(settings, presets()[preset].spec), preset) + train_view.costs(settings)
        # An estimate would tell visitors which folders exist, and which models are in the cache of the Hub.
        public = settings.base in {preset.spec.base for preset in presets().values()}
        return [text, _needs(lab, settings) if public or guard.may_change(lab.settings, request) else ""]

    @shown
    def visit(request: gr.Request, preset: str, **values: Any) -> list[Any]:
        return [gr.update(visible=not guard.may_change(lab.settings, request)), compare(request, preset, **values)[1]]

    @shown
    def upload(path: str | None, request: gr.Request) -> list[Any]:
        guard.require_owner(lab.settings, request, "upload data")
        saved = lab.training.save_upload(Path(path or ""))
        guard.info(f"{saved.name} is saved. All its rows are used; inspect the dataset to see how they are split.")
        return [str(saved), "", "all", *NOTHING]

    @shown
    def inspect(request: gr.Request, **values: Any) -> Iterator[list[Any]]:
        guard.require_owner(lab.settings, request, "inspect datasets")
        settings = settings_of(values)
        run, began = lab.training.inspect(settings), time.monotonic()
        while run.live:
            step = run.last("step")
            activity = train_view.activity(step.facts if step else {}, run.state, time.monotonic() - began)
            yield [activity, *NOTHING[1:], run.id, gr.update(visible=True)]
            time.sleep(INTERVAL)
        done = ["", gr.update(visible=False)]
        try:
            report = lab.training.dataset_report(run.id)
        except LabError as error:
            yield [f"⚠ {plain(str(error))}", *NOTHING[1:], *done]
            return
        yield [
            "",
            train_view.report(report, settings),
            gr.update(value=figures.lengths(report), visible=True),
            train_view.samples(report.samples),
            *done,
        ]

    @shown
    def cancel_inspection(run: str, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "stop runs")
        if run:
            lab.training.stop(run)

    @shown
    def measure(request: gr.Request, **values: Any) -> Iterator[str]:
        guard.require_owner(lab.settings, request, "try trainings")
        run = lab.training.attempt(settings_of(values))
        while (status := lab.training.status(run.id)).live:
            yield train_view.attempt(status)
            time.sleep(INTERVAL)
        yield train_view.attempt(status)

    @shown
    def start_training(request: gr.Request, **values: Any) -> list[Any]:
        guard.require_owner(lab.settings, request, "train")
        settings = settings_of(values)
        run = lab.training.start(settings)
        guard.info(f"{settings.name} has started. Its curve is in the Runs tab.")
        text = f"{plain(settings.name)} has started: run {plain(run.id)}. Its curve is in the Runs tab."
        return [text, gr.Tabs(selected="runs")]

    # bindings
    results = [message, report, lengths, rows]
    quiet: dict[str, Any] = {
        "inputs_kwargs": {"preset": preset, **controls}, "api_visibility": "private", "show_progress": "hidden"
    }  # fmt: skip
    tab.select(visit, None, [visiting, needs], **quiet)
    preset.input(choose, preset, [about, different, needs, *controls.values(), *results], api_name="preset")
    texts = [component for component in controls.values() if isinstance(component, gr.Textbox)]
    for changed in [*(component.input for component in controls.values()), *(text.blur for text in texts)]:
        changed(compare, None, [different, needs], trigger_mode="always_last", **quiet)  # blur: input misses a paste
    filled = [controls[f"data_{name}"] for name in ("source", "revision", "splits")]
    uploaded = drop.upload(upload, drop, [*filled, *results], api_name="bring_data")
    uploaded.then(compare, None, [different, needs], **quiet)
    waiting: dict[str, Any] = {"inputs_kwargs": controls, "show_progress": "minimal", "concurrency_limit": 4}
    look.click(inspect, None, [*results, inspecting, cancel], api_name="inspect", **waiting)
    cancel.click(cancel_inspection, inspecting, None, api_visibility="private")
    attempt.click(measure, None, message, api_name="try", **waiting)
    start.click(start_training, None, [message, tabs], inputs_kwargs=controls, api_name="train")


def _values(settings: TrainSettings) -> list[Any]:
    """The values of the form's controls, in order."""
    return [*forms.values_of(settings.data, "data_").values(), *forms.values_of(settings).values()]


def _needs(lab: Lab, settings: TrainSettings) -> str:
    return train_view.estimate(lab.training.estimate(settings))
