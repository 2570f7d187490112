"""The Library tab: what exists, what is on its way, and everything that can be done about it."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app import guard, show, show_models
from app.getting import getting
from app.memory import in_memory
from app.part import UNKNOWN, Part, Sight, choices, sight
from app.tending import tending
from backend.errors import LabError
from backend.lab import Lab
from backend.machine import amount
from models.catalogue import Entry, catalogue

VISITING = "You are a visitor here: you may look at everything; only the owner downloads, measures and removes."
BUSY, IDLE = 1.0, 4.0  # seconds between two looks at the disk, while something is on its way and while not
STEADY = 100_000_000  # bytes to which free room is rounded on the page, so that not every look differs


def library_tab(lab: Lab) -> None:
    # components
    with gr.Tab("Library", id="library") as tab:
        trouble = gr.Markdown()
        visiting = gr.Markdown(VISITING, visible=False)
        parts = [_shelf(lab), _transfers(lab), getting(lab), tending(lab), in_memory(lab)]
        seen = gr.State([])
        timer = gr.Timer(BUSY, active=False)
    outputs = [trouble, *(output for part in parts for output in part.outputs)]
    inputs = [given for part in parts for given in part.inputs]

    # handlers
    def now(chosen: Sequence[Any]) -> tuple[list[Any], gr.Timer]:
        trouble, seen, given, values = _tended(lab), sight(lab), iter(chosen), []
        for part in parts:
            values += part.view(seen, *(next(given) for _ in part.inputs))
        busy = any(one.live for one in seen.transfers)
        return [trouble, *values], gr.Timer(BUSY if busy else IDLE, active=True)

    @guard.shown(lab.settings)
    def look(request: gr.Request) -> list[Any]:
        """Everything as it is now."""
        values, pace = now([UNKNOWN] * len(inputs))
        visitor = gr.update(visible=not guard.may_change(lab.settings, request))
        return [list(map(repr, values)), pace, visitor, *values]

    @guard.shown(lab.settings)
    def follow(before: list[str], *chosen: Any) -> list[Any]:
        """What has changed since this page looked last; the rest of the page stays as it is."""
        values, pace = now(chosen)
        told = list(map(repr, values))
        old = before if len(before) == len(told) else [""] * len(told)
        changed = [gr.skip() if was == said else value for was, said, value in zip(old, told, values, strict=True)]
        return [told, pace, *changed]

    # bindings
    everything = [seen, timer, *outputs]
    tab.select(look, None, [seen, timer, visiting, *outputs], api_name="library", show_progress="hidden")
    timer.tick(follow, [seen, *inputs], everything, api_name="library_tick", show_progress="hidden")
    for part in parts:
        for acted in part.acted:
            acted.then(follow, [seen, *inputs], everything, api_visibility="private", show_progress="hidden")


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
            gr.Button(f"Download {one.id} · {amount(one.size)}", size="sm", min_width=120, visible=False)
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
            gr.Info(f"{variant} is being fetched. How far it is stands under Transfers and tests.")

        return download

    def view(now: Sight) -> list[Any]:
        absent = {entry.variant.id for entry in now.entries if entry.state in ("not here", "damaged")}
        visible = [gr.update(visible=one.id in absent) for one in wanted]
        free, disk = (count // STEADY * STEADY for count in (lab.library.memory_free(), lab.library.disk_free()))
        return [show_models.room(free, disk), *visible, _rows(lab, now.entries)]

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
            value=[],
            headers=show_models.TRANSFERS,
            label="Transfers and tests",
            interactive=False,
            wrap=True,
            column_widths=show_models.TRANSFER_WIDTHS,
        )
        with gr.Row(visible=False) as stopping:
            which = gr.Dropdown([], label="To cancel", interactive=True, scale=3)
            cancel = gr.Button("Cancel", size="sm", scale=1)

    # handlers
    @guard.shown(lab.settings)
    def stop(run: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "cancel transfers")
        lab.library.cancel(run or "")

    def view(now: Sight, chosen: str | None) -> list[Any]:
        live = show_models.may_stop(now.transfers)
        stoppable = gr.update(visible=bool(live))
        return [show_models.transfers(now.transfers), choices(live, chosen), stoppable]

    # bindings
    acted = [cancel.click(stop, which, None, api_name="cancel")]
    return Part([table, which, stopping], view, acted, [which])
