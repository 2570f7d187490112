"""Getting a model: any repository of the Hub, or files of one's own."""

from pathlib import Path
from typing import Any

import gradio as gr

from app import guard, show, show_models
from app.part import Part
from backend import machine
from backend.errors import LabError
from backend.lab import Lab
from backend.library.ask import Listing

OWN = """
**Your own files**: a `.gguf`, or the two files of a PEFT LoRA adapter (`adapter_config.json` and
`adapter_model.safetensors`) with the variant it runs over. Large files are quicker dropped into `models/weights/`; a
LoRA as GGUF is called `NAME@BASE.gguf` there, BASE being the id of the variant it was trained on.
"""


def getting(lab: Lab) -> Part:
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
            over = gr.Dropdown(
                _bases(lab), value=None, label="Runs over (for adapters)", interactive=True, scale=2, visible=False
            )
            fetch = gr.Button("Download", variant="primary", size="sm", scale=1, visible=False)
        gr.Markdown(OWN)
        with gr.Row():
            under = gr.Dropdown(
                _bases(lab), value=None, label="Runs over (for your adapter)", interactive=True, scale=2
            )
            bring = gr.UploadButton(
                "Bring files", file_count="multiple", file_types=[".gguf", ".safetensors", ".json"], size="sm", scale=1
            )

    # handlers
    @shown
    def list_files(text: str, at: str, request: gr.Request) -> tuple[Any, ...]:
        guard.require_owner(lab.settings, request, "look for models on the Hub")
        found = lab.library.list_files(text or "", at or "")
        free, disk = machine.memory_free(), lab.library.disk_free()
        choices = show_models.files(found, free, disk, lab.library.guess)
        usable = [one.path for one in sorted(found.files, key=lambda one: one.size) if not one.why]
        some = bool(choices)
        return (
            found,
            show_models.listing(found, free, disk),
            gr.update(choices=choices, value=usable[0] if usable else None, visible=some),
            gr.update(choices=_bases(lab), value=None, visible=some and found.kind == "adapter"),
            gr.update(visible=some),
        )

    @shown
    def download(found: Listing | None, chosen: str | None, base: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "download models")
        named = next((one for one in found.files if one.path == chosen), None) if found else None
        if found is None or named is None:
            raise LabError("No file is chosen. Name a repository, press “List files”, choose one, then download.")
        lab.library.fetch(found, named, base or "")

    @shown
    def bring_files(paths: list[str] | None, base: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "bring files")
        if not paths:
            raise LabError("No file came. Choose a .gguf, or the two files of an adapter.")
        lab.library.bring([Path(path) for path in paths], base or "", move=True)

    def view() -> list[Any]:
        return [gr.update(choices=_bases(lab)), gr.update(choices=_bases(lab))]

    # bindings
    inputs, outputs = [pasted, revision], [listing, summary, file, over, fetch]
    ask.click(list_files, inputs, outputs, api_name="list_files")
    pasted.submit(list_files, inputs, outputs, api_visibility="private")
    acted = [
        fetch.click(download, [listing, file, over], None, api_name="fetch"),
        bring.upload(bring_files, [bring, under], None, api_name="bring"),
    ]
    return Part([over, under], view, acted)


def _bases(lab: Lab) -> list[tuple[str, str]]:
    """Variants an adapter can run over."""
    bases = [entry for entry in lab.entries() if entry.model is not None and entry.adapter is None]
    return show.options(bases)
