"""What a training is asked: the lab's settings to the letter, and settings that make no sense refused in words."""

from typing import Any

import pytest

from app import forms
from backend.core.errors import LabError
from backend.data.dataset import DatasetSpec
from backend.training.presets import changes, presets
from backend.training.request import LINEARS, TrainSettings

LAB = {
    "template": "alpaca",
    "max_length": 2048,
    "batch": 1,
    "accumulation": 4,
    "steps": 120,
    "learning_rate": 2e-4,
    "schedule": "linear",
    "warmup_steps": 5,
    "weight_decay": 0.01,
    "optimizer": "adamw_8bit",
    "rank": 16,
    "alpha": 16,
    "dropout": 0.0,
    "targets": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "seed": 3407,
    "save_every": 20,
    "evaluate_every": 0,
}
ROWS = {"source": "mlabonne/FineTome-100k", "first": 0, "rows": 1000, "held_first": 1000, "held_rows": 20}


@pytest.mark.parametrize(
    ("name", "base", "method"),
    [
        ("1b_lora", "unsloth/Llama-3.2-1B-Instruct", "lora"),
        ("1b_qlora", "unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "qlora"),
        ("3b_qlora", "unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "qlora"),
    ],
)
def test_the_labs_experiments_are_as_the_lab_ran_them(name: str, base: str, method: str) -> None:
    spec = presets()[name].spec
    assert (spec.base, spec.method) == (base, method)
    assert {setting: getattr(spec, setting) for setting in LAB} == LAB
    assert {setting: getattr(spec.data, setting) for setting in ROWS} == ROWS


@pytest.mark.parametrize("name", ["careful_1b_lora", "careful_1b_qlora", "careful_3b_qlora"])
def test_a_careful_form_follows_what_the_lab_concluded(name: str) -> None:
    spec, lab = presets()[name].spec, presets()[name.removeprefix("careful_")].spec
    assert (spec.template, spec.learn, spec.steps) == ("own", "answers", 500)
    assert spec.learning_rate < lab.learning_rate
    assert spec.evaluate_every and spec.keep_best
    assert (spec.base, spec.data, spec.rank) == (lab.base, lab.data, lab.rank)


def test_the_careful_rate_of_1b_is_the_labs_advice() -> None:
    assert presets()["careful_1b_lora"].spec.learning_rate == 5e-5


@pytest.mark.parametrize("name", presets())
def test_the_form_reads_back_every_preset_it_can_be_filled_with(name: str) -> None:
    spec = presets()[name].spec
    values = forms.values_of(spec.data, "data_") | forms.values_of(spec)
    assert forms.parse(TrainSettings, values, data=forms.parse(DatasetSpec, values, "data_")) == spec


def test_what_differs_from_a_preset_is_told_with_both_values() -> None:
    lab = presets()["1b_lora"].spec
    data = lab.data.model_copy(update={"rows": 500})
    assert changes(lab.model_copy(update={"rank": 32, "data": data}), lab) == [
        ("Rank", 32, 16),
        ("Rows to train on", 500, 1000),
    ]
    assert changes(lab, lab) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep_best": True, "evaluate_every": 0}, "need evaluations"),
        ({"patience": 3, "keep_best": False}, "Patience needs"),
        ({"keep_best": True, "save_every": 40, "evaluate_every": 20}, "must equal “Evaluate every”"),
        ({"base": "unsloth/Llama-3.2-1B-Instruct-bnb-4bit"}, "choose the method qlora"),
        ({"template": "vicuna"}, "Chat template cannot be 'vicuna'"),
        ({"rank": 0}, "Rank must be a whole number from 1 to"),
        ({"learning_rate": 0.0}, "Learning rate must be a number above 0 and at most"),
        ({"name": "../x"}, "Name cannot be '../x'"),
        ({"name": ""}, "Name cannot be ''"),
        ({"method": "dora"}, "Method cannot be 'dora'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(settings: dict[str, Any], said: str) -> None:
    spec = presets()["tiny_lora"].spec
    with pytest.raises(LabError, match=said):
        forms.parse(TrainSettings, forms.values_of(spec) | settings, data=spec.data)


def test_evaluations_need_rows_held_out() -> None:
    spec = presets()["tiny_lora"].spec
    with pytest.raises(ValueError, match="need an eval split"):
        TrainSettings.model_validate(spec.model_dump() | {"data": spec.data.model_dump() | {"held_rows": 0}})


def test_all_projections_are_seven_and_attention_has_four() -> None:
    spec = presets()["tiny_lora"].spec
    assert spec.targets == LINEARS
    assert spec.model_copy(update={"projections": "attention"}).targets == LINEARS[:4]
