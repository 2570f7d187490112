"""The rule judge: sacrebleu's chrF and a plain comparison, between 0 and 1, and nothing where there is no reference."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import corpus_chrf

from backend.core.messages import Message
from backend.judge.rubric import rubrics
from backend.judge.rule_judge import MEASURE, RuleJudge, overlap, same_text
from backend.judge.score import Item, Score

ASKED = [Message(role="user", content="Which planet is the largest?")]
JUDGE = RuleJudge(rubrics()["overlap"])
TEXT = st.text(max_size=60) | st.lists(st.sampled_from(["a", "Jupiter", " ", ".", "\n", "é", "5"]), max_size=20).map(
    "".join
)


def score(answer: str, reference: str | None = "It is Jupiter.", rubric: str = "overlap") -> Score:
    return RuleJudge(rubrics()[rubric]).score(Item(messages=ASKED, reference=reference, answer=answer))


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("It is Jupiter.", "It is Jupiter."),
        ("Jupiter", "It is Jupiter."),
        ("A day has 1640 minutes.", "A day has 1440 minutes."),
        ("x", "It is Jupiter."),
        ("It is Jupiter. " * 5, "It is Jupiter."),
        ("la " * 400, "It is Jupiter."),
        ("水は100℃で沸騰する", "水は百度で沸騰する"),
        ("😀\u200d👧", "😀"),
        ("a", "a"),
        ("=HYPERLINK(\"x\")", "<script>alert(1)</script>"),
    ],
)  # fmt: skip
def test_overlap_is_what_sacrebleu_says_of_a_corpus_of_one(answer: str, reference: str) -> None:
    expected = corpus_chrf([answer], [[reference]]).score / 100
    assert overlap(answer, reference) == pytest.approx(expected, abs=1e-12)
    assert score(answer, reference).values["overlap"] == overlap(answer, reference)


def test_the_measure_is_named_as_the_library_names_it_and_identifies_the_judge() -> None:
    assert MEASURE.startswith("sacrebleu ") and "nc:6" in MEASURE and "nw:0" in MEASURE
    assert JUDGE.identity.model == MEASURE and JUDGE.identity.kind == "rule"
    assert JUDGE.identity.id != RuleJudge(rubrics()["exact"]).identity.id


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("Jupiter", "Jupiter."),
        (" jupiter \n", "Jupiter"),
        ("It  is\n\tJupiter", "it is jupiter."),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("JUPITER .", "Jupiter."),
        ("Straße", "STRASSE"),
        ("xs[-1]", "xs[-1]"),
    ],
)
def test_blanks_capitals_and_a_last_full_stop_make_no_other_text(answer: str, reference: str) -> None:
    assert same_text(answer, reference) and same_text(reference, answer)
    assert score(answer, reference, "exact").values["exact"] == 1


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("Saturn", "Jupiter"),
        ("Jupiter.", "Jupiter..."),
        ("Jupiter!", "Jupiter"),
        ("1640", "1440"),
        ("Jupiter or Saturn", "Jupiter"),
        ("xs[1]", "xs[-1]"),
        ("3.5", "35"),
        ("resume", "r\u00e9sum\u00e9"),
    ],
)
def test_everything_else_makes_another_text(answer: str, reference: str) -> None:
    assert not same_text(answer, reference)
    assert score(answer, reference, "exact").values["exact"] == 0


def test_the_reference_itself_gets_everything_and_one_wrong_number_less() -> None:
    right, wrong = (
        score("A day has 1440 minutes.", "A day has 1440 minutes."),
        score("A day has 1640 minutes.", "A day has 1440 minutes."),
    )
    assert right.values == {"overlap": 1.0, "exact": 1.0}
    assert 0.5 < wrong.values["overlap"] < 1 and wrong.values["exact"] == 0


def test_a_right_answer_at_five_times_the_length_overlaps_less() -> None:
    long = score("It is Jupiter. It has rings, moons and storms, and it was named after the king of the gods. " * 2)
    assert long.values["overlap"] < score("It is Jupiter.").values["overlap"]


@pytest.mark.parametrize("reference", [None, "", "  \n"])
@pytest.mark.parametrize("answer", ["Jupiter.", ""])
def test_without_a_reference_there_is_no_number(answer: str, reference: str | None) -> None:
    found = score(answer, reference)
    assert (found.status, found.values) == ("cannot_judge", {}) and "no reference answer" in found.why


@pytest.mark.parametrize("answer", ["", " \n", "\u200b", "\x00"])
def test_an_empty_answer_gets_the_least_of_everything(answer: str) -> None:
    found = score(answer)
    assert (found.status, found.values, found.flags) == ("ok", {"overlap": 0.0, "exact": 0.0}, ("empty",))


@pytest.mark.parametrize("rubric", ["overlap", "exact"])
def test_the_values_are_those_of_the_rubric_in_its_order(rubric: str) -> None:
    found = score("Jupiter", rubric=rubric)
    assert list(found.values) == [one.name for one in rubrics()[rubric].criteria]
    assert found.by_rule and found.cost == 0 and not found.prompt and found.evidence.startswith("chrF ")


def test_a_score_says_which_key_and_judge_it_belongs_to() -> None:
    asked = Item(messages=ASKED, reference="x", answer="y")
    found = JUDGE.score(asked, repeat=2, round=5)
    assert (found.key, found.judge) == (asked.key(JUDGE.identity.id, 2), JUDGE.identity.id)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(TEXT, TEXT)
def test_any_two_texts_lie_between_nothing_and_everything(answer: str, reference: str) -> None:
    found = score(answer, reference)
    assert (found.status == "cannot_judge") == (not reference.strip())
    assert all(0 <= value <= 1 for value in found.values.values())
    assert (list(found.values) == ["overlap", "exact"]) == (found.status == "ok")
    assert same_text(answer, reference) == same_text(reference, answer)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(TEXT.filter(lambda text: any(letter.isalnum() for letter in text)))
def test_every_text_is_the_same_as_itself(text: str) -> None:
    assert score(text, text).values == {"overlap": pytest.approx(1.0), "exact": 1.0}
