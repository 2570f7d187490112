"""Converts a row of a dataset into a conversation, or raises UnusableRow with the reason.

The text of the messages stays as it is: nothing is merged, cut or stripped. An empty system message is left out. Text
that looks like a special token stays, too: the tokenizer treats it as plain text.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from backend.core.messages import Message
from backend.data.columns import Columns, as_list
from backend.data.dataset import shown
from backend.data.formats import MOST_COLUMNS, is_text

LONGEST = 1_000_000  # characters of a conversation
Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {role: role for role in get_args(Role)} | {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
}
KEYS = {"sharegpt": ("from", "value"), "messages": ("role", "content")}


class UnusableRow(ValueError):
    """The reason for dropping a row. The text continues the sentence `the row was dropped because`."""


def to_conversation(value: Any, columns: Columns) -> tuple[Message, ...]:
    """Convert a record into messages. Raises UnusableRow if it is not a complete conversation."""
    if not isinstance(value, Mapping):
        raise UnusableRow("it is not an object")
    if len(value) > MOST_COLUMNS:
        raise UnusableRow(f"it has more than {MOST_COLUMNS:,} columns")
    if columns.turns in value:
        messages = _from_turns(value[columns.turns], KEYS[columns.shape])
    else:
        messages = _from_prompt_and_answer(value, columns)
    system = value.get(columns.system)
    if not _is_blank(system) and not any(message["role"] == "system" for message in messages):
        messages.insert(0, Message(role="system", content=_checked_text(system, "its system message")))
    _check_text(messages)
    _check_order([message["role"] for message in messages])
    return tuple(messages)


def _from_turns(value: Any, keys: tuple[str, str]) -> list[Message]:
    turns = as_list(value)
    if not turns:
        raise UnusableRow("it has no list of turns, or an empty one")
    messages = [_to_message(turn, *keys) for turn in turns]
    return [message for message in messages if message["role"] != "system" or not _is_blank(message["content"])]


def _to_message(turn: Any, role_key: str, text_key: str) -> Message:
    if not isinstance(turn, Mapping) or role_key not in turn or text_key not in turn:
        raise UnusableRow(f"a turn is not an object with {role_key} and {text_key}")
    name = turn[role_key]
    role = ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise UnusableRow(f"a turn has the role {shown(str(name)[:50])}, which is not system, user or assistant")
    if role == "system" and _is_blank(turn[text_key]):
        return Message(role=role, content="")
    return Message(role=role, content=_checked_text(turn[text_key], f"a turn of the {role}"))


def _from_prompt_and_answer(row: Mapping[str, Any], columns: Columns) -> list[Message]:
    if columns.turns:
        raise UnusableRow(f"it has no {shown(columns.turns)}")
    prompt, answer = row.get(columns.prompt), row.get(columns.answer)
    if isinstance(prompt, list) and isinstance(answer, list):
        return _from_turns([*prompt, *answer], KEYS["messages"])
    question, context = _checked_text(prompt, "its prompt"), row.get(columns.context)
    if not _is_blank(context):
        question += "\n\n" + _checked_text(context, "its input")
    return [
        Message(role="user", content=question),
        Message(role="assistant", content=_checked_text(answer, "its answer")),
    ]


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _checked_text(value: Any, name: str) -> str:
    if _is_blank(value):
        raise UnusableRow(f"{name} is empty")
    if not isinstance(value, str):
        raise UnusableRow(f"{name} is not text")
    if len(value) > LONGEST:
        raise UnusableRow(f"it is longer than {LONGEST:,} characters")
    return value


def _check_text(messages: list[Message]) -> None:
    if sum(len(message["content"]) for message in messages) > LONGEST:
        raise UnusableRow(f"it is longer than {LONGEST:,} characters")
    if any("\0" in message["content"] for message in messages):
        raise UnusableRow("it has a NUL character")
    if not all(is_text(message["content"]) for message in messages):
        raise UnusableRow("it has half a character (a lone surrogate)")


def _check_order(roles: list[Role]) -> None:
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if "system" in turns:
        raise UnusableRow("it has a system message after the first message")
    if turns[:1] != ["user"]:
        raise UnusableRow("its first turn is not by the user")
    if any(role == following for role, following in zip(turns, turns[1:], strict=False)):
        raise UnusableRow("two turns of the same role follow each other")
    if turns[-1] != "assistant":
        raise UnusableRow("its last turn is not by the assistant")
