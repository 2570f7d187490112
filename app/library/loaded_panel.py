"""The models in memory, and the results of the speed tests."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
import pandas

from app import guard
from app.library import view as library_view
from app.library.snapshot import Snapshot
from app.polling import LiveSection, choices
from backend.core.errors import LabError
from backend.lab import Lab
from backend.library.status import SpeedResult

NAME, SPEED = "variant", "tokens per second"


def loaded_panel(lab: Lab) -> LiveSection:
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("In memory", open=True):
        gr.Markdown(
            "A model is loaded with its first message. If another one needs the memory, the least recently used is "
            "unloaded."
        )
        table = gr.Dataframe(value=[], headers=library_view.LOADED, label="In memory", interactive=False)
        with gr.Row(visible=False) as unloading:
            model_list = gr.Dropdown([], label="Model to unload", interactive=True, scale=3)
            unload = gr.Button("Unload", size="sm", scale=1)
    with gr.Accordion("Speed tests", open=False):
        measured = gr.Dataframe(
            value=[], headers=library_view.SPEEDS, label="Speed tests", interactive=False, wrap=True
        )
        plot = gr.BarPlot(_bars([]), x=NAME, y=SPEED, color=NAME, height=260,
                          title="Generation speed, newest test of each variant",
                          y_lim=[0, None])  # fmt: skip

    # handlers
    @shown
    def unload_model(name: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "unload models")
        model = next((model for model in lab.loaded() if str(model.pid) == name), None)
        if model is None:
            raise LabError("No model is chosen, or it is no longer in memory. Choose a model that is.")
        lab.unload(model.pid)

    def view(snapshot: Snapshot, chosen: str | None) -> list[Any]:
        names = [(model.name, str(model.pid)) for model in snapshot.loaded]
        return [
            library_view.loaded(snapshot.loaded),
            choices(names, chosen),
            gr.update(visible=bool(names)),
            library_view.speeds(snapshot.speeds),
            _bars(snapshot.speeds),
        ]

    # bindings
    events = [unload.click(unload_model, model_list, None, api_name="unload")]
    return LiveSection([table, model_list, unloading, measured, plot], view, events, {"loaded": model_list})


def _bars(speeds: Sequence[SpeedResult]) -> pandas.DataFrame:
    """The newest result of each variant."""
    newest = {speed.id: speed for speed in reversed(speeds)}
    rows = [
        {NAME: f"{speed.id} {speed.quantisation}".strip(), SPEED: speed.generation_speed} for speed in newest.values()
    ]
    return pandas.DataFrame(rows, columns=[NAME, SPEED])
