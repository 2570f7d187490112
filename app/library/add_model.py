"""Adds a model: from any repository of the Hub, or from uploaded files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app import guard
from app.chat import view as chat_view
from app.library import view as library_view
from app.library.snapshot import Snapshot
from app.polling import LiveSection
from backend.core.errors import LabError
from backend.hub.listing import RepositoryListing
from backend.lab import Lab
from models.catalogue import Entry

OWN = """
**Your own files**: a `.gguf`, or the two files of a PEFT LoRA adapter (`adapter_config.json` and
`adapter_model.safetensors`) and the variant it runs over. It is faster to copy large files into
`models/weights/`. Name a LoRA as GGUF `NAME@BASE.gguf` there; BASE is the id of the variant it was trained on.
"""


def add_model_panel(lab: Lab) -> LiveSection:
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("Another model", open=False):
        listing = gr.State(None)
        with gr.Row():
            pasted = gr.Textbox(
                label="Repository on the Hub", placeholder="owner/name, or the address of its page", scale=4, lines=1
            )
            revision = gr.Textbox(label="Revision", placeholder="main", scale=1, lines=1)
            ask = gr.Button("List files", size="sm", scale=1)
        summary = gr.Markdown()
        with gr.Row():
            file = gr.Dropdown([], label="File", interactive=True, scale=4, visible=False)
            fetch = gr.Button("Download", variant="primary", size="sm", scale=1, visible=False)
        gr.Markdown(OWN)
        with gr.Row():
            over = gr.Dropdown(
                chat_view.options(_bases(lab.entries())),
                value=None,
                label="Base of an adapter",
                interactive=True,
                scale=2,
            )
            upload = gr.UploadButton(
                "Import files", file_count="multiple", file_types=[".gguf", ".safetensors", ".json"], size="sm", scale=1
            )

    # handlers
    @shown
    def list_files(text: str, at: str, request: gr.Request) -> tuple[Any, ...]:
        guard.require_owner(lab.settings, request, "list models of the Hub")
        repository = lab.library.list_files(text or "", at or "")
        free, disk = lab.library.memory_free(), lab.library.disk_free()
        choices = library_view.files(repository, free, disk, lab.library.guess)
        usable: list[str | None] = [
            file.path for file in sorted(repository.files, key=lambda file: file.size) if not file.why
        ]
        chosen = repository.wanted if repository.wanted in usable else (usable or [None])[0]
        return (
            repository,
            library_view.listing(repository, free, disk),
            gr.update(choices=choices, value=chosen, visible=bool(choices)),
            gr.update(visible=bool(choices)),
        )

    @shown
    def download(listing: RepositoryListing | None, chosen: str | None, base: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "download models")
        found = next((file for file in listing.files if file.path == chosen), None) if listing else None
        if listing is None or found is None:
            raise LabError(
                "No file is chosen. Enter a repository, press “List files”, choose a file, then download it."
            )
        run = lab.library.download_file(listing, found, str(base or ""))
        guard.info(f"{run.spec.name} is being downloaded. Its progress is in “Transfers and tests”.")

    @shown
    def import_files(paths: list[str] | None, base: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "import files")
        if not paths:
            raise LabError("No file was uploaded. Choose a .gguf, or the two files of an adapter.")
        run = lab.library.import_files([Path(path) for path in paths], str(base or ""), move=True)
        guard.info(f"{run.spec.name} is being imported. Its progress is in “Transfers and tests”.")

    def view(snapshot: Snapshot) -> list[Any]:
        return [gr.update(choices=chat_view.options(_bases(snapshot.entries)))]

    # bindings
    inputs, outputs = [pasted, revision], [listing, summary, file, fetch]
    for event, name in ((ask.click, "list_files"), (pasted.submit, None)):
        cleared = event(lambda: (None, "", *[gr.update(visible=False)] * 2), None, outputs, api_visibility="private")
        visibility = {"api_name": name} if name else {"api_visibility": "private"}
        cleared.then(list_files, inputs, outputs, **visibility)
    events = [
        fetch.click(download, [listing, file, over], None, api_name="fetch"),
        upload.upload(import_files, [upload, over], None, api_name="bring"),
    ]
    return LiveSection([over], view, events)


def _bases(entries: Sequence[Entry]) -> list[Entry]:
    """The variants that an adapter can run over."""
    return [entry for entry in entries if entry.model is not None and entry.adapter is None]
