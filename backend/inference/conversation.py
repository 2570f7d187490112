"""A conversation as the lab keeps it: turns with what is known of each answer, and what one can do with them."""

import json
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from backend.core.errors import LabError
from backend.core.messages import Message, plain
from backend.inference.reply import Reply
from backend.inference.sampling import End, Generation

ENDS: dict[End, str] = {
    "stop": "the model ended it",
    "length": "cut at the token limit",
    "context": "cut: the context is full",
    "stopped": "stopped by you",
}


class Turn(BaseModel):
    """One message. `variant`, `generation` and `error` belong to answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["user", "assistant"]
    content: str
    variant: str = ""
    state: str = "ended"
    """While it arrives: the reply's state; `waiting` with its place in line."""
    place: int = 0
    generation: Generation | None = None
    error: str = ""


def asked(text: str) -> Turn:
    return Turn(role="user", content=plain(text))


def answered(variant: str, reply: Reply) -> Turn:
    """The answer as far as it has arrived."""
    return Turn(
        role="assistant",
        content=reply.so_far,
        variant=variant,
        state=reply.state,
        place=reply.place,
        generation=reply.generation,
        error=reply.error,
    )


def messages(system: str | None, turns: Sequence[Turn]) -> list[Message]:
    """What the model is given. A question whose answer failed before its first word was never asked: some
    templates refuse two questions in a row."""
    said = [Message(role="system", content=plain(system))] if system and system.strip() else []
    for turn in turns:
        if turn.error and not turn.content:
            said.pop()
        else:
            said.append(Message(role=turn.role, content=turn.content))
    return said


def before(turns: Sequence[Turn], index: int) -> tuple[list[Turn], str]:
    """The turns before the question at or before `index`, and that question: to retry, edit or undo it."""
    questions = [place for place, turn in enumerate(turns[: index + 1]) if turn.role == "user"]
    if not questions:
        raise LabError("There is no message to go back to. Write one and send it.")
    return list(turns[: questions[-1]]), turns[questions[-1]].content


def as_json(system: str | None, turns: Sequence[Turn]) -> str:
    """The whole conversation with every statistic: `{"system": ..., "turns": [...]}`."""
    record = {"system": plain(system or ""), "turns": [turn.model_dump(exclude_defaults=True) for turn in turns]}
    return json.dumps(record, ensure_ascii=False, indent=2) + "\n"


def as_markdown(system: str | None, turns: Sequence[Turn]) -> str:
    """To read: a heading per turn, the text as it was."""
    parts = [f"## System\n\n{plain(system).strip()}\n"] if system and system.strip() else []
    for turn in turns:
        who = "You" if turn.role == "user" else turn.variant
        parts.append("\n\n".join([f"## {who}", *filter(None, [turn.content]), *_marks(turn)]) + "\n")
    return "\n".join(parts)


def _marks(turn: Turn) -> list[str]:
    """What a reader must know of an answer that is not whole."""
    marks = [turn.error] if turn.error else []
    if turn.generation and turn.generation.end != "stop":
        marks.append(ENDS[turn.generation.end])
    if turn.generation and turn.generation.left_out:
        marks.append(f"the {turn.generation.left_out} oldest messages were left out")
    return [f"*({mark})*" for mark in marks]
