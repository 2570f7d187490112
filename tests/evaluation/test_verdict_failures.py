"""A failure is no number: it is in no mean, and it can withhold a verdict."""

import dataclasses

import pytest
from support.tables import noisy, table

from backend.evaluation.contrasts import ScoreCell
from backend.evaluation.verdict import verdict
from backend.judge.score import Status


def test_a_variant_that_failed_throughout_is_not_worse() -> None:
    found = verdict(table({"a": [4.0, 5.0] * 10, "b": ["api_error"] * 20}))
    one, b = found.contrasts[0], found.variants[1]
    assert (one.decided, one.difference.n, one.failures, one.bounds) == (
        "too few rows",
        0,
        (20, 0),
        (-3.5, 0.5),
    )
    assert (b.failures, b.primary.n, b.primary.mean, b.ceiling.share) == ({"api_error": 20}, 0, None, None)
    assert found.sentence == (
        "Not decided: b and a (0 rows with both scores, 5 are needed; failures: 20 of b, 0 of a)."
    )
    assert found.rows == found.complete == 20


def points(n: int) -> list[float]:
    return [2.0, 3.0, 4.0, 2.0] * (n // 4)


@pytest.mark.parametrize(
    ("ours", "theirs", "decided"),
    [
        (set(), set(), "better"),
        ({0}, {1}, "better"),
        ({0}, set(), "better"),
        ({0, 1, 2, 3, 4, 5}, set(), "failures differ"),
        ({0, 1, 2}, {5, 6, 7}, "failures differ"),
    ],
)
def test_failures_can_withhold_the_word_better(ours: set[int], theirs: set[int], decided: str) -> None:
    base = points(20)
    better: list[float | Status | None] = [value + (0.5 if n % 3 else 0.25) for n, value in enumerate(base)]
    worse: list[float | Status | None] = list(base)
    for n in ours:
        better[n] = "bad_json"
    for n in theirs:
        worse[n] = "refused"
    found = verdict(table({"base": worse, "tuned": better}))
    one = found.contrasts[0]
    assert one.decided == decided
    assert one.difference.n == 20 - len(set(ours) | set(theirs))
    assert (one.bounds is None) == (not ours and not theirs)
    if decided == "failures differ":
        assert one.bounds is not None and one.bounds[0] <= 0 <= one.bounds[1] and one.rows_needed is None
        assert found.variants[1].status == "not decided: failures"
        assert found.sentence.startswith("Not decided: tuned and base (failures: ")


def test_bounds_put_failures_at_the_ends_of_the_scale() -> None:
    found = verdict(table({"a": [3.0, 3.0, "refused", "refused", 2.0], "b": [4.0, "timed_out", 5.0, "refused", 2.0]}))
    assert found.contrasts[0].bounds == (pytest.approx((1 - 2 + 0 - 4 + 0) / 5), pytest.approx((1 + 2 + 4 + 4 + 0) / 5))


def test_a_failure_is_never_a_zero() -> None:
    plain, failed = [4.0, 3.0, 5.0] * 6, [*[4.0, 3.0, 5.0] * 6, "bad_json", "judge_truncated"]
    found = verdict(table({"a": failed}))
    assert found.variants[0].primary == verdict(table({"a": plain})).variants[0].primary
    assert found.variants[0].failures == {"bad_json": 1, "judge_truncated": 1}


@pytest.mark.parametrize("damage", [float("nan"), float("inf"), 0.0, 87.0, -1.0])
def test_a_value_that_is_not_on_the_scale_is_a_failure(damage: float) -> None:
    of = noisy()
    bad = ScoreCell("ok", {**of.cells["row 4", "lora"].values, "completeness": damage})
    found = verdict(dataclasses.replace(of, cells={**of.cells, ("row 4", "lora"): bad}))
    assert found.variants[1].failures == {"bad_schema": 1}
    missing = ScoreCell("ok", {"correctness": 3.0})
    assert verdict(dataclasses.replace(of, cells={**of.cells, ("row 4", "lora"): missing})).variants == found.variants


def test_rows_that_were_not_reached_or_cancelled_are_no_failures() -> None:
    found = verdict(table({"a": [3.0, 4.0, 2.0] * 6, "b": [*([4.0, 4.0, 3.0] * 5), None, "cancelled", None]}))
    one = found.contrasts[0]
    assert (one.difference.n, one.reached, one.failures, one.bounds) == (15, 15, (0, 0), None)
    assert (found.rows, found.complete) == (18, 15)
    assert found.variants[1].failures == {}
    assert any(note.startswith("Not all were judged on the same rows (a on 18, b on 15)") for note in found.notes)


def test_one_failure_more_is_weighed_even_where_failures_are_few() -> None:
    base: list[float | Status | None] = [2.0, 3.0] * 20
    tuned: list[float | Status | None] = [2.05, 3.03] * 20
    assert verdict(table({"base": base, "tuned": tuned})).contrasts[0].decided == "better"
    uneven = verdict(table({"base": base, "tuned": [*tuned[:-1], "bad_json"]})).contrasts[0]
    assert (uneven.decided, uneven.failures) == ("failures differ", (1, 0))
    even = verdict(table({"base": ["bad_json", *base[1:]], "tuned": [*tuned[:-1], "bad_json"]})).contrasts[0]
    assert (even.decided, even.failures) == ("better", (1, 1))
    assert even.bounds is not None and even.bounds[0] < 0 < even.bounds[1]


def test_worse_survives_failures_that_could_not_turn_it() -> None:
    high: list[float | Status | None] = [5.0, 4.0] * 10
    found = verdict(table({"base": high, "tuned": ["refused", "refused", *([1.0, 2.0, 1.0] * 6)]}))
    one = found.contrasts[0]
    assert (one.decided, one.failures) == ("worse", (2, 0))
    assert one.bounds is not None and one.bounds[1] < 0
    assert found.sentence.startswith("tuned is worse than base by ")


def test_where_every_judgement_failed_the_sentence_says_so() -> None:
    found = verdict(table({"base": ["refused", "bad_json"], "lora": ["bad_json", "refused"]}))
    assert found.sentence == "No answer has a score: every judgement failed."
