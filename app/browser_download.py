"""Downloads of text: the browser makes the file, so that nothing is written on the server."""

from collections.abc import Callable
from typing import Any

import gradio as gr

SAVE = """(text, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "text/plain"}));
    link.download = name;
    link.click();
}"""


def hidden_boxes(label: str) -> list[Any]:
    """Invisible boxes that `download_button` needs: the text, and the name of the file."""
    return [gr.Textbox(label=label, visible="hidden"), gr.Textbox(label=f"{label}, its name", visible="hidden")]


def download_button(
    button: Any, write: Callable[..., list[str]], inputs: list[Any], hidden: list[Any], api_name: str
) -> None:
    """Make a button that saves a text. `write` returns the text and the name of the file."""
    written = button.click(write, inputs, hidden, api_name=api_name, show_progress="hidden")
    written.success(None, hidden, None, js=SAVE)
