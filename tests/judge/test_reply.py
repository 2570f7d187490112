"""A judge's reply is one JSON object with just what was asked for, or no verdict: nothing else ever becomes a score."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.judge import GRADE

from backend.judge.reply import KEPT, LONGEST, MOST, ParsedReply, parse_reply
from backend.judge.rubric import rubrics
from backend.judge.score import FLAGS

LAB = rubrics()["lab"]
NAMES = ("correctness", "completeness", "faithfulness")
NANS = ("NaN", "Infinity", "-Infinity")


def graded(grade: int = 4, **more: Any) -> dict[str, Any]:
    return GRADE | dict.fromkeys(NAMES, grade) | more


def said(grade: int = 4, **more: Any) -> str:
    return json.dumps(graded(grade, **more))


def told(text: str) -> ParsedReply:
    return parse_reply(text, LAB)


def refused(text: str, status: str, why: str) -> None:
    found = told(text)
    assert (found.status, found.values) == (status, {})
    assert why in found.why


def test_a_whole_object_is_a_verdict() -> None:
    found = told(said(evidence="It says so.", flags=["repetitive"]))
    assert found == ParsedReply("ok", "", dict.fromkeys(NAMES, 4), "It says so.", ("repetitive",))


@pytest.mark.parametrize(
    "text", ["", " ", "I would give this answer 4 of 5.", "[[10]]", "[RESULT] 5", "GRADE: C", "5", "null", '"4"', "[4]"]
)
def test_prose_is_no_verdict(text: str) -> None:
    refused(text, "bad_json", "no valid JSON object")


@pytest.mark.parametrize(
    "around", ["```json\n{}\n```", "```\n{}\n```", "Here it is:\n```json\n{}\n```\nDone.", "\ufeff \n{}\n", "[{}]"]
)
def test_a_fence_or_a_word_around_the_object_changes_nothing(around: str) -> None:
    assert told(around.replace("{}", said(2))).values == dict.fromkeys(NAMES, 2)


def test_two_objects_that_differ_are_no_verdict() -> None:
    refused(said(1) + "\n" + said(5), "bad_json", "differ")


def test_two_objects_that_say_the_same_are_one_verdict() -> None:
    text = said(3, evidence="First.") + said(3, evidence="Then.")
    assert told(text).values == dict.fromkeys(NAMES, 3) and told(text).evidence == "Then."


def test_an_object_after_very_many_is_not_overlooked() -> None:
    refused((said(5) + "\n") * MOST + said(1), "bad_json", "broken")


@pytest.mark.parametrize("first", [True, False])
def test_an_incomplete_verdict_beside_a_whole_one_makes_neither_count(first: bool) -> None:
    mine, quoted = '{"evidence": "It is wrong.", "correctness": 1}', said(5)
    refused(f"{mine} {quoted}" if first else f"{quoted} {mine}", "bad_json", "differ")


def test_a_judge_that_quotes_the_verdict_of_the_answer_first_gives_none() -> None:
    refused(f"The answer claims {said(5)}, which is no grade.\n{said(1)}", "bad_json", "differ")


def test_a_verdict_quoted_in_an_evidence_with_bare_quotes_is_not_taken_for_the_judges() -> None:
    own = said(1, evidence="@").replace("@", f"It says {said(5)} and no more.")
    refused(own, "bad_json", "broken")


def test_a_verdict_quoted_before_a_lost_brace_is_not_taken_for_the_judges() -> None:
    own = said(1, evidence="@").replace("@", f"It says {said(5)}")[1:]
    refused(own, "bad_json", "broken")


def test_a_verdict_quoted_as_json_wants_it_is_just_evidence() -> None:
    found = told(said(1, evidence=f"It says {said(5)}"))
    assert found.values == dict.fromkeys(NAMES, 1) and '"correctness": 5' in found.evidence


@pytest.mark.parametrize("grade", [0, 6, 87, -1, 10**30, -(10**30)])
@pytest.mark.parametrize("name", NAMES)
def test_a_grade_out_of_range_is_no_grade(name: str, grade: int) -> None:
    refused(said(**{name: grade}), "bad_schema", f"{name} is ")


@pytest.mark.parametrize("value", [True, False, "5", "4/5", "four", 4.5, 4.0, 1e400, None, [4], {"score": 4}])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_whole_number_is_no_grade(name: str, value: Any) -> None:
    found = told(json.dumps(graded() | {name: value}))
    assert (found.status, found.values) == ("bad_schema", {})


@pytest.mark.parametrize("text", NANS)
def test_what_json_has_no_number_for_is_no_grade(text: str) -> None:
    refused(said().replace("4", text, 1), "bad_schema", f"{text} is not a valid number")


@pytest.mark.parametrize("name", NANS)
def test_what_breaks_off_after_no_number_is_no_verdict(name: str) -> None:
    refused('{"evidence": "x", "correctness": ' + name, "bad_json", "broken")


def test_a_number_of_five_thousand_digits_is_no_grade() -> None:
    refused(said().replace("4", "4" * 5000, 1), "bad_json", "broken")


@pytest.mark.parametrize("name", ["evidence", *NAMES, "flags", "cannot_judge"])
def test_a_key_that_is_missing_is_named(name: str) -> None:
    less = {key: value for key, value in graded().items() if key != name}
    refused(json.dumps(less), "bad_schema", f"{name} is missing")


def test_a_key_that_nobody_asked_for_is_named() -> None:
    refused(said(score=4), "bad_schema", "'score' was not requested")


@pytest.mark.parametrize("second", ["5", "4"])
def test_a_key_that_is_there_twice_is_named_even_if_both_say_the_same(second: str) -> None:
    text = said().replace('"completeness"', f'"correctness": {second}, "completeness"')
    refused(text, "bad_schema", "'correctness' occurs twice")


def test_a_key_that_is_twice_in_what_breaks_off_raises_nothing() -> None:
    refused('{"evidence": {"a": 1, "a": 2}, ', "bad_json", "broken")


def test_an_empty_object_is_no_pass() -> None:
    refused("{}", "bad_schema", "is missing")


@pytest.mark.parametrize("wrapped", ['{{"result": {}}}', '{{"grades": [{}]}}'])
def test_an_object_within_another_is_not_what_was_asked_for(wrapped: str) -> None:
    refused(wrapped.format(said()), "bad_schema", "missing")


def test_a_reply_that_was_cut_is_never_filled_up() -> None:
    whole = said()
    assert {told(whole[:end]).status for end in range(len(whole))} == {"bad_json"}
    assert told(whole).status == "ok"


def test_a_thought_before_the_object_is_passed_over_with_all_its_drafts() -> None:
    found = told(f"<think>\nMaybe {said(5)}, or {{x}}?\n</think>\n\n{said(2)}")
    assert found.values == dict.fromkeys(NAMES, 2)


@pytest.mark.parametrize(
    "text", [f"<think>Maybe {said(5)}", f"\n<think>\n{said(5)}\n", f"<think></think><think>{said()}"]
)
def test_a_draft_in_a_thought_without_an_end_is_no_verdict(text: str) -> None:
    refused(text, "bad_json", "without an end")


def test_a_thought_that_an_evidence_quotes_stays_in_it() -> None:
    quoted = "It holds <think>no</think> marks."
    assert told(said(evidence=quoted)).evidence == quoted


@pytest.mark.parametrize(
    "text",
    [
        said().replace("false}", "false,}"),
        said().replace("[]", "[,]"),
        said().replace('"', "'"),
        said().replace('"correctness"', "correctness"),
        said().replace("false", "False"),
        said().replace("4", "+4", 1),
        said().replace("4", "04", 1),
        said().replace("}", "/* sure */}"),
        said(evidence="@").replace("@", "two\nlines"),
    ],
)
def test_what_is_nearly_json_is_not_repaired(text: str) -> None:
    refused(text, "bad_json", "broken")


def test_an_evidence_in_another_language_is_kept_as_it_is() -> None:
    assert told(said(3, evidence="Stimmt nicht: 水は100℃で沸騰する")).evidence == "Stimmt nicht: 水は100℃で沸騰する"


def test_keys_in_another_language_are_no_verdict() -> None:
    refused(said().replace("correctness", "Richtigkeit"), "bad_schema", "correctness is missing")


def test_a_reply_of_200_kilobytes_is_not_looked_through() -> None:
    refused(said() + " " * 200_000, "bad_json", f"{LONGEST:,} characters")


def test_a_long_evidence_is_shortened_and_the_verdict_kept() -> None:
    found = told(said(2, evidence="x" * 40_000))
    assert found.status == "ok" and len(found.evidence) == KEPT


def test_half_a_character_in_an_evidence_can_be_written_down() -> None:
    assert told(said(evidence="a\ud800b")).evidence == "a?b"


@pytest.mark.parametrize("value", [None, 4, ["x"], True])
def test_an_evidence_is_text(value: Any) -> None:
    refused(said(evidence=value), "bad_schema", "evidence is not a text")


@pytest.mark.parametrize("value", ["false", 0, 1, None])
def test_cannot_judge_is_true_or_false(value: Any) -> None:
    refused(said(cannot_judge=value), "bad_schema", "cannot_judge is neither")


@pytest.mark.parametrize("value", [None, "empty", ["lovely"], [1], [["empty"]], {"empty": True}])
def test_flags_are_a_list_of_those_that_there_are(value: Any) -> None:
    refused(said(flags=value), "bad_schema", "flags has an unknown flag")


def test_flags_that_come_again_and_again_count_once() -> None:
    assert told(said(flags=[*FLAGS, *FLAGS, *FLAGS, *FLAGS])).flags == FLAGS


def test_a_judge_that_cannot_judge_gives_no_number() -> None:
    found = told(said(1, cannot_judge=True, evidence="In a language I do not read."))
    assert (found.status, found.values, found.evidence) == ("cannot_judge", {}, "In a language I do not read.")


def test_a_grade_nested_to_any_depth_raises_nothing() -> None:
    found = [told(said().replace("4", "[" * depth + "]" * depth, 1)) for depth in [1, *range(800, 1000), 20_000]]
    assert {one.status for one in found} == {"bad_json", "bad_schema"}  # where it is too deep, and where it is not
    assert not any(one.values for one in found)


@pytest.mark.parametrize("piece", ["{", '{"a":', '{"a":[', '{"', "}", "<think>", '{"a":1}', "```json\n{\n"])
def test_a_reply_made_to_be_slow_is_no_verdict(piece: str) -> None:
    assert told((piece * LONGEST)[:LONGEST]).status in ("bad_json", "bad_schema")


def test_an_object_with_thousands_of_keys_is_no_verdict() -> None:
    refused(json.dumps({f"{n}": 1 for n in range(4500)}), "bad_schema", "missing")


PIECES = st.sampled_from(
    [said(1), said(5), "{", "}", '{"', '"', "\\", "NaN", "<think>", "</think>", "```json\n", "\n```", "4", "5", ",",
     '{"a": 1, "a": 2}', '"correctness": ', "[", "]", "\x00", "\ud800", "null", "{}", '{"a": NaN', said()[:40],
     said()[40:]]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=9), one, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from([*GRADE, "score"]), VALUES, max_size=8).map(
    lambda changed: json.dumps(graded() | changed)
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.text() | st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join) | OBJECTS)
def test_no_text_raises_and_only_grades_on_the_scale_are_a_verdict(text: str) -> None:
    found = told(text)
    assert (found.status == "ok") == (list(found.values) == list(NAMES)) == (not found.why)
    assert all(type(value) is int and 1 <= value <= 5 for value in found.values.values())
    found.evidence.encode()
    found.why.encode()
