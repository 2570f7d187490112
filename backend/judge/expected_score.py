"""A grade as the mean of what a judge thought possible: 4.6 where it said 5 and was torn between 4 and 5.

The number's token is found by its key, never by looking for the digit: an evidence may quote any digit.
"""

import math
import re
from collections.abc import Sequence

from backend.judge.rubric import Rubric
from backend.remote.response import Token

COVERED = 0.5
"""Of the probability, how much must lie on grades; below it the rest could be anything."""


def expected(tokens: Sequence[Token], rubric: Rubric) -> dict[str, float]:
    """Criterion -> mean over its grades, each weighted by its probability. A criterion that cannot be reckoned is left
    out: no probabilities, a grade split over tokens, or too little of the probability on grades."""
    text = "".join(token.text for token in tokens)
    found = {}
    for one in rubric.criteria:
        grades = range(int(one.low), int(one.high) + 1)
        places = list(re.finditer(rf'(?<!\\)"{re.escape(one.name)}"\s*:\s*(\d+)', text))
        if len(places) != 1:
            continue
        mean = _mean(_token_at(tokens, places[0].start(1)), places[0].group(1), grades)
        if mean is not None:
            found[one.name] = mean
    return found


def _token_at(tokens: Sequence[Token], place: int) -> Token | None:
    start = 0
    for token in tokens:
        start += len(token.text)
        if place < start:
            return token
    return None


def _mean(token: Token | None, digit: str, grades: range) -> float | None:
    if token is None or token.text.strip() != digit:
        return None
    mass: dict[int, float] = {}
    for text, chance in token.others.items():
        if text.strip().isascii() and text.strip().isdigit() and int(text.strip()) in grades:
            grade = int(text.strip())
            mass[grade] = mass.get(grade, 0.0) + math.exp(min(chance, 0.0))
    whole = math.fsum(mass.values())
    if whole < COVERED:
        return None
    return math.fsum(grade * chance for grade, chance in mass.items()) / whole
