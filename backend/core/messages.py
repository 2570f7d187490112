"""Conversations: lists of messages, as in OpenAI's API, llama.cpp and Gradio."""

from collections.abc import Sequence
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from backend.core.errors import LabError

MAX_CHARACTERS = 200_000  # more than any context here; refused before it is tokenised

# U+FDD0 and U+FDD1 are not characters. The worker puts them around user text (see llamacpp/chat_template.py).
_REPLACED = {0xFDD0: "\ufffd", 0xFDD1: "\ufffd", 0x0: "\ufffd"}


class Message(TypedDict):
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: NotRequired[list[dict[str, Any]]]
    """Calls of functions in an answer, for training: `{"type": "function", "function": {"name", "arguments"}}`."""


def clean(messages: Sequence[Message]) -> list[Message]:
    """Replace characters that a runtime cannot handle. LabError if the conversation cannot be answered."""
    newest = next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")
    if not newest.strip():
        raise LabError("The message is empty. Write something and send it again.")
    characters = sum(len(message["content"]) for message in messages)
    if characters > MAX_CHARACTERS:
        raise LabError(
            f"This conversation has {characters:,} characters and {MAX_CHARACTERS:,} is the limit, which is already "
            "more than the models here can read at once. Send a shorter text, or a part of it."
        )
    return [
        Message(role=message["role"], content=plain(message["content"]))
        for message in messages
        if message["content"].strip() or message["role"] != "system"
    ]


def plain(text: str) -> str:
    """Valid Unicode: lone surrogates, NUL and the two bracket code points become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").translate(_REPLACED)
