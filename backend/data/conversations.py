"""Converts a row of a dataset into a conversation, or raises UnusableRow with the reason.

The text of the messages stays as it is: nothing is merged, cut or stripped. An empty system message is left out. Text
that looks like a special token stays, too: the tokenizer treats it as plain text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from backend.core.messages import Message
from backend.data.columns import Columns, as_bool, as_list
from backend.data.dataset import shown
from backend.data.formats import MOST_COLUMNS
from backend.data.rows import Record, Row
from backend.data.text_files import is_text

LONGEST = 1_000_000  # characters of a conversation
Role = Literal["system", "user", "assistant", "tool"]
ROLES: dict[str, Role] = {role: role for role in get_args(Role)} | {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "developer": "system",
    "function": "tool",
    "observation": "tool",
    "function_call": "assistant",
}
CALL = "function_call"
"""In ShareGPT, the role of an answer that is the call of a function, as JSON."""
KEYS = {
    "sharegpt": (("from", "role"), ("value", "content", "text")),
    "messages": (("role", "from"), ("content", "value", "text")),
}
CALLS, WEIGHT, TRAIN = "tool_calls", "weight", "train"
"""Keys of a turn that say whether it is learned: OpenAI's (0 or 1) and Axolotl's (false or true)."""


class UnusableRow(ValueError):
    """The reason for dropping a row. The text continues the sentence `the row was dropped because`."""


def to_row(record: Record, columns: Columns) -> Row:
    """Convert a record into a row. Raises UnusableRow if it is not a complete conversation to learn from."""
    value = record.value
    if record.error:
        raise UnusableRow(record.error)
    if not isinstance(value, Mapping):
        raise UnusableRow("it is not an object")
    if len(value) > MOST_COLUMNS:
        raise UnusableRow(f"it has more than {MOST_COLUMNS:,} columns")
    if columns.label and as_bool(value.get(columns.label)) is False:
        raise UnusableRow(f"its {shown(columns.label)} is false, so its answer is a bad example")
    if columns.turns in value:
        messages, masked = _from_turns(value[columns.turns], columns)
    else:
        messages, masked = _from_prompt_and_answer(value, columns)
    system = value.get(columns.system)
    if not _is_blank(system) and not any(message["role"] == "system" for message in messages):
        messages.insert(0, Message(role="system", content=_checked_text(system, "its system message")))
        masked = [place + 1 for place in masked]
    _check_text(messages)
    _check_order(messages)
    answers = {place for place, message in enumerate(messages) if message["role"] == "assistant"}
    if answers <= set(masked):
        raise UnusableRow("none of its answers is to be learned (weight 0)")
    return Row(record.index, record.line, tuple(messages), frozenset(masked) & answers)


def unused_keys(value: Any, columns: Columns) -> set[str]:
    """The keys of a row and of its turns that are not used, as people write them: `id`, `messages.name`."""
    if not isinstance(value, Mapping):
        return set()
    names = {str(name) for name in value if name not in columns.used}
    turns = as_list(value.get(columns.turns)) if columns.turns in value else []
    for turn in turns:
        if isinstance(turn, Mapping):
            used = {_first_key(turn, keys) for keys in KEYS[columns.shape]} | {WEIGHT, TRAIN, CALLS}
            names |= {f"{columns.turns}.{key}" for key in turn if key not in used}
    return names


def _from_turns(value: Any, columns: Columns) -> tuple[list[Message], list[int]]:
    """The messages, and the places of those that are not to be learned."""
    turns = as_list(value)
    if not turns:
        raise UnusableRow("it has no list of turns, or an empty one")
    keys = KEYS.get(columns.shape, KEYS["messages"])
    messages = [(_to_message(turn, *keys), _is_learned(turn)) for turn in turns]
    kept = [pair for pair in messages if pair[0]["role"] != "system" or not _is_blank(pair[0]["content"])]
    return [message for message, _ in kept], [place for place, (_, learned) in enumerate(kept) if not learned]


def _first_key(turn: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((key for key in keys if key in turn), keys[0])


def _to_message(turn: Any, role_keys: Sequence[str], text_keys: Sequence[str]) -> Message:
    if not isinstance(turn, Mapping):
        raise UnusableRow(f"a turn is not an object with {role_keys[0]} and {text_keys[0]}")
    role_key, text_key = _first_key(turn, role_keys), _first_key(turn, text_keys)
    calls = turn.get(CALLS)
    if role_key not in turn or (text_key not in turn and not calls):
        raise UnusableRow(f"a turn is not an object with {role_keys[0]} and {text_keys[0]}")
    name = turn[role_key]
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise UnusableRow(f"a turn has the role {shown(str(name)[:50])}, which is not system, user, assistant or tool")
    if str(name).strip().lower() == CALL:
        calls, turn = [{"function": _from_json(turn[text_key])}], {text_key: ""}
    text = turn.get(text_key)
    if role == "assistant" and calls:
        content = "" if _is_blank(text) else _checked_text(text, "a turn of the assistant")
        return Message(role=role, content=content, tool_calls=_to_calls(calls))
    if role == "system" and _is_blank(text):
        return Message(role=role, content="")
    return Message(role=role, content=_checked_text(text, f"a turn of the {role}"))


def _to_calls(calls: Any) -> list[dict[str, Any]]:
    """Tool calls as chat templates expect them: the arguments as an object, not as JSON text."""
    found = []
    for call in as_list(calls) or [None]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        arguments = function.get("arguments", {}) if isinstance(function, Mapping) else None
        arguments = _from_json(arguments) if isinstance(arguments, str) else arguments
        if not isinstance(name, str) or not name.strip() or not isinstance(arguments, Mapping):
            raise UnusableRow("a tool call is not an object with a name and arguments")
        found.append({"type": "function", "function": {"name": name, "arguments": dict(arguments)}})
    return found


def _from_json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def _is_learned(turn: Mapping[str, Any]) -> bool:
    weight, train = turn.get(WEIGHT), turn.get(TRAIN)
    if weight is not None and weight not in (0, 1):
        raise UnusableRow(f"a turn has the weight {shown(str(weight)[:50])}, and only 0 and 1 are supported")
    return weight != 0 and as_bool(train) is not False


def _from_prompt_and_answer(row: Mapping[str, Any], columns: Columns) -> tuple[list[Message], list[int]]:
    if columns.turns:
        raise UnusableRow(f"it has no {shown(columns.turns)}")
    prompt, answer = row.get(columns.prompt), row.get(columns.answer)
    if isinstance(prompt, list) and isinstance(answer, list) or (as_list(prompt) and as_list(answer)):
        return _from_turns([*as_list(prompt), *as_list(answer)], columns)
    question, context = _checked_text(prompt, "its prompt"), row.get(columns.context)
    if not _is_blank(context):
        question += "\n\n" + _checked_text(context, "its input")
    earlier = _from_history(row.get(columns.history))
    answered = Message(role="assistant", content=_checked_text(answer, "its answer"))
    return [*earlier, Message(role="user", content=question), answered], []


def _from_history(value: Any) -> list[Message]:
    """Earlier turns: pairs of question and answer, as in Alpaca."""
    messages, pairs = [], as_list(value)
    if not pairs and value and not _is_blank(value):
        raise UnusableRow("its history is not a list of pairs of question and answer")
    for pair in pairs:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise UnusableRow("its history is not a list of pairs of question and answer")
        messages.append(Message(role="user", content=_checked_text(pair[0], "a question of its history")))
        messages.append(Message(role="assistant", content=_checked_text(pair[1], "an answer of its history")))
    return messages


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _checked_text(value: Any, name: str) -> str:
    if isinstance(value, list) and value:
        value = _joined_parts(value, name)
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if _is_blank(value):
        raise UnusableRow(f"{name} is empty")
    if not isinstance(value, str):
        raise UnusableRow(f"{name} is not text")
    if len(value) > LONGEST:
        raise UnusableRow(f"it is longer than {LONGEST:,} characters")
    return value


def _joined_parts(parts: Sequence[Any], name: str) -> str:
    """The text of a message whose content is a list of parts, as in OpenAI's format."""
    texts = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, Mapping) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            what = f"a part of the type {shown(str(kind)[:50])}" if kind else "a part that is not an object"
            raise UnusableRow(f"{name} has {what}, and only text is supported")
        texts.append(part["text"])
    return "".join(texts)


