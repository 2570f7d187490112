"""Turns, and what one can do with them."""

import json

import pytest
from conftest import GENERATION

from backend.core.errors import LabError
from backend.inference import conversation
from backend.inference.conversation import Turn
from backend.inference.reply import Reply

CUT = GENERATION.model_copy(update={"end": "length", "left_out": 2})


def answer(content: str, **facts: object) -> Turn:
    return Turn(role="assistant", content=content, variant="tiny").model_copy(update=facts)


TURNS = [conversation.user_turn("one"), answer("1"), conversation.user_turn("two"), answer("2", generation=CUT)]


@pytest.mark.parametrize(("index", "kept", "question"), [(0, 0, "one"), (1, 0, "one"), (2, 2, "two"), (3, 2, "two")])
def test_going_back_keeps_what_came_before_the_question(index: int, kept: int, question: str) -> None:
    assert conversation.before(TURNS, index) == (TURNS[:kept], question)


def test_an_index_past_the_end_means_the_last_question() -> None:
    assert conversation.before(TURNS, 99) == (TURNS[:2], "two")


def test_of_two_questions_in_a_row_the_nearer_one_is_meant() -> None:
    turns = [conversation.user_turn("one"), conversation.user_turn("two"), answer("2")]
    assert conversation.before(turns, 2) == (turns[:1], "two")


@pytest.mark.parametrize(("turns", "index"), [([], 0), ([answer("hello")], 0), (TURNS, -1)])
def test_without_a_question_there_is_nothing_to_go_back_to(turns: list[Turn], index: int) -> None:
    with pytest.raises(LabError, match="no message to go back to"):
        conversation.before(turns, index)


def test_going_back_leaves_the_turns_themselves_alone() -> None:
    turns = list(TURNS)
    conversation.before(turns, 3)[0].append(conversation.user_turn("three"))
    assert turns == TURNS


def test_the_model_is_given_every_turn_behind_the_system_prompt() -> None:
    assert conversation.messages("Be brief.", TURNS) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "2"},
    ]


def test_a_blank_system_prompt_is_not_said() -> None:
    assert conversation.messages(" \n", TURNS[:1]) == [{"role": "user", "content": "one"}]


def test_a_question_whose_answer_failed_before_its_first_word_was_never_asked() -> None:
    turns = [
        conversation.user_turn("one"),
        answer("", variant="tiny", error="It stopped."),
        conversation.user_turn("two"),
    ]
    assert conversation.messages("", turns) == [{"role": "user", "content": "two"}]


def test_an_answer_that_failed_on_its_way_was_said_as_far_as_it_came() -> None:
    turns = [conversation.user_turn("one"), answer("Half", error="It stopped.")]
    assert conversation.messages("", turns)[-1] == {"role": "assistant", "content": "Half"}


def test_an_answer_without_words_that_did_not_fail_was_said() -> None:
    assert conversation.messages("", [conversation.user_turn("one"), answer("")])[-1]["role"] == "assistant"


def test_an_answer_is_what_its_reply_has_so_far() -> None:
    reply = Reply(stop=lambda: None)
    reply.wait_in_queue(2)
    waiting = conversation.answer_turn("tiny", reply)
    reply.add("Hel")
    reply.add("lo")
    arriving = conversation.answer_turn("tiny", reply)
    reply.end(CUT)
    ended = conversation.answer_turn("tiny", reply)
    assert (waiting.content, waiting.state, waiting.place) == ("", "waiting", 2)
    assert (arriving.content, arriving.state, arriving.generation) == ("Hello", "answering", None)
    assert (ended.content, ended.state, ended.generation) == ("Hello", "ended", CUT)


def test_half_a_character_that_was_typed_does_not_break_a_conversation() -> None:
    turns = [conversation.user_turn("a\ud800")]
    assert conversation.messages("b\udfff", turns) == [
        {"role": "system", "content": "b\ufffd"},
        {"role": "user", "content": "a\ufffd"},
    ]
    assert (conversation.as_json("\ud800", turns) + conversation.as_markdown("\ud800", turns)).encode()


def test_the_json_holds_every_turn_and_statistic() -> None:
    record = json.loads(conversation.as_json("Be brief. é", TURNS))
    assert record["system"] == "Be brief. é"
    assert [Turn.model_validate(turn) for turn in record["turns"]] == TURNS


def test_the_json_of_nothing_is_json() -> None:
    assert json.loads(conversation.as_json("", [])) == {"system": "", "turns": []}


def test_the_markdown_has_a_heading_per_turn() -> None:
    assert conversation.as_markdown(" Be brief.\n", TURNS[:2]) == (
        "## System\n\nBe brief.\n\n## You\n\none\n\n## tiny\n\n1\n"
    )


def test_the_markdown_says_why_an_answer_is_missing() -> None:
    assert (
        conversation.as_markdown("", [answer("", variant="tiny", error="It stopped.")])
        == "## tiny\n\n*(It stopped.)*\n"
    )
