"""The rule judge: it needs no model, no key and no network, and it measures likeness to the reference, not truth."""

import unicodedata
from dataclasses import dataclass

from sacrebleu.metrics.chrf import CHRF

from backend.judge.grader import is_empty, worthless
from backend.judge.rubric import Rubric
from backend.judge.score import Identity, Item, Score

_CHRF = CHRF()
_CHRF.sentence_score("", [""])  # before it has measured anything it cannot say how it does
MEASURE = f"sacrebleu {_CHRF.get_signature()}"
"""What is measured and how, as the library itself writes it."""


@dataclass(frozen=True)
class RuleJudge:
    """A judge under a rubric whose criteria are `overlap` and `exact`."""

    rubric: Rubric
    together: int = 1

    @property
    def identity(self) -> Identity:
        return Identity(kind="rule", model=MEASURE, rubric=self.rubric.hash)

    def score(self, item: Item, repeat: int = 0, round: int = 0) -> Score:
        """Values of 0 to 1. Without a reference there is nothing to compare with, which is a failure and no zero."""
        judge = self.identity.id
        key = item.key(judge, repeat)
        if not (item.reference or "").strip():
            why = "There is no reference answer, and a rule can only compare with one."
            return Score(key=key, judge=judge, status="cannot_judge", why=why)
        if is_empty(item.answer):
            return worthless(key, judge, self.rubric)
        reference = item.reference or ""
        found = {"overlap": overlap(item.answer, reference), "exact": float(same(item.answer, reference))}
        told = (
            f"chrF {100 * found['overlap']:.0f} of 100; {'the same text' if found['exact'] else 'not the same text'}."
        )
        values = {one.name: found[one.name] for one in self.rubric.criteria}
        return Score(key=key, judge=judge, status="ok", values=values, evidence=told, by_rule=True)


def overlap(answer: str, reference: str) -> float:
    """chrF between 0 and 1."""
    return min(1.0, max(0.0, float(_CHRF.sentence_score(answer, [reference]).score) / 100))


def same(answer: str, reference: str) -> bool:
    """The same text but for blanks, capitals and a last full stop."""
    return _bare(answer) == _bare(reference)


def _bare(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split()).removesuffix(".").rstrip()
