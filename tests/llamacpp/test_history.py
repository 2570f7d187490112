"""A conversation longer than the context."""

import re
from collections.abc import Sequence

import pytest

from backend.core.errors import LabError
from backend.core.messages import Message
from backend.llamacpp.chat_template import fit_history

SYSTEM = Message(role="system", content="S" * 10)


def encode(messages: Sequence[Message]) -> list[int]:
    """A character is a token, so that a prompt can be read back."""
    return [ord(letter) for message in messages for letter in message["content"]]


def text(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


def conversation(pairs: int, size: int = 10) -> list[Message]:
    """Questions `aaa…`, `bbb…`; answers in capitals; the last question has no answer yet."""
    messages = []
    for number in range(pairs):
        letter = chr(ord("a") + number)
        messages += [
            Message(role="user", content=letter * size),
            Message(role="assistant", content=letter.upper() * size),
        ]
    return messages[:-1]


def test_what_fits_is_left_whole() -> None:
    messages = [SYSTEM, *conversation(3)]
    assert fit_history(messages, encode, 100, 20) == (encode(messages), 0)


def test_the_last_token_of_the_room_may_be_used() -> None:
    assert fit_history([Message(role="user", content="x" * 80)], encode, 100, 20)[1] == 0


def test_the_oldest_turns_leave_first() -> None:
    tokens, left = fit_history(conversation(4), encode, 60, 10)
    assert (text(tokens), left) == ("b" * 10 + "B" * 10 + "c" * 10 + "C" * 10 + "d" * 10, 2)


def test_no_more_turns_leave_than_must() -> None:
    for context in range(28, 120):
        messages = conversation(5)
        tokens, left = fit_history(messages, encode, context, 10)
        room = context - min(10, context // 4)
        assert len(tokens) <= room
        assert left == 0 or len(encode(messages[left - 2 :])) > room


def test_the_system_message_and_the_last_question_stay() -> None:
    tokens, left = fit_history([SYSTEM, *conversation(5)], encode, 28, 10)
    assert (text(tokens), left) == ("S" * 10 + "e" * 10, 8)


def test_what_is_left_begins_with_a_question() -> None:
    tokens, left = fit_history(conversation(4), encode, 55, 10)
    assert (text(tokens)[0], left) == ("c", 4)


def test_a_long_wish_for_tokens_takes_a_quarter_of_the_context_at_most() -> None:
    assert fit_history([Message(role="user", content="x" * 75)], encode, 100, 8192)[1] == 0


@pytest.mark.parametrize("messages", [[], conversation(3)])
def test_a_message_too_long_by_itself_is_refused_with_its_numbers(messages: list[Message]) -> None:
    too_long = [*messages, *([Message(role="assistant", content="A")] * bool(messages))]
    with pytest.raises(LabError) as refused:
        fit_history([*too_long, Message(role="user", content="x" * 1234)], encode, 1000, 100)
    assert re.findall(r"[\d,]*\d", str(refused.value)) == ["1,234", "1,000", "100"]


def test_a_system_message_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(LabError, match="1,001"):
        fit_history([Message(role="system", content="s" * 1000), Message(role="user", content="x")], encode, 1000, 100)
