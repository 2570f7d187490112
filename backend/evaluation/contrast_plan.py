"""Which variant is measured against which: decided before anything is judged, from what the variants are."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from models.variant import Variant

MANY = 12
"""Contrasts of one plan: more correct each other away."""


class Plan(NamedTuple):
    """`baselines`: a variant -> what it is measured against. `contrasts`: (variant, what it is compared with)."""

    baselines: dict[str, str]
    contrasts: tuple[tuple[str, str], ...]


def plan(variants: Sequence[Variant], baseline: str = "") -> Plan:
    """A fine-tune is measured against its base, and fine-tunes of one base against each other; of several bases, the
    first is what the others are compared with. With a `baseline`, all others are measured against that one."""
    if baseline:
        against = {one.id: baseline for one in variants if one.id != baseline}
        return Plan(against, tuple(dict.fromkeys((*against.items(), *_siblings(variants, baseline)))))
    bases = [one for one in variants if not _tuned(one)]
    against = {one.id: found for one in variants if _tuned(one) and (found := _base_of(one, variants))}
    pairs = [*against.items(), *_siblings(variants, ""), *((one.id, bases[0].id) for one in bases[1:])]
    if not pairs and len(variants) > 1:
        pairs = [(one.id, variants[0].id) for one in variants[1:]]
        against = dict(pairs)
    return Plan(against, tuple(dict.fromkeys(pairs))[:MANY])


def _tuned(one: Variant) -> bool:
    return one.method in ("lora", "qlora")


def _family(one: Variant) -> str:
    return one.base or one.over or one.id


def _base_of(one: Variant, variants: Sequence[Variant]) -> str:
    """Its base among them; without one, the first of its family, unless it is that itself."""
    family = [other for other in variants if _family(other) == _family(one)]
    first = next((other for other in family if not _tuned(other)), family[0])
    return "" if first == one else first.id


def _siblings(variants: Sequence[Variant], but: str) -> list[tuple[str, str]]:
    """Fine-tunes of one base, each with each."""
    tuned = [one for one in variants if _tuned(one) and one.id != but]
    return [(b.id, a.id) for a, b in combinations(tuned, 2) if _family(a) == _family(b)]
