"""From an answer to its score, by a model that judges: asked once, read strictly, asked once more where that can help.

A failure keeps its name. What is certain without a judge, that an empty answer is worth nothing, costs no call.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backend.core.messages import Message
from backend.judge.client import JudgeClient, JudgeReply
from backend.judge.prompt import form, question
from backend.judge.reply import ParsedReply, parse_reply
from backend.judge.rubric import Rubric
from backend.judge.score import Identity, Item, Score
from backend.remote.response import ReplyFormat, Token

COVERED = 0.5
"""Of the probability, how much must lie on grades; below it the rest could be anything."""
TOKENS = 500
"""The longest reply that is asked for; a reply that was cut is asked for again with twice as many."""
KEPT = 20_000  # characters of a reply that are kept
_UNSEEN = ("Zs", "Zl", "Zp", "Cc", "Cf", "Cs")  # Cn and Co can be seen: an emoji newer than Python's table is Cn


def expected_scores(tokens: Sequence[Token], rubric: Rubric) -> dict[str, float]:
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


@dataclass(frozen=True)
class Grader:
    """A judge with its rubric. `together`: how many answers may be judged at once."""

    asker: JudgeClient
    rubric: Rubric
    identity: Identity
    tokens: int = TOKENS

    @property
    def together(self) -> int:
        return self.asker.together

    def score(self, item: Item, repeat: int = 0, round: int = 0) -> Score:
        """`repeat` tells apart several judgements of one answer, `round` how often it has failed before. LabError where
        going on makes no sense. Safe to call from several threads."""
        key = item.key(self.identity.id, repeat)
        if is_empty(item.answer):
            return worthless(key, self.identity.id, self.rubric)
        messages = question(self.rubric, item)
        told, found = self._asked(messages, f"{key}.{round}")
        return Score(
            key=key,
            judge=self.identity.id,
            status=found.status,
            why=found.why,
            values={name: float(value) for name, value in found.values.items()},
            expected=expected_scores(told.tokens, self.rubric) if found.status == "ok" else {},
            evidence=found.evidence,
            flags=found.flags,
            prompt=messages,
            reply=told.text[:KEPT],
            model=told.model,
            tokens_in=told.tokens_in,
            tokens_out=told.tokens_out,
            cost=told.cost,
            seconds=told.seconds,
            attempts=told.attempts,
        )

    def _asked(self, messages: list[Message], what: str) -> tuple[JudgeReply, ParsedReply]:
        return asked_twice(
            self.asker, messages, form(self.rubric), self.tokens, what, lambda t: parse_reply(t, self.rubric)
        )


def asked_twice(
    asker: JudgeClient,
    messages: Sequence[Message],
    form: ReplyFormat,
    tokens: int,
    what: str,
    reads: Callable[[str], ParsedReply],
) -> tuple[JudgeReply, ParsedReply]:
    """A question, asked again where that can help: a reply that was cut with twice the room, one that cannot be read
    with what was wrong about it. Costs and attempts are of both together. If the second was cancelled, all of it was:
    asked again later, the first is answered from what is kept."""
    told = asker.ask(messages, form, tokens, f"{what}.0")
    found = _read(told, reads)
    if found.status == "judge_truncated":
        again = asker.ask(messages, form, 2 * tokens, f"{what}.1")
    elif found.status in ("bad_json", "bad_schema", "empty_reply"):
        again = asker.ask([*messages, *_complaint(told, found)], form, tokens, f"{what}.1")
    else:
        return told, found
    return _together(told, again), _read(again, reads)


def _read(told: JudgeReply, reads: Callable[[str], ParsedReply]) -> ParsedReply:
    if told.status != "ok":
        return ParsedReply(told.status, told.why)
    found = reads(told.text)
    if found.status in ("bad_json", "bad_schema"):
        return found._replace(why=f"The judge's reply is no verdict: {found.why}.")
    return found._replace(why=found.why and f"{found.why[:1].upper()}{found.why[1:]}.")


def _complaint(told: JudgeReply, found: ParsedReply) -> list[Message]:
    said = [Message(role="assistant", content=told.text[:2000])] if told.text.strip() else []
    return [*said, Message(role="user", content=f"{found.why} Reply with the JSON object that was asked for, alone.")]


def _together(first: JudgeReply, second: JudgeReply) -> JudgeReply:
    return replace(
        second,
        tokens_in=first.tokens_in + second.tokens_in,
        tokens_out=first.tokens_out + second.tokens_out,
        cost=first.cost + second.cost,
        seconds=first.seconds + second.seconds,
        attempts=first.attempts + second.attempts,
    )


def is_empty(text: str) -> bool:
    """Whether there is nothing to be seen in it."""
    return all(unicodedata.category(letter) in _UNSEEN for letter in text)


def worthless(key: str, judge: str, rubric: Rubric) -> Score:
    """What an empty answer gets, without a call."""
    values = {one.name: one.low for one in rubric.criteria}
    return Score(
        key=key,
        judge=judge,
        status="ok",
        values=values,
        evidence="The answer is empty.",
        flags=("empty",),
        by_rule=True,
    )
