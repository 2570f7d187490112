"""A form says what its class says, and reads back what it drew."""

from typing import Any

import gradio as gr
import pytest
from pydantic import ValidationError

from app import forms
from backend.core.errors import LabError
from backend.inference.sampling import Sampling

FIELDS = Sampling.model_fields
DEFAULTS = list(Sampling().model_dump().values())


def control(name: str) -> Any:
    return dict(zip(FIELDS, forms.draw(Sampling), strict=True))[name]


def changed(**values: Any) -> list[Any]:
    return [values.get(name, default) for name, default in zip(FIELDS, DEFAULTS, strict=True)]


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
    one, other = forms.draw(Sampling), forms.draw(Sampling, " (all)")
    assert not {drawn.label for drawn in one} & {drawn.label for drawn in other}


def test_what_was_drawn_reads_back_as_the_defaults() -> None:
    assert forms.parse(Sampling, [drawn.value for drawn in forms.draw(Sampling)]) == Sampling()


def test_a_cleared_control_means_the_default() -> None:
    assert forms.parse(Sampling, [None] * len(FIELDS)) == Sampling()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("temperature", 9, "Temperature cannot be '9': input should be less than or equal to 2."),
        ("temperature", -1, "Temperature cannot be '-1': input should be greater than or equal to 0."),
        ("temperature", float("nan"), "Temperature cannot be 'nan'"),
        ("temperature", float("inf"), "Temperature cannot be 'inf'"),
        ("top_p", 0, "Top-p cannot be '0'"),
        ("top_k", 2.5, "Top-k cannot be '2.5'"),
        ("top_k", "many", "Top-k cannot be 'many'"),
        ("max_tokens", 10**30, "Max tokens cannot be"),
        ("seed", 2**31, "Seed cannot be '2147483648'"),
        ("seed", [1], "Seed cannot be '[1]'"),
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
