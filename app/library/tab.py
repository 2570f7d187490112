"""The Library tab: what exists, what is on its way, and everything that can be done about it."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app import guard
from app.library import view as library_view
from app.library.add_model import add_model_panel
from app.library.details import details_panel
from app.library.loaded_panel import loaded_panel
from app.library.snapshot import Snapshot, take_snapshot
from app.polling import LiveSection, choices, poll
from backend.core.units import amount
from backend.lab import Lab
from models.catalogue import Entry, catalogue

VISITING = "You are a visitor here: you can look at everything; only the owner downloads, measures and removes."
STEADY = 100_000_000  # bytes to which free room is rounded on the page, so that not every look differs


def library_tab(lab: Lab) -> None:
    with gr.Tab("Library", id="library") as tab:
        trouble = gr.Markdown()
        visiting = gr.Markdown(VISITING, visible=False)
        troubled = LiveSection([trouble], lambda now: [now.trouble])
        parts = [troubled, _shelf(lab), _transfers(lab), add_model_panel(lab), details_panel(lab), loaded_panel(lab)]

        def see(owner: bool) -> tuple[Snapshot, bool]:
            now = take_snapshot(lab, owner)
            return now, any(status.live for status in now.transfers)

        poll(lab, tab, "library", parts, see, visiting)


def _shelf(lab: Lab) -> LiveSection:
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
        value=_rows(lab, lab.entries(), guard.may_change(lab.settings, None)),
        headers=library_view.LIBRARY,
        label="Variants",
        interactive=False,
        wrap=True,
        max_height=1200,
        column_widths=library_view.WIDTHS,
    )

    # handlers
    def downloading(variant: str) -> Callable[[gr.Request], None]:
        @guard.shown(lab.settings)
        def download(request: gr.Request) -> None:
            guard.require_owner(lab.settings, request, "download models")
            lab.library.download(variant)
            guard.info(f"{variant} is being downloaded. Its progress is in “Transfers and tests”.")

        return download

    def view(now: Snapshot) -> list[Any]:
        absent = {entry.variant.id for entry in now.entries if entry.state in ("not downloaded", "damaged")}
        visible = [gr.update(visible=variant.id in absent) for variant in wanted]
        free, disk = (count // STEADY * STEADY for count in (lab.library.memory_free(), lab.library.disk_free()))
        return [library_view.room(free, disk), *visible, _rows(lab, now.entries, now.owner)]

    # bindings
    acted = [
        button.click(downloading(one.id), None, None, api_name=f"download_{one.id}")
        for button, one in zip(buttons, wanted, strict=True)
    ]
    return LiveSection([room, *buttons, table], view, acted)


def _rows(lab: Lab, entries: Sequence[Entry], owner: bool) -> list[list[Any]]:
    return library_view.library(entries, lambda entry: lab.library.need(entry, lab.context(entry)), owner)


def _transfers(lab: Lab) -> LiveSection:
    """What is on its way, and a way to stop it."""
    # components
    with gr.Accordion("Transfers and tests", open=True):
        table = gr.Dataframe(
            value=[],
            headers=library_view.TRANSFERS,
            label="Transfers and tests",
            interactive=False,
            wrap=True,
            column_widths=library_view.TRANSFER_WIDTHS,
        )
        with gr.Row(visible=False) as stopping:
            which = gr.Dropdown([], label="To cancel", interactive=True, scale=3)
            cancel = gr.Button("Cancel", size="sm", scale=1)

    # handlers
    @guard.shown(lab.settings)
    def stop(run: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "cancel transfers")
        lab.library.cancel(run or "")

    def view(now: Snapshot, chosen: str | None) -> list[Any]:
        live = library_view.may_stop(now.transfers)
        stoppable = gr.update(visible=bool(live))
        return [library_view.transfers(now.transfers, now.owner), choices(live, chosen), stoppable]

    # bindings
    acted = [cancel.click(stop, which, None, api_name="cancel")]
    return LiveSection([table, which, stopping], view, acted, {"transfer": which})