def _check_text(messages: list[Message]) -> None:
    texts = [message["content"] for message in messages]
    texts += [json.dumps(message["tool_calls"], ensure_ascii=False) for message in messages if "tool_calls" in message]
    if sum(map(len, texts)) > LONGEST:
        raise UnusableRow(f"it is longer than {LONGEST:,} characters")
    if any("\0" in text for text in texts):
        raise UnusableRow("it has a NUL character")
    if not all(map(is_text, texts)):
        raise UnusableRow("it has half a character (a lone surrogate)")


def _check_order(messages: list[Message]) -> None:
    roles = [message["role"] for message in messages]
    turns = messages[1:] if roles[:1] == ["system"] else messages
    if any(turn["role"] == "system" for turn in turns):
        raise UnusableRow("it has a system message after the first message")
    if not turns or turns[0]["role"] != "user":
        raise UnusableRow("its first turn is not by the user")
    for turn, following in zip(turns, turns[1:], strict=False):
        called = "tool_calls" in turn or turn["role"] == "tool"
        if following["role"] == "tool" and not called:
            raise UnusableRow("it has a result of a tool without a call")
        if turn["role"] == following["role"] != "tool":
            raise UnusableRow("two turns of the same role follow each other")
        if following["role"] == "user" and turn["role"] == "tool":
            raise UnusableRow("a result of a tool is not followed by an answer")
    if turns[-1]["role"] != "assistant":
        raise UnusableRow("its last turn is not by the assistant")
