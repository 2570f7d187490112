"""The Library tab: all variants, transfers, and everything that can be done with them."""

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

VISITING = "You are a visitor here: you can see everything, but only the owner can download, measure and remove."
ROUNDING = 100_000_000  # bytes; free memory and disk are rounded to it, so that they do not change with every tick


def library_tab(lab: Lab) -> None:
    with gr.Tab("Library", id="library") as tab:
        problem = gr.Markdown()
        visiting = gr.Markdown(VISITING, visible=False)
        problems = LiveSection([problem], lambda snapshot: [snapshot.problem])
        sections = [
            problems, _variants(lab), _transfers(lab), add_model_panel(lab), details_panel(lab), loaded_panel(lab)
        ]  # fmt: skip

        def read(owner: bool) -> tuple[Snapshot, bool]:
            snapshot = take_snapshot(lab, owner)
            return snapshot, any(status.live for status in snapshot.transfers)

        poll(lab, tab, "library", sections, read, visiting)


def _variants(lab: Lab) -> LiveSection:
    """The table of variants, and a download button for each variant of the catalogue."""
    downloadable = [variant for variant in catalogue() if variant.repo]

    # components
    free_space = gr.Markdown()
    with gr.Row():
        buttons = [
            gr.Button(f"Download {variant.id} · {amount(variant.size)}", size="sm", min_width=120, visible=False)
            for variant in downloadable
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

    def view(snapshot: Snapshot) -> list[Any]:
        absent = {entry.variant.id for entry in snapshot.entries if entry.state in ("not downloaded", "damaged")}
        visible = [gr.update(visible=variant.id in absent) for variant in downloadable]
        free, disk = (count // ROUNDING * ROUNDING for count in (lab.library.memory_free(), lab.library.disk_free()))
        return [library_view.free_space(free, disk), *visible, _rows(lab, snapshot.entries, snapshot.owner)]

    # bindings
    events = [
        button.click(downloading(variant.id), None, None, api_name=f"download_{variant.id}")
        for button, variant in zip(buttons, downloadable, strict=True)
    ]
    return LiveSection([free_space, *buttons, table], view, events)


def _rows(lab: Lab, entries: Sequence[Entry], owner: bool) -> list[list[Any]]:
    return library_view.library(entries, lambda entry: lab.library.need(entry, lab.context(entry)), owner)


def _transfers(lab: Lab) -> LiveSection:
    """The table of transfers, and a button to cancel one."""
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
        with gr.Row(visible=False) as cancelling:
            transfer_list = gr.Dropdown([], label="Transfer to cancel", interactive=True, scale=3)
            cancel = gr.Button("Cancel", size="sm", scale=1)

    # handlers
    @guard.shown(lab.settings)
    def stop(run: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "cancel transfers")
        lab.library.cancel(run or "")

    def view(snapshot: Snapshot, chosen: str | None) -> list[Any]:
        live = library_view.live(snapshot.transfers)
        rows = library_view.transfers(snapshot.transfers, snapshot.owner)
        return [rows, choices(live, chosen), gr.update(visible=bool(live))]

    # bindings
    events = [cancel.click(stop, transfer_list, None, api_name="cancel")]
    return LiveSection([table, transfer_list, cancelling], view, events, {"transfer": transfer_list})
