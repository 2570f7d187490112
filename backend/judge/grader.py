"""Scores an answer with a model that judges. A reply that cannot be parsed is requested once more.

A failure is a score with a status and a reason. An empty answer gets the lowest values without a call.
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
"""The least probability that the grades must have together; below it, no expected score is computed."""
TOKENS = 500
"""The longest reply. A reply that was cut off is requested again with twice as many tokens."""
KEPT = 20_000  # characters of a reply that are stored
_UNSEEN = ("Zs", "Zl", "Zp", "Cc", "Cf", "Cs")  # without Cn and Co, which can be visible: a new emoji is Cn


def expected_scores(tokens: Sequence[Token], rubric: Rubric) -> dict[str, float]:
    """Criterion -> the mean of its grades, weighted by their probabilities in the judge's reply.

    A criterion is left out if its mean cannot be computed: there are no probabilities, the grade is split over several
    tokens, or the grades have less than COVERED of the probability.
    """
    text = "".join(token.text for token in tokens)
    expected = {}
    for criterion in rubric.criteria:
        grades = range(int(criterion.low), int(criterion.high) + 1)
        matches = list(re.finditer(rf'(?<!\\)"{re.escape(criterion.name)}"\s*:\s*(\d+)', text))
        if len(matches) != 1:
            continue
        mean = _mean_grade(_token_at(tokens, matches[0].start(1)), matches[0].group(1), grades)
        if mean is not None:
            expected[criterion.name] = mean
    return expected


def _token_at(tokens: Sequence[Token], offset: int) -> Token | None:
    """The token with the character at `offset` of the joined text."""
    end = 0
    for token in tokens:
        end += len(token.text)
        if offset < end:
            return token
    return None


def _mean_grade(token: Token | None, digit: str, grades: range) -> float | None:
    """The mean grade over the alternatives of a token that is exactly `digit`; None if it cannot be computed."""
    if token is None or token.text.strip() != digit:
        return None
    probabilities: dict[int, float] = {}
    for text, logprob in token.others.items():
        if text.strip().isascii() and text.strip().isdigit() and int(text.strip()) in grades:
            grade = int(text.strip())
            probabilities[grade] = probabilities.get(grade, 0.0) + math.exp(min(logprob, 0.0))
    covered = math.fsum(probabilities.values())
    if covered < COVERED:
        return None
    return math.fsum(grade * probability for grade, probability in probabilities.items()) / covered


@dataclass(frozen=True)
class Grader:
    """A model that scores answers by a rubric. `tokens`: the longest reply."""

    client: JudgeClient
    rubric: Rubric
    identity: Identity
    tokens: int = TOKENS

    @property
    def together(self) -> int:
        """The number of answers that may be scored concurrently."""
        return self.client.together

    def score(self, item: Item, repeat: int = 0, round: int = 0) -> Score:
        """Score an answer. Safe to call from several threads.

        `repeat`: the number of the judgement, if an answer is judged several times. `round`: how often the judgement
        has failed before. Raises LabError for an error that stops the whole run.
        """
        key = item.key(self.identity.id, repeat)
        if is_empty(item.answer):
            return lowest_score(key, self.identity.id, self.rubric)
        messages = question(self.rubric, item)
        reply, parsed = ask_with_retry(
            self.client,
            messages,
            form(self.rubric),
            self.tokens,
            f"{key}.{round}",
            lambda text: parse_reply(text, self.rubric),
        )
        return Score(
            key=key,
            judge=self.identity.id,
            status=parsed.status,
            why=parsed.why,
            values={name: float(value) for name, value in parsed.values.items()},
            expected=expected_scores(reply.tokens, self.rubric) if parsed.status == "ok" else {},
            evidence=parsed.evidence,
            flags=parsed.flags,
            prompt=messages,
            reply=reply.text[:KEPT],
            model=reply.model,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost=reply.cost,
            seconds=reply.seconds,
            attempts=reply.attempts,
        )


def ask_with_retry(
    client: JudgeClient,
    messages: Sequence[Message],
    form: ReplyFormat,
    tokens: int,
    what: str,
    parse: Callable[[str], ParsedReply],
) -> tuple[JudgeReply, ParsedReply]:
    """Ask a question, and ask it once more if the reply was cut off or cannot be parsed.

    After a cut reply, the limit is doubled. After a reply that cannot be parsed, the error is added to the messages.
    Costs and attempts of both are summed. If the second is cancelled, the result is "cancelled"; a later attempt gets
    the first reply from the saved replies.
    """
    reply = client.ask(messages, form, tokens, f"{what}.0")
    parsed = _parse(reply, parse)
    if parsed.status == "judge_truncated":
        again = client.ask(messages, form, 2 * tokens, f"{what}.1")
    elif parsed.status in ("bad_json", "bad_schema", "empty_reply"):
        again = client.ask([*messages, *_correction(reply, parsed)], form, tokens, f"{what}.1")
    else:
        return reply, parsed
    return _with_costs_of(reply, again), _parse(again, parse)


def _parse(reply: JudgeReply, parse: Callable[[str], ParsedReply]) -> ParsedReply:
    """Parse a reply, and make a whole sentence of the reason for a failure."""
    if reply.status != "ok":
        return ParsedReply(reply.status, reply.why)
    parsed = parse(reply.text)
    if parsed.status in ("bad_json", "bad_schema"):
        return parsed._replace(why=f"The judge's reply has no valid verdict: {parsed.why}.")
    return parsed._replace(why=parsed.why and f"{parsed.why[:1].upper()}{parsed.why[1:]}.")


def _correction(reply: JudgeReply, parsed: ParsedReply) -> list[Message]:
    """The messages that follow a reply that cannot be parsed: the reply itself, and what is wrong with it."""
    previous = [Message(role="assistant", content=reply.text[:2000])] if reply.text.strip() else []
    request = f"{parsed.why} Reply with the JSON object that was asked for, alone."
    return [*previous, Message(role="user", content=request)]


def _with_costs_of(first: JudgeReply, second: JudgeReply) -> JudgeReply:
    """The second reply, with the tokens, cost, seconds and attempts of both."""
    return replace(
        second,
        tokens_in=first.tokens_in + second.tokens_in,
        tokens_out=first.tokens_out + second.tokens_out,
        cost=first.cost + second.cost,
        seconds=first.seconds + second.seconds,
        attempts=first.attempts + second.attempts,
    )


def is_empty(text: str) -> bool:
    """Whether a text has no visible character."""
    return all(unicodedata.category(letter) in _UNSEEN for letter in text)


def lowest_score(key: str, judge: str, rubric: Rubric) -> Score:
    """The score of an empty answer: the lowest value of each criterion, without a call."""
    values = {criterion.name: criterion.low for criterion in rubric.criteria}
    return Score(
        key=key,
        judge=judge,
        status="ok",
        values=values,
        evidence="The answer is empty.",
        flags=("empty",),
        by_rule=True,
    )
