"""The Library tab: what exists, in what state, and what to do about it."""

import gradio as gr

from app import guard, show
from backend.lab import Lab

HELP = """
**Llama 3.2 and the lab's fine-tunes** are not shipped. Fetch one with the Hugging Face command line (it is installed
with this app), then press Refresh:
```
hf download unsloth/Llama-3.2-1B-Instruct-GGUF Llama-3.2-1B-Instruct-Q4_K_M.gguf --local-dir models/weights/base_1b
```
The last column gives this line for every variant that is not here. **Your own model**: put `NAME.gguf` into
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
            column_widths=["9%", "8%", "15%", "7%", "9%", "8%", "8%", "10%", "26%"],
        )

    # handlers
    @guard.shown(lab.settings)
    def look() -> list[list[str]]:
        return show.library(lab.entries())

    # bindings
    refresh.click(look, None, table, api_name="library")
    tab.select(look, None, table, api_name="library_select", show_progress="hidden")
