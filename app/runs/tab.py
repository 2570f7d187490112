"""The Runs tab: the status of every training, their curves, and stop, resume and export."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from app import guard
from app.polling import UNKNOWN, LiveSection, choices, poll
from app.runs import view as runs_view
from backend.core.errors import LabError
from backend.lab import Lab
from backend.report import figures
from backend.training.request import Quantisation
from backend.training.status import TrainingStatus

VISITING = "You are a visitor here: you can see every run, but only the owner can stop, resume and export."
FORMS = [("model: adapter merged into its base", "merged"), ("adapter, used with its base", "adapter")]
MAX_CURVES = 6
INTERVAL = 2.0  # seconds; the browser, which draws the curves, shares the processor with the training


@dataclass(frozen=True)
class Snapshot:
    """One reading of all trainings, tries and exports, the newest first. Only the owner sees logs."""

    runs: Sequence[TrainingStatus]
    owner: bool

    def chosen_or_newest(self, chosen: Any) -> TrainingStatus | None:
        """The chosen run, or the newest if there is none."""
        return next((run for run in self.runs if run.id == chosen), self.runs[0] if self.runs else None)


def runs_tab(lab: Lab) -> None:
    with gr.Tab("Runs", id="runs") as tab:
        visiting = gr.Markdown(VISITING, visible=False)
        table, details = _table(lab), _details(lab)
        sections = [table, details, _curves(details.inputs["run"])]

        def read(owner: bool) -> tuple[Snapshot, bool]:
            lab.training.reap_orphans()
            statuses = lab.training.statuses()
            return Snapshot(statuses, owner), any(status.live for status in statuses)

        poll(lab, tab, "runs", sections, read, visiting, INTERVAL)


def _table(lab: Lab) -> LiveSection:
    nothing = gr.Markdown("Nothing has been trained yet. Choose a preset in the Train tab and press Start.")
    table = gr.Dataframe(value=[], headers=runs_view.RUNS, label="Runs", interactive=False, wrap=True, max_height=320)

    def view(snapshot: Snapshot) -> list[Any]:
        return [gr.update(visible=not snapshot.runs), runs_view.runs(snapshot.runs, snapshot.owner)]

    return LiveSection([nothing, table], view)


def _details(lab: Lab) -> LiveSection:
    """One run: its status, stop, resume and export."""
    shown = guard.shown(lab.settings)

    # components
    run_list = gr.Dropdown([], label="Run", interactive=True)
    description = gr.Markdown()
    with gr.Row():
        stop = gr.Button("Stop and save", size="sm", visible=False, variant="stop")
        resume = gr.Button("Resume", size="sm", visible=False, variant="primary")
    with gr.Row(visible=False) as exporting:
        form = gr.Dropdown(FORMS, value="merged", label="Export as", interactive=True)
        quantisation = gr.Dropdown(
            list(get_args(Quantisation)), value="Q4_K_M", label="Quantisation of a merged model", interactive=True
        )
        importance = gr.Checkbox(False, label="Use the importance matrix", info="If the run has measured one.")
        export = gr.Button("Export to GGUF", variant="primary")
    with gr.Accordion("Log", open=False):
        log = gr.Textbox(label="Last lines of the log", lines=12, max_lines=12, interactive=False)
    with gr.Accordion("Model card", open=False):
        card = gr.HTML()

    # handlers
    def owner_only(what: str, act: Any) -> Any:
        """A handler that calls `act` with the chosen run, for the owner."""

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

    def view(snapshot: Snapshot, run: Any) -> list[Any]:
        names = [(runs_view.label(status), status.id) for status in snapshot.runs]
        listed = choices(names, None if run is UNKNOWN else run)  # an opened tab shows the newest run
        status = snapshot.chosen_or_newest(run)
        if status is None:
            return [listed, "", *[gr.update(visible=False)] * 3, "", ""]
        return [
            listed,
            runs_view.detail(status, snapshot.owner),
            gr.update(visible=status.live, value="Kill" if status.state == "stopping" else "Stop and save"),
            gr.update(visible=status.resumable is not None),
            gr.update(visible=status.made is not None),
            status.log if snapshot.owner else "",
            runs_view.card(status, snapshot.owner),
        ]

    # bindings
    events = [
        run_list.input(lambda: None, None, None, api_visibility="private"),
        stop.click(owner_only("stop runs", lab.training.stop), run_list, None, api_name="stop_run"),
        resume.click(owner_only("resume runs", lab.training.resume), run_list, None, api_name="resume_run"),
        export.click(export_run, [run_list, form, quantisation, importance], None, api_name="export_run"),
    ]
    return LiveSection([run_list, description, stop, resume, exporting, log, card], view, events, {"run": run_list})


def _curves(run_list: Any) -> LiveSection:
    """The loss curves of one or more runs in one figure, and their settings in a table."""
    # components
    chosen = gr.Dropdown(
        [], value=[], multiselect=True, max_choices=MAX_CURVES, label="Curves of", interactive=True,
        info="Empty: the run above. Several runs are drawn in one figure.",
    )  # fmt: skip
    plot = gr.Plot(label="Loss")
    with gr.Accordion("Settings side by side", open=False):
        table = gr.Dataframe(value=[], headers=["setting"], label="Settings", interactive=False, wrap=True)

    def view(snapshot: Snapshot, run: Any, curves: Any) -> list[Any]:
        trained = [run for run in snapshot.runs if run.kind != "export"]
        names = [(runs_view.label(status), status.id) for status in trained]
        selected = [] if curves is UNKNOWN or not curves else list(curves)
        above = snapshot.chosen_or_newest(run)
        training = Path(above.export.run).name if above and above.export else above.id if above else ""
        chosen_runs = [status for status in trained if status.id in (selected or [training])]
        headers, rows = runs_view.settings(chosen_runs, snapshot.owner)
        listed = gr.update(choices=names) if curves is UNKNOWN else gr.update(choices=names, value=selected)
        same_names = len({status.name for status in chosen_runs}) < len(chosen_runs)
        titles = [
            f"{status.name}, {runs_view.started(status)}" if same_names else status.name for status in chosen_runs
        ]
        figure = figures.losses(list(zip(titles, chosen_runs, strict=True))) if chosen_runs else None
        return [listed, figure, gr.update(value={"headers": headers, "data": rows})]

    events = [chosen.input(lambda: None, None, None, api_visibility="private")]
    return LiveSection([chosen, plot, table], view, events, {"run": run_list, "curves": chosen})
