"""A grade as a mean over what the judge thought possible: found by its key, and left out wherever that is uncertain."""

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.judge import GRADE

from backend.judge.grader import COVERED, expected_scores
from backend.judge.rubric import rubrics
from backend.remote.response import Token

LAB, BRIEF = rubrics()["lab"], rubrics()["brief"]
NAMES = ("correctness", "completeness", "faithfulness")
TORN = {"4": 0.5, "5": 0.4}


def tokens(pieces: list[str], chances: dict[str, float], at: int) -> list[Token]:
    """The pieces; the one at that place is torn between the chances, all others are certain."""
    logs = {text: math.log(chance) for text, chance in chances.items()}
    return [Token(one, logs if place == at else {one: 0.0}) for place, one in enumerate(pieces)]


def cut(text: str, width: int = 3) -> list[str]:
    """A text as tokens: numbers alone, everything else in pieces."""
    return [
        piece
        for part in re.split(r"(\d)", text)
        for piece in ([part] if part.isdigit() else [part[n : n + width] for n in range(0, len(part), width)])
    ]


def torn(chances: dict[str, float], digit: str = "4", name: str = "correctness", **more: Any) -> dict[str, float]:
    """What is expected where the grade of one criterion is torn."""
    text = json.dumps(GRADE | {name: int(digit)} | more)
    before = cut(text[: text.index(f'"{name}": ') + len(f'"{name}": ')])
    pieces = [*before, digit, *cut(text[len("".join(before)) + len(digit) :])]
    assert "".join(pieces) == text
    return expected_scores(tokens(pieces, chances, len(before)), LAB)


def test_a_grade_that_is_torn_is_the_mean_of_what_was_possible() -> None:
    found = torn(TORN)
    assert found["correctness"] == pytest.approx((4 * 0.5 + 5 * 0.4) / 0.9)
    assert found["completeness"] == found["faithfulness"] == 4


@pytest.mark.parametrize("name", NAMES)
def test_each_criterion_has_its_own_place(name: str) -> None:
    found = torn({"4": 0.5, "2": 0.5}, name=name)
    assert found == {other: 3.0 if other == name else 4.0 for other in NAMES}


@pytest.mark.parametrize("evidence", ["5 of 5, and 5 again.", "4", "The 1 wrong number is 1640."])
def test_digits_of_the_evidence_are_no_grades(evidence: str) -> None:
    assert torn(TORN, evidence=evidence) == torn(TORN)


@pytest.mark.parametrize(
    "quoted", ['"correctness": 5', '{"correctness":1}', '\\"correctness": 5', '"correctness" : 5, ']
)
def test_a_grade_that_the_evidence_quotes_is_not_the_grade(quoted: str) -> None:
    assert torn(TORN, evidence=f"It says {quoted}.") == torn(TORN)


def test_a_grade_in_a_draft_before_the_verdict_makes_that_criterion_uncertain() -> None:
    pieces = cut('<think>"correctness": 5?</think>' + json.dumps(GRADE))
    assert set(expected_scores([Token(one, {one: 0.0}) for one in pieces], LAB)) == {"completeness", "faithfulness"}


def test_a_blank_in_front_of_a_grade_belongs_to_its_token_or_not() -> None:
    pieces = ['{"quality":', " 4", ', "flags": []}']
    found = expected_scores(tokens(pieces, {" 4": 0.5, "4": 0.2, " 3": 0.2, "3": 0.1}, 1), BRIEF)
    assert found == {"quality": pytest.approx((4 * 0.7 + 3 * 0.3) / 1.0)}


def test_a_grade_without_a_blank_before_it_is_found() -> None:
    assert expected_scores(tokens(['{"quality":', "5", "}"], {"5": 0.9}, 1), BRIEF) == {"quality": 5.0}


@pytest.mark.parametrize(
    "pieces",
    [
        ['{"quality": ', "4", "2", "}"],
        ['{"quality": ', "42", "}"],
        ['{"quality"', ": 4", "}"],
        ['{"quality": ', "4}"],
        ['{"quality": 4}'],
        ['{"quality": ', '"4"', "}"],
        ['{"quality": ', "-", "4", "}"],
        ['{"quality": ', "four", "}"],
        ['{"quality": ', "", "}"],
        [],
    ],
)
def test_a_grade_that_is_no_token_of_its_own_is_left_out(pieces: list[str]) -> None:
    assert expected_scores([Token(one, {one: 0.0, "5": -1.0}) for one in pieces], BRIEF) == {}


def test_a_grade_that_is_not_among_the_likely_ones_is_weighed_with_its_own_chance() -> None:
    assert torn({"4": 0.05, "5": 0.9})["correctness"] == pytest.approx((4 * 0.05 + 5 * 0.9) / 0.95)


@pytest.mark.parametrize("other", ["6", "0", "10", "five", "\u0664", "\u00b2", "", "-4", "4.5", "null"])
def test_what_is_no_grade_takes_no_part(other: str) -> None:
    assert torn({"4": 0.6, other: 0.4})["correctness"] == 4


@pytest.mark.parametrize(("chance", "there"), [(COVERED - 0.01, False), (COVERED + 0.01, True), (1e-9, False)])
def test_too_little_of_the_probability_on_grades_is_no_mean(chance: float, there: bool) -> None:
    assert ("correctness" in torn({"4": chance, "nonsense": 1 - chance})) is there


def test_where_nothing_was_told_nothing_is_expected() -> None:
    assert expected_scores((), LAB) == {}
    assert expected_scores([Token(one, {}) for one in cut(json.dumps(GRADE))], LAB) == {}


def test_chances_that_are_no_chances_do_no_harm() -> None:
    pieces = ['{"quality": ', "4", "}"]
    of = {"4": -math.inf, "5": -math.inf}
    assert expected_scores([Token(one, of) for one in pieces], BRIEF) == {}
    assert expected_scores([Token(one, {"4": 700.0, "5": 0.0}) for one in pieces], BRIEF) == {"quality": 4.5}


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["1", " 2", "3", "4", "5", " 5", "6", "x", ""]), st.floats(-50, 0), max_size=9),
    st.integers(1, 5),
    st.text(max_size=30),
)
def test_a_mean_lies_on_the_scale(others: dict[str, float], grade: int, evidence: str) -> None:
    text = json.dumps({"evidence": evidence, "quality": grade})
    place = text.rindex(str(grade))
    made = [Token(text[:place], {}), Token(str(grade), others), Token(text[place + 1 :], {})]
    found = expected_scores(made, BRIEF)
    whole = sum(math.exp(chance) for text, chance in others.items() if text.strip() in list("12345"))
    assert ("quality" in found) == (whole >= COVERED)
    assert all(1 - 1e-9 <= mean <= 5 + 1e-9 for mean in found.values())
