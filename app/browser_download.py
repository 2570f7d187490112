"""Text that a person keeps: the browser makes the file, and nothing of it is written on this machine."""

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
    """What `download_button` needs on the page and nobody sees: text, and the file's name."""
    return [gr.Textbox(label=label, visible="hidden"), gr.Textbox(label=f"{label}, its name", visible="hidden")]


def download_button(
    button: Any, write: Callable[..., list[str]], inputs: list[Any], hidden: list[Any], api_name: str
) -> None:
    """`write` gives the text and the file's name."""
    made = button.click(write, inputs, hidden, api_name=api_name, show_progress="hidden")
    made.success(None, hidden, None, js=SAVE)
