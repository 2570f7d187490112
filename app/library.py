"""The Library tab: what exists, what is on its way, and everything that can be done about it."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app import guard, show, show_models
from app.getting import getting
from app.memory import in_memory
from app.part import Part
from app.tending import tending
from backend import machine
from backend.errors import LabError
from backend.lab import Lab
from models.catalogue import Entry, catalogue

BUSY, IDLE = 1.0, 4.0  # seconds between two looks at the disk, while something is on its way and while not
STEADY = 100_000_000  # bytes to which free memory is rounded on the page


def library_tab(lab: Lab) -> None:
    # components
    with gr.Tab("Library", id="library") as tab:
        trouble = gr.Markdown()
        parts = [_shelf(lab), _transfers(lab), getting(lab), tending(lab), in_memory(lab)]
        seen = gr.State([])
        timer = gr.Timer(BUSY, active=False)
    outputs = [trouble, *(output for part in parts for output in part.outputs)]

    # handlers
    def now() -> tuple[list[Any], gr.Timer]:
        values = [_tended(lab), *(value for part in parts for value in part.view())]
        busy = any(one.live for one in lab.library.transfers())
        return values, gr.Timer(BUSY if busy else IDLE, active=True)

    @guard.shown(lab.settings)
    def look() -> list[Any]:
        """Everything as it is now."""
        values, pace = now()
        return [list(map(repr, values)), pace, *values]

    @guard.shown(lab.settings)
    def follow(before: list[str]) -> list[Any]:
        """What has changed since this page looked last; the rest of the page stays as it is."""
        values, pace = now()
        told = list(map(repr, values))
        old = before if len(before) == len(told) else [""] * len(told)
        changed = [gr.skip() if was == said else value for was, said, value in zip(old, told, values, strict=True)]
        return [told, pace, *changed]

    # bindings
    everything = [seen, timer, *outputs]
    tab.select(look, None, everything, api_name="library", show_progress="hidden")
    timer.tick(follow, seen, everything, api_name="library_tick", show_progress="hidden")
    for part in parts:
        for acted in part.acted:
            acted.then(follow, seen, everything, api_visibility="private", show_progress="hidden")


def _tended(lab: Lab) -> str:
    """What keeps the folders from being tidied, if anything does: whoever looks should not be kept from it."""
    try:
        lab.library.tend()
    except LabError as error:
        return f"⚠ {show.inert(str(error))}"
    return ""


def _shelf(lab: Lab) -> Part:
    """Every variant, and a button for each that the catalogue can fetch."""
    wanted = [variant for variant in catalogue() if variant.repo]

    # components
    room = gr.Markdown()
    with gr.Row():
        buttons = [
            gr.Button(f"Download {one.id} · {show.size(one.size)}", size="sm", min_width=120, visible=False)
            for one in wanted
        ]
    table = gr.Dataframe(
        value=_rows(lab, lab.entries()),
        headers=show_models.LIBRARY,
        label="Variants",
        interactive=False,
        wrap=True,
        max_height=1200,
        column_widths=show_models.WIDTHS,
    )

    # handlers
    def downloading(variant: str) -> Callable[[gr.Request], None]:
        @guard.shown(lab.settings)
        def download(request: gr.Request) -> None:
            guard.require_owner(lab.settings, request, "download models")
            lab.library.download(variant)

        return download

    def view() -> list[Any]:
        entries = lab.entries()
        absent = {entry.variant.id for entry in entries if entry.state in ("not here", "damaged")}
        visible = [gr.update(visible=one.id in absent) for one in wanted]
        free = machine.memory_free() // STEADY * STEADY  # so that not every look differs
        return [show_models.room(free, lab.library.disk_free()), *visible, _rows(lab, entries)]

    # bindings
    acted = [
        button.click(downloading(one.id), None, None, api_name=f"download_{one.id}")
        for button, one in zip(buttons, wanted, strict=True)
    ]
    return Part([room, *buttons, table], view, acted)


def _rows(lab: Lab, entries: Sequence[Entry]) -> list[list[Any]]:
    return show_models.library(entries, lambda entry: lab.library.need(entry, lab.context(entry)))


def _transfers(lab: Lab) -> Part:
    """What is on its way, and a way to stop it."""
    # components
    with gr.Accordion("Transfers and tests", open=True):
        table = gr.Dataframe(
            value=show_models.transfers(lab.library.transfers()),
            headers=show_models.TRANSFERS,
            label="Transfers and tests",
            interactive=False,
            wrap=True,
            column_widths=show_models.TRANSFER_WIDTHS,
        )
        with gr.Row():
            which = gr.Dropdown([], label="To cancel", interactive=True, scale=3)
            cancel = gr.Button("Cancel", size="sm", scale=1)

    # handlers
    @guard.shown(lab.settings)
    def stop(run: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "cancel transfers")
        lab.library.cancel(run or "")

    def view() -> list[Any]:
        found = lab.library.transfers()
        live = show_models.may_stop(found)
        first = live[0][1] if live else None
        return [show_models.transfers(found), gr.update(choices=live, value=first)]

    # bindings
    acted = [cancel.click(stop, which, None, api_name="cancel")]
    return Part([table, which], view, acted)
