"""The rule judge: measures how similar an answer is to the reference, without a model. It does not measure truth."""

import unicodedata
from dataclasses import dataclass

from sacrebleu.metrics.chrf import CHRF

from backend.judge.grader import is_empty, lowest_score
from backend.judge.rubric import Rubric
from backend.judge.score import Identity, Item, Score

_CHRF = CHRF()
_CHRF.sentence_score("", [""])  # the signature is not complete before the first score
MEASURE = f"sacrebleu {_CHRF.get_signature()}"
"""The measure and its settings, in sacrebleu's notation."""


@dataclass(frozen=True)
class RuleJudge:
    """Scores answers by a rubric whose criteria are among `overlap` and `exact`."""

    rubric: Rubric
    together: int = 1

    @property
    def identity(self) -> Identity:
        return Identity(kind="rule", model=MEASURE, rubric=self.rubric.hash)

    def score(self, item: Item, repeat: int = 0, round: int = 0) -> Score:
        """Score an answer, with values from 0 to 1. Without a reference, the status is "cannot_judge"."""
        judge = self.identity.id
        key = item.key(judge, repeat)
        if not (item.reference or "").strip():
            why = "There is no reference answer, and the rule judge compares answers with the reference."
            return Score(key=key, judge=judge, status="cannot_judge", why=why)
        if is_empty(item.answer):
            return lowest_score(key, judge, self.rubric)
        reference = item.reference or ""
        measures = {"overlap": overlap(item.answer, reference), "exact": float(same_text(item.answer, reference))}
        equal = "the same_text text" if measures["exact"] else "not the same_text text"
        evidence = f"chrF {100 * measures['overlap']:.0f} of 100; {equal}."
        values = {criterion.name: measures[criterion.name] for criterion in self.rubric.criteria}
        return Score(key=key, judge=judge, status="ok", values=values, evidence=evidence, by_rule=True)


def overlap(answer: str, reference: str) -> float:
    """chrF, from 0 to 1."""
    return min(1.0, max(0.0, float(_CHRF.sentence_score(answer, [reference]).score) / 100))


def same_text(answer: str, reference: str) -> bool:
    """Whether two texts are equal except for white space, upper case and a final full stop."""
    return _normalised(answer) == _normalised(reference)


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split()).removesuffix(".").rstrip()
