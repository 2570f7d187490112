"""One row as a conversation, word for word; or the reason why it is none.

Nothing is merged, cut or trimmed. A system message without words is the same as none. What looks like a special token
stays as it is: where text becomes tokens it has no power.
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
    """Why a row is dropped; it follows `the row is dropped because`."""


def to_conversation(value: Any, columns: Columns) -> tuple[Message, ...]:
    """UnusableRow when it is not one that can be trained on."""
    if not isinstance(value, Mapping):
        raise UnusableRow("it is not an object")
    if len(value) > MOST_COLUMNS:
        raise UnusableRow(f"it has more than {MOST_COLUMNS:,} columns")
    messages = _turns(value[columns.turns], KEYS[columns.shape]) if columns.turns in value else _pair(value, columns)
    system = value.get(columns.system)
    if not _is_blank(system) and not any(message["role"] == "system" for message in messages):
        messages.insert(0, Message(role="system", content=_words(system, "its system message")))
    _check_text(messages)
    _check_order([message["role"] for message in messages])
    return tuple(messages)


def _turns(value: Any, keys: tuple[str, str]) -> list[Message]:
    turns = as_list(value)
    if not turns:
        raise UnusableRow("it has no list of turns, or an empty one")
    messages = [_turn(turn, *keys) for turn in turns]
    return [message for message in messages if message["role"] != "system" or not _is_blank(message["content"])]


def _turn(turn: Any, who: str, what: str) -> Message:
    if not isinstance(turn, Mapping) or who not in turn or what not in turn:
        raise UnusableRow(f"a turn is not an object with {who} and {what}")
    name = turn[who]
    role = ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise UnusableRow(f"a turn is by {shown(str(name)[:50])}, which is neither system, user nor assistant")
    if role == "system" and _is_blank(turn[what]):
        return Message(role=role, content="")
    return Message(role=role, content=_words(turn[what], f"a turn of the {role}"))


def _pair(row: Mapping[str, Any], columns: Columns) -> list[Message]:
    if columns.turns:
        raise UnusableRow(f"it has no {shown(columns.turns)}")
    prompt, answer = row.get(columns.prompt), row.get(columns.answer)
    if isinstance(prompt, list) and isinstance(answer, list):
        return _turns([*prompt, *answer], KEYS["messages"])
    asked, context = _words(prompt, "its prompt"), row.get(columns.context)
    if not _is_blank(context):
        asked += "\n\n" + _words(context, "its input")
    return [
        Message(role="user", content=asked),
        Message(role="assistant", content=_words(answer, "its answer")),
    ]


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _words(value: Any, what: str) -> str:
    if _is_blank(value):
        raise UnusableRow(f"{what} is empty")
    if not isinstance(value, str):
        raise UnusableRow(f"{what} is not text")
    if len(value) > LONGEST:
        raise UnusableRow(f"it is longer than {LONGEST:,} characters")
    return value


def _check_text(messages: list[Message]) -> None:
    if sum(len(message["content"]) for message in messages) > LONGEST:
        raise UnusableRow(f"it is longer than {LONGEST:,} characters")
    if any("\0" in message["content"] for message in messages):
        raise UnusableRow("it holds a NUL, which is no text")
    if not all(is_text(message["content"]) for message in messages):
        raise UnusableRow("it holds half a character (a lone surrogate)")


def _check_order(roles: list[Role]) -> None:
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if "system" in turns:
        raise UnusableRow("a system message does not stand at its beginning")
    if turns[:1] != ["user"]:
        raise UnusableRow("it does not begin with the user")
    if any(one == other for one, other in zip(turns, turns[1:], strict=False)):
        raise UnusableRow("one side speaks twice in a row")
    if turns[-1] != "assistant":
        raise UnusableRow("it does not end with the assistant")
