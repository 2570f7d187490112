"""What is in memory, and how fast each variant was found to be."""

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
        gr.Markdown("A model is loaded when it is first talked to. When another needs the room, the least used leaves.")
        table = gr.Dataframe(value=[], headers=library_view.LOADED, label="In memory", interactive=False)
        with gr.Row(visible=False) as unloading:
            which = gr.Dropdown([], label="To unload", interactive=True, scale=3)
            unload = gr.Button("Unload", size="sm", scale=1)
    with gr.Accordion("Speed tests", open=False):
        measured = gr.Dataframe(
            value=[], headers=library_view.SPEEDS, label="Speed tests", interactive=False, wrap=True
        )
        plot = gr.BarPlot(_bars([]), x=NAME, y=SPEED, color=NAME, title="Writing, newest test of each", height=260,
                          y_lim=[0, None])  # fmt: skip

    # handlers
    @shown
    def leave(name: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "unload models")
        model = next((one for one in lab.loaded() if str(one.pid) == name), None)
        if model is None:
            raise LabError("No model is chosen, or it has left already. Choose one of those in memory.")
        lab.unload(model.pid)

    def view(now: Snapshot, chosen: str | None) -> list[Any]:
        names = [(one.name, str(one.pid)) for one in now.loaded]
        some = gr.update(visible=bool(names))
        return [
            library_view.loaded(now.loaded),
            choices(names, chosen),
            some,
            library_view.speeds(now.speeds),
            _bars(now.speeds),
        ]

    # bindings
    acted = [unload.click(leave, which, None, api_name="unload")]
    return LiveSection([table, which, unloading, measured, plot], view, acted, {"loaded": which})


def _bars(speeds: Sequence[SpeedResult]) -> pandas.DataFrame:
    """The newest result of each variant."""
    newest = {speed.id: speed for speed in reversed(speeds)}
    rows = [{NAME: f"{one.id} {one.quantisation}".strip(), SPEED: one.generation_speed} for one in newest.values()]
    return pandas.DataFrame(rows, columns=[NAME, SPEED])
