"""The Library tab: what exists, in what state, and what to do about it."""

import gradio as gr

from app import guard, show
from backend.lab import Lab

HELP = """
**Llama 3.2 and the lab's fine-tunes** are not shipped. The third column has the line that fetches each: type it in a
terminal, in the folder of this app, then press Refresh. **Your own model**: put `NAME.gguf` into
`models/weights/`; a LoRA adapter goes there as `NAME@BASE.gguf`, BASE being the id of the variant it was trained on.
"""


def library_tab(lab: Lab) -> None:
    # components
    with gr.Tab("Library", id="library") as tab:
        gr.Markdown(HELP)
        refresh = gr.Button("Refresh", size="sm")
        table = gr.Dataframe(
            value=show.library(lab.entries()),
            headers=show.LIBRARY,
            label="Variants",
            interactive=False,
            wrap=True,
            max_height=1200,
            column_widths=["10%", "9%", "33%", "8%", "9%", "8%", "6%", "9%", "8%"],
        )

    # handlers
    @guard.shown(lab.settings)
    def look() -> list[list[str]]:
        return show.library(lab.entries())

    # bindings
    refresh.click(look, None, table, api_name="library")
    tab.select(look, None, table, api_name="library_select", show_progress="hidden")
