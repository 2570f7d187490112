"""A form says what its class says, and reads back what it drew."""

from typing import Any

import gradio as gr
import pytest
from pydantic import ValidationError

from app import forms
from backend.core.errors import LabError
from backend.evaluation.request import JudgeOptions
from backend.inference.sampling import Sampling

FIELDS = Sampling.model_fields
DEFAULTS = Sampling().model_dump()


def control(name: str) -> Any:
    return forms.draw(Sampling)[name]


def changed(**values: Any) -> dict[str, Any]:
    return DEFAULTS | values


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_drawn_with_its_title_sentence_and_default(name: str) -> None:
    drawn, field = control(name), FIELDS[name]
    assert (drawn.label, drawn.info, drawn.value) == (field.title, field.description, field.default)
    assert drawn.label and drawn.info


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("temperature", 0, 2),
        ("top_k", 1, 1000),
        ("top_p", 0.01, 1),
        ("min_p", 0, 1),
        ("repeat_penalty", 1, 2),
        ("seed", -1, 2**31 - 1),
        ("max_tokens", 1, 8192),
    ],
)
def test_a_number_is_drawn_with_its_bounds(name: str, low: float, high: float) -> None:
    assert (control(name).minimum, control(name).maximum) == (low, high)


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.annotation is not str])
@pytest.mark.parametrize("end", ["minimum", "maximum"])
def test_the_ends_of_a_control_are_values_that_are_taken(name: str, end: str) -> None:
    value = getattr(control(name), end)
    assert getattr(forms.parse(Sampling, changed(**{name: value})), name) == value


@pytest.mark.parametrize("name", ["top_k", "seed", "max_tokens"])
def test_a_whole_number_has_no_fractions_to_choose(name: str) -> None:
    drawn = control(name)
    assert drawn.precision == 0 if isinstance(drawn, gr.Number) else drawn.step == 1


def test_a_suffix_keeps_labels_apart() -> None:
    one, other = forms.draw(Sampling), forms.draw(Sampling, " (all)", prefix="all_")
    assert not {drawn.label for drawn in one.values()} & {drawn.label for drawn in other.values()}
    assert not set(one) & set(other)


def test_what_was_drawn_reads_back_as_the_defaults() -> None:
    assert forms.parse(Sampling, {name: drawn.value for name, drawn in forms.draw(Sampling).items()}) == Sampling()
    prefixed = {name: drawn.value for name, drawn in forms.draw(Sampling, prefix="all_").items()}
    assert forms.parse(Sampling, prefixed | {"other": 1}, "all_") == Sampling()


@pytest.mark.parametrize("name", FIELDS)
def test_a_number_that_was_emptied_is_refused_by_its_name_and_a_text_is_empty(name: str) -> None:
    """It never silently becomes the default of the class."""
    if FIELDS[name].annotation is str:
        assert getattr(forms.parse(Sampling, changed(**{name: None})), name) == ""
    else:
        with pytest.raises(LabError, match=f"^{FIELDS[name].title} is empty. Fill it in.$"):
            forms.parse(Sampling, changed(**{name: None}))


def test_the_spending_limit_that_was_emptied_is_refused() -> None:
    with pytest.raises(LabError, match="^Limit of this run.* is empty. Fill it in.$"):
        forms.parse(JudgeOptions, forms.values_of(JudgeOptions()) | {"cap_run": None})


@pytest.mark.parametrize("value", [None, 0, 10_001, 2.5])
def test_a_number_of_no_class_is_refused_by_its_name_too(value: float | None) -> None:
    with pytest.raises(LabError, match="^Maximum rows (is empty|must be a whole number from 1 to 10,000; it is)"):
        forms.number(value, "Maximum rows", 1, 10_000)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("temperature", 9, "Temperature must be a number from 0 to 2; it is '9'."),
        ("temperature", -1, "Temperature must be a number from 0 to 2; it is '-1'."),
        ("temperature", float("nan"), "Temperature must be a number from 0 to 2; it is 'nan'."),
        ("temperature", float("inf"), "Temperature must be a number from 0 to 2; it is 'inf'."),
        ("top_p", 0, "Top-p must be a number above 0 and at most 1; it is '0'."),
        ("top_k", 2.5, "Top-k must be a whole number from 1 to 1,000; it is '2.5'."),
        ("top_k", "many", "Top-k must be a whole number from 1 to 1,000; it is 'many'."),
        ("max_tokens", 10**30, "Max tokens must be a whole number from 1 to 8,192; it is"),
        ("seed", 2**31, "Seed must be a whole number from -1 to 2,147,483,647; it is '2147483648'."),
        ("seed", [1], "Seed must be a whole number from -1 to 2,147,483,647; it is '[1]'."),
        ("grammar", "x" * 50_001, "Grammar cannot be 'xxxxx"),
        ("grammar", "\ud800", "Grammar cannot be"),
        ("grammar", {"a": 1}, "Grammar cannot be"),
    ],
)
def test_a_bad_value_is_named_in_a_sentence(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(LabError) as refused:
        forms.parse(Sampling, changed(**{name: value}))
    assert str(refused.value).startswith(sentence)
    assert len(str(refused.value).encode()) < 300 and not isinstance(refused.value, ValidationError)


def test_the_first_of_several_bad_values_is_named() -> None:
    with pytest.raises(LabError, match="^Temperature"):
        forms.parse(Sampling, changed(temperature=9, seed=-2))
