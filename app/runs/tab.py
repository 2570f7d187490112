"""The Runs tab: the status of every training, their curves, and stop, resume and export."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import guard
from app.polling import UNKNOWN, LiveSection, choices, poll
from app.runs import view as runs_view
from backend.core.errors import LabError
from backend.lab import Lab
from backend.report import figures
from backend.training.status import TrainingStatus

VISITING = "You are a visitor here: you can look at every run; only the owner stops, resumes and exports."
FORMS = [("merged into its base", "merged"), ("adapter alone, over its base", "adapter")]
QUANTISATIONS = ["Q4_K_M", "Q5_K_M", "Q8_0", "F16"]
OVERLAID = 6
PACE = 2.0  # seconds: drawing the curves costs the browser, which shares the processor with the training


@dataclass(frozen=True)
class Snapshot:
    """Runs, the newest first; logs are for the owner."""

    runs: Sequence[TrainingStatus]
    owner: bool

    def named(self, chosen: Any) -> TrainingStatus | None:
        """The chosen one, else the newest."""
        return next((run for run in self.runs if run.id == chosen), self.runs[0] if self.runs else None)


def runs_tab(lab: Lab) -> None:
    with gr.Tab("Runs", id="runs") as tab:
        visiting = gr.Markdown(VISITING, visible=False)
        table, one = _table(lab), _one(lab)
        parts = [table, one, _curves(one.inputs["run"])]

        def see(owner: bool) -> tuple[Snapshot, bool]:
            lab.training.reap_orphans()
            statuses = lab.training.statuses()
            return Snapshot(statuses, owner), any(one.live for one in statuses)

        poll(lab, tab, "runs", parts, see, visiting, PACE)


def _table(lab: Lab) -> LiveSection:
    nothing = gr.Markdown("Nothing has been trained yet. Choose a preset in the Train tab and press Start.")
    table = gr.Dataframe(value=[], headers=runs_view.RUNS, label="Runs", interactive=False, wrap=True, max_height=320)

    def view(now: Snapshot) -> list[Any]:
        return [gr.update(visible=not now.runs), runs_view.runs(now.runs, now.owner)]

    return LiveSection([nothing, table], view)


def _one(lab: Lab) -> LiveSection:
    """One run: how it stands, and stop, resume, export."""
    shown = guard.shown(lab.settings)

    # components
    which = gr.Dropdown([], label="Run", interactive=True)
    told = gr.Markdown()
    with gr.Row():
        stop = gr.Button("Stop and save", size="sm", visible=False, variant="stop")
        resume = gr.Button("Resume", size="sm", visible=False, variant="primary")
    with gr.Row(visible=False) as exporting:
        form = gr.Dropdown(FORMS, value="merged", label="Make", interactive=True)
        quantisation = gr.Dropdown(
            QUANTISATIONS, value="Q4_K_M", label="Quantisation of a merged model", interactive=True
        )
        importance = gr.Checkbox(False, label="With its importance matrix", info="If the run has measured one.")
        export = gr.Button("Export to GGUF", variant="primary")
    with gr.Accordion("Log", open=False):
        log = gr.Textbox(label="The newest lines of its log", lines=12, max_lines=12, interactive=False)
    with gr.Accordion("Card", open=False):
        card = gr.HTML()

    # handlers
    def acting(what: str, act: Any) -> Any:
        @shown
        def handler(request: gr.Request, run: str | None) -> None:
            guard.require_owner(lab.settings, request, what)
            act(chosen(run))

        return handler

    def chosen(run: str | None) -> str:
        if not run:
            raise LabError("No run is chosen. Choose one in “Run”.")
        return run

    @shown
    def export_run(request: gr.Request, run: str | None, form: str, quantisation: str, importance: bool) -> None:
        guard.require_owner(lab.settings, request, "export")
        export = lab.training.export(chosen(run), form, quantisation, bool(importance))
        guard.info(f"{export.spec.name} is being exported. When it is in the Library, choose it in Chat or Compare.")

    def view(now: Snapshot, run: Any) -> list[Any]:
        names = [(runs_view.label(status), status.id) for status in now.runs]
        listed = choices(names, None if run is UNKNOWN else run)  # an opened tab shows the newest run
        status = now.named(run)
        if status is None:
            return [listed, "", *[gr.update(visible=False)] * 3, "", ""]
        return [
            listed,
            runs_view.detail(status, now.owner),
            gr.update(visible=status.live, value="Kill it" if status.state == "stopping" else "Stop and save"),
            gr.update(visible=status.resumable is not None),
            gr.update(visible=status.made is not None),
            status.log if now.owner else "",
            runs_view.made(status, now.owner),
        ]

    # bindings
    acted = [
        which.input(lambda: None, None, None, api_visibility="private"),
        stop.click(acting("stop runs", lab.training.stop), which, None, api_name="stop_run"),
        resume.click(acting("resume runs", lab.training.resume), which, None, api_name="resume_run"),
        export.click(export_run, [which, form, quantisation, importance], None, api_name="export_run"),
    ]
    return LiveSection([which, told, stop, resume, exporting, log, card], view, acted, {"run": which})


def _curves(which: Any) -> LiveSection:
    """Curves over each other, and the settings behind them."""
    # components
    chosen = gr.Dropdown(
        [], value=[], multiselect=True, max_choices=OVERLAID, label="Curves of", interactive=True,
        info="None: the run above. Several are drawn over each other.",
    )  # fmt: skip
    plot = gr.Plot(label="Loss")
    with gr.Accordion("Settings side by side", open=False):
        table = gr.Dataframe(value=[], headers=["setting"], label="Settings", interactive=False, wrap=True)

    def view(now: Snapshot, above: Any, several: Any) -> list[Any]:
        trained = [run for run in now.runs if run.kind != "export"]
        names = [(runs_view.label(status), status.id) for status in trained]
        wanted = [] if several is UNKNOWN or not several else list(several)
        shown = now.named(above)
        origin = Path(shown.export.run).name if shown and shown.export else shown.id if shown else ""
        chosen_runs = [one for one in trained if one.id in (wanted or [origin])]
        headers, rows = runs_view.settings(chosen_runs, now.owner)
        kept = gr.update(choices=names) if several is UNKNOWN else gr.update(choices=names, value=wanted)
        several_of = len({one.name for one in chosen_runs}) < len(chosen_runs)
        titles = [f"{one.name}, {runs_view.started(one)}" if several_of else one.name for one in chosen_runs]
        figure = figures.losses(list(zip(titles, chosen_runs, strict=True))) if chosen_runs else None
        return [kept, figure, gr.update(value={"headers": headers, "data": rows})]

    acted = [chosen.input(lambda: None, None, None, api_visibility="private")]
    return LiveSection([chosen, plot, table], view, acted, {"run": which, "curves": chosen})
