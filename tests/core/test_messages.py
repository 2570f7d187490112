"""What a person sends, made safe for every runtime."""

import pytest

from backend.core.errors import LabError
from backend.core.messages import MAX_CHARACTERS, Message, clean, plain


def user(content: str) -> Message:
    return Message(role="user", content=content)


def assistant(content: str) -> Message:
    return Message(role="assistant", content=content)


@pytest.mark.parametrize(
    "text", ["\ud800", "\udfff", "a\ud83d", "\ud83da", "\ude00\ud83d", "\ud800" * 3, "\udc80 from a file name"]
)
def test_lone_surrogates_become_text_that_can_be_encoded(text: str) -> None:
    changed = plain(text)
    assert changed.encode("utf-8").decode() == changed
    assert len(changed) == len(text)
    assert [a for a, b in zip(text, changed, strict=True) if b != "\ufffd"] == [
        letter for letter in text if not "\ud800" <= letter <= "\udfff"
    ]


def test_two_halves_of_a_character_become_the_character() -> None:
    assert plain("\ud83d\ude00") == "\U0001f600"


@pytest.mark.parametrize("text", ["\x00", "\ufdd0", "\ufdd1"])
def test_nul_and_the_bracket_code_points_are_replaced(text: str) -> None:
    assert plain(f"a{text}b") == "a\ufffdb"


@pytest.mark.parametrize(
    "text", ["", "\ufeffbegins with a byte order mark", "\ufffe\uffff", "\U0001f468\u200d\U0001f469", "\u202e\r\n\t"]
)
def test_other_text_is_left_alone(text: str) -> None:
    assert plain(text) == text


def test_every_role_is_cleaned() -> None:
    found = clean([Message(role="system", content="s\x00"), user("a\ufdd0"), assistant("b\ufdd1"), user("\ud800")])
    assert [message["content"] for message in found] == ["s\ufffd", "a\ufffd", "b\ufffd", "\ufffd"]


def test_a_megabyte_is_refused_with_both_numbers() -> None:
    with pytest.raises(LabError, match=f"1,000,000 .*{MAX_CHARACTERS:,}"):
        clean([user("x" * 1_000_000)])


def test_the_limit_counts_the_whole_conversation() -> None:
    half = user("x" * (MAX_CHARACTERS // 2))
    assert len(clean([half, half])) == 2
    with pytest.raises(LabError):
        clean([half, assistant("y"), half])


@pytest.mark.parametrize("text", ["", "   ", "\n\t\u3000"])
def test_an_empty_message_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="empty"):
        clean([user(text)])


def test_an_empty_message_is_refused_later_in_a_conversation_too() -> None:
    with pytest.raises(LabError, match="empty"):
        clean([user("Hello"), assistant("Hi"), user(" ")])


def test_a_system_prompt_alone_is_nothing_to_answer() -> None:
    with pytest.raises(LabError, match="empty"):
        clean([Message(role="system", content="Be brief.")])


def test_a_blank_system_prompt_is_not_sent() -> None:
    assert clean([Message(role="system", content=" \n"), user("Hello")]) == [user("Hello")]
