"""A conversation: turns with the statistics of each answer; going back to a turn, and saving it as JSON or Markdown."""

import json
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from backend.core.errors import LabError
from backend.core.messages import Message, plain
from backend.inference.reply import Reply
from backend.inference.sampling import End, Generation

STOPPED = "Stopped by you before it started."

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
    """While it arrives: the state of its reply; `waiting` with its `place` in the queue."""
    place: int = 0
    generation: Generation | None = None
    error: str = ""


def user_turn(text: str) -> Turn:
    return Turn(role="user", content=plain(text))


def answer_turn(variant: str, reply: Reply) -> Turn:
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
    """The messages that the model gets. A question whose answer failed before its first word is left out: some
    templates refuse two questions in a row."""
    messages = [Message(role="system", content=plain(system))] if system and system.strip() else []
    for turn in turns:
        if turn.error and not turn.content:
            messages.pop()
        else:
            messages.append(Message(role=turn.role, content=turn.content))
    return messages


def before(turns: Sequence[Turn], index: int) -> tuple[list[Turn], str]:
    """The turns before the question at or before `index`, and that question: to retry, edit or undo it."""
    questions = [place for place, turn in enumerate(turns[: index + 1]) if turn.role == "user"]
    if not questions:
        raise LabError("There is no message to go back to. Write one and send it.")
    return list(turns[: questions[-1]]), turns[questions[-1]].content


def as_json(system_prompt: str | None, history: Sequence[Turn]) -> str:
    """The whole conversation with every statistic: `{"system": ..., "turns": [...]}`."""
    turns = [turn.model_dump(exclude_defaults=True) for turn in history]
    record = {"system": plain(system_prompt or ""), "turns": turns}
    return json.dumps(record, ensure_ascii=False, indent=2) + "\n"


def as_markdown(system_prompt: str | None, history: Sequence[Turn]) -> str:
    """The conversation for reading: a heading per turn, and its text unchanged."""
    system = plain(system_prompt or "").strip()
    parts = [f"## System\n\n{system}\n"] if system else []
    for turn in history:
        who = "You" if turn.role == "user" else turn.variant
        parts.append("\n\n".join([f"## {who}", *filter(None, [turn.content]), *_marks(turn)]) + "\n")
    return "\n".join(parts)


def _marks(turn: Turn) -> list[str]:
    """What a reader must know of an incomplete answer."""
    marks = [turn.error] if turn.error else []
    if turn.generation and turn.generation.end != "stop":
        marks.append(ENDS[turn.generation.end])
    if turn.generation and turn.generation.left_out:
        marks.append(f"the {turn.generation.left_out} oldest messages were left out")
    return [f"*({mark})*" for mark in marks]
