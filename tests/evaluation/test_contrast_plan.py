"""Which variant is measured against which, known before anything is judged."""

import itertools
import random

import pytest

from backend.evaluation.contrasts import MANY, ContrastPlan, plan_contrasts
from models.catalogue import catalogue
from models.variant import Variant

KNOWN = {one.id: one for one in catalogue()}
LAB = ("base_1b", "base_3b", "1b_lora", "1b_qlora", "3b_qlora")
PLANNED = (
    ("1b_lora", "base_1b"),
    ("1b_qlora", "base_1b"),
    ("3b_qlora", "base_3b"),
    ("1b_qlora", "1b_lora"),
    ("base_3b", "base_1b"),
)


def of(*names: str, baseline: str = "") -> ContrastPlan:
    return plan_contrasts([KNOWN.get(name) or Variant.model_construct(id=name) for name in names], baseline)


def test_the_labs_five_are_compared_as_planned() -> None:
    found = of(*LAB)
    assert found.contrasts == PLANNED
    assert found.baselines == {"1b_lora": "base_1b", "1b_qlora": "base_1b", "3b_qlora": "base_3b"}
    assert [one for one in KNOWN if one in LAB] == list(LAB)  # in the order of the catalogue


def test_the_toy_is_compared_with_its_base() -> None:
    for names in (("tiny_base", "tiny_lora"), ("tiny_lora", "tiny_base")):
        assert of(*names) == ContrastPlan({"tiny_lora": "tiny_base"}, (("tiny_lora", "tiny_base"),))


def test_the_order_of_variants_turns_some_contrasts_round_and_changes_none() -> None:
    pairs = {frozenset(pair) for pair in PLANNED}
    for names in itertools.permutations(LAB):
        found = of(*names)
        assert {frozenset(pair) for pair in found.contrasts} == pairs and len(found.contrasts) == 5
        assert {pair for pair in PLANNED if "base" in pair[1] and "base" not in pair[0]} <= set(found.contrasts)
        assert found.baselines == of(*LAB).baselines


def test_of_some_the_rest_is_planned() -> None:
    for size in range(1, 5):
        for names in itertools.combinations(LAB, size):
            found = of(*names)
            assert all(set(pair) <= set(names) for pair in found.contrasts)
            assert set(found.baselines.items()) <= set(found.contrasts)
            assert {pair for pair in PLANNED if set(pair) <= set(names)} <= set(found.contrasts)
            assert bool(found.contrasts) == (size > 1)


def test_fine_tunes_without_their_bases_are_still_compared() -> None:
    assert of("1b_lora", "1b_qlora") == ContrastPlan({"1b_qlora": "1b_lora"}, (("1b_qlora", "1b_lora"),))
    assert of("1b_lora", "3b_qlora") == ContrastPlan({"3b_qlora": "1b_lora"}, (("3b_qlora", "1b_lora"),))
    assert of("1b_lora", "base_3b") == ContrastPlan({"base_3b": "1b_lora"}, (("base_3b", "1b_lora"),))


@pytest.mark.parametrize("baseline", LAB)
def test_with_a_baseline_all_are_measured_against_that(baseline: str) -> None:
    found = of(*LAB, baseline=baseline)
    others = [name for name in LAB if name != baseline]
    assert found.baselines == dict.fromkeys(others, baseline)
    assert found.contrasts[:4] == tuple((name, baseline) for name in others)
    siblings = {("1b_qlora", "1b_lora")} if baseline not in ("1b_lora", "1b_qlora") else set()
    assert set(found.contrasts[4:]) == siblings


def test_strangers_are_compared_with_the_first_of_them() -> None:
    assert of("gpt", "claude", "llama") == ContrastPlan({}, (("claude", "gpt"), ("llama", "gpt")))
    assert of("alone") == ContrastPlan({}, ())
    found = of("tiny_base", "tiny_lora", "gpt")
    assert found.contrasts == (("tiny_lora", "tiny_base"), ("gpt", "tiny_base"))
    assert found.baselines == {"tiny_lora": "tiny_base"}


def test_there_are_never_too_many_and_never_one_twice() -> None:
    names = [f"model {n}" for n in range(40)]
    random.Random(1).shuffle(names)
    found = of(*names)
    assert len(found.contrasts) == MANY == len({frozenset(pair) for pair in found.contrasts})
    tunes = [Variant(id=f"t{n}", base="b", method="lora") for n in range(6)]
    found = plan_contrasts([Variant(id="b", base="b"), *tunes])
    assert found.contrasts[:6] == tuple((f"t{n}", "b") for n in range(6))
    assert len(found.contrasts) == MANY == len({frozenset(pair) for pair in found.contrasts})
