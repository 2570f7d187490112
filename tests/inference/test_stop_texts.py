"""From bytes to text: however the bytes were cut, the same answer."""

import random

import pytest

from backend.inference.worker.stop_texts import AnswerText

STOPS = ("### Instruction:", "### Response:")


def pushed(pieces: list[bytes], stops: tuple[str, ...] = STOPS) -> tuple[str, bool]:
    """The whole answer and whether a stop text ended it; as the worker does, nothing is pushed after that."""
    answer = AnswerText(stops)
    text = ""
    for piece in pieces:
        text += answer.push(piece)
        if answer.ended:
            break
    return text + answer.rest(), answer.ended


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.sample(range(len(data) + 1), chance.randint(0, min(12, len(data)))))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def test_a_character_is_shown_when_its_last_byte_has_come() -> None:
    answer = AnswerText(())
    assert [answer.push(bytes([byte])) for byte in "é\U0001f600".encode()] == ["", "é", "", "", "", "\U0001f600"]


def test_a_character_cut_off_by_the_end_is_shown_as_damaged() -> None:
    assert pushed(["a\U0001f600".encode()[:-1]]) == ("a\ufffd", False)


def test_bytes_that_are_no_text_do_not_break_the_answer() -> None:
    assert pushed([b"a\xff\xfe", b"\xc3", b"(b"]) == ("a\ufffd\ufffd\ufffd(b", False)


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it() -> None:
    assert pushed([b"Yes.\n\n### Instruction:\nmore"]) == ("Yes.", True)


def test_a_stop_text_is_found_across_pushes() -> None:
    assert pushed([b"Yes.", b"\n", b"\n##", b"# Instr", b"uction", b":", b" more"]) == ("Yes.", True)


def test_what_may_begin_a_stop_text_is_not_shown_yet() -> None:
    answer = AnswerText(STOPS)
    assert (answer.push(b"Yes. ### Res"), answer.push(b"olve")) == ("Yes.", " ### Resolve")


def test_what_was_held_back_is_released_at_the_end() -> None:
    assert pushed([b"Yes.\n\n", b"### Resp"]) == ("Yes.\n\n### Resp", False)


def test_nothing_is_held_back_where_there_are_no_stop_texts() -> None:
    assert AnswerText(()).push(b"Yes. \n### ") == "Yes. \n### "


def test_nothing_comes_after_a_stop_text_has_ended_it() -> None:
    answer = AnswerText(("END",))
    answer.push(b"a END b\xc3")
    assert answer.rest() == ""


def test_the_stop_text_that_was_complete_first_counts() -> None:
    assert pushed([b"one two three"], ("one two three", "two")) == ("one", True)


@pytest.mark.parametrize("stops", [STOPS, ("aab", "ab", "aabaab"), ("é\U0001f600",), ("\n\n",), ()])
def test_any_cut_of_a_text_gives_the_same_answer(stops: tuple[str, ...]) -> None:
    chance = random.Random(20)
    parts = ["a", "b", " ", "\n", "é", "\U0001f600", "#", "### ", "Resp", "onse:", "Instruction:", *stops, *stops]
    for _ in range(400):
        data = "".join(chance.choices(parts, k=chance.randint(0, 14))).encode()
        data = data[: len(data) - chance.randint(0, 1)]
        assert pushed(cut(data, chance), stops) == pushed([data], stops), data
