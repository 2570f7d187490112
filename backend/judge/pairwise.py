"""Asks a judge which of two answers is better, in both orders. If the two votes disagree, the result is a tie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from backend.core.messages import Message
from backend.jobs.events import Number
from backend.judge.client import JudgeClient
from backend.judge.grader import ask_with_retry
from backend.judge.prompt import EVIDENCE, blocks
from backend.judge.reply import ParsedReply, parse_object, storable
from backend.judge.rubric import Rubric
from backend.judge.score import Status
from backend.remote.response import ReplyFormat

TOKENS = 400
Position = Literal["A", "B", "tie"]
Better = Literal["first", "second", "tie"]
_SCHEMA = {
    "type": "object",
    "properties": {"evidence": {"type": "string"}, "winner": {"type": "string", "enum": ["A", "B", "tie"]}},
    "required": ["evidence", "winner"],
    "additionalProperties": False,
}
_GRAMMAR = r"""root ::= "{\"evidence\": " text ", \"winner\": " ("\"A\"" | "\"B\"" | "\"tie\"") "}"
text ::= "\"" char{1,300} "\""
char ::= [^"\\\x00-\x1f] | "\\" ["\\/bfnrt]
"""
FORM = ReplyFormat("winner", _SCHEMA, _GRAMMAR)
_SWAPPED: dict[str, Position] = {"A": "B", "B": "A", "tie": "tie"}


class OrderedVote(BaseModel):
    """The vote for one order of the answers. `winner` is the position that the judge named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    why: str = ""
    winner: Position | None = None
    evidence: str = ""
    prompt: list[Message] = []
    reply: str = ""
    cost: Number = 0.0


class PairwiseVote(BaseModel):
    """The votes for both orders. In `forth` the first answer is A, in `back` it is B."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    forth: OrderedVote
    back: OrderedVote

    @property
    def better(self) -> Better | None:
        """The better answer; None if one of the orders has no verdict."""
        if self.forth.winner is None or self.back.winner is None:
            return None
        if self.forth.winner != _SWAPPED[self.back.winner]:
            return "tie"
        return {"A": "first", "B": "second", "tie": "tie"}[self.forth.winner]  # type: ignore[return-value]

    @property
    def disagree(self) -> bool:
        """Whether the judge named the same position in both orders, and so different answers."""
        both = self.forth.winner is not None and self.back.winner is not None
        return both and self.forth.winner != _SWAPPED[self.back.winner or "tie"]

    @property
    def reason(self) -> str:
        """The judge's evidence, or why there is none."""
        if self.better is None:
            return self.forth.why or self.back.why
        if self.disagree:
            return "The judge preferred the other answer when the order was swapped, so it is a tie."
        return self.forth.evidence


@dataclass(frozen=True)
class PairwiseJudge:
    """Compares two answers with a model, by the rules and criteria of a rubric."""

    client: JudgeClient
    rubric: Rubric

    def pick(
        self, messages: Sequence[Message], reference: str | None, first: str, second: str, what: str
    ) -> PairwiseVote:
        """Compare two answers. `what`: the key for the ledger. Raises LabError for an error that stops the run."""
        if first == second:
            same = OrderedVote(status="ok", winner="tie", evidence="Both answers are the same.")
            return PairwiseVote(forth=same, back=same)
        forth = self._vote(messages, reference, first, second, f"{what}.forth")
        if forth.winner is None:  # without a first verdict, the second order is useless
            return PairwiseVote(forth=forth, back=OrderedVote(status=forth.status, why=forth.why))
        return PairwiseVote(forth=forth, back=self._vote(messages, reference, second, first, f"{what}.back"))

    def _vote(self, messages: Sequence[Message], reference: str | None, a: str, b: str, what: str) -> OrderedVote:
        prompt = question(self.rubric, messages, reference, a, b)
        reply, parsed = ask_with_retry(self.client, prompt, FORM, TOKENS, what, _parse)
        winner: Position | None = parsed.flags[0] if parsed.status == "ok" else None  # type: ignore[assignment]
        return OrderedVote(
            status=parsed.status, why=parsed.why, winner=winner, evidence=parsed.evidence, prompt=prompt,
            reply=reply.text[:2000], cost=reply.cost,
        )  # fmt: skip


def question(rubric: Rubric, messages: Sequence[Message], reference: str | None, a: str, b: str) -> list[Message]:
    """The prompt for one order of the answers."""
    criteria = "\n".join(f"- {criterion.name}: {criterion.about}" for criterion in rubric.criteria)
    system = (
        f"{rubric.rules.strip()}\n\nWhat counts:\n{criteria}\n\n"
        "Two answers stand below, A and B. Say which is better, or tie if neither is. Their order means nothing.\n"
        "Reply with one JSON object and nothing else, its keys in this order:\n"
        f'{{"evidence": "at most {EVIDENCE} words, quoting what decides", "winner": "A" or "B" or "tie"}}'
    )
    text, mark = blocks(messages, reference, {"ANSWER A": a, "ANSWER B": b})
    end = f"Compare the answers between the marks that end in {mark}. Reply with the JSON object alone."
    return [Message(role="system", content=system), Message(role="user", content=f"{text}\n\n{end}")]


def fits(text: str) -> bool:
    """Whether a reply has the format FORM."""
    return _parse(text).status == "ok"


def _parse(text: str) -> ParsedReply:
    return parse_object(text, {"evidence", "winner"}, _winner)


def _winner(reply: dict[str, object]) -> ParsedReply:
    """Check a parsed object. The winner is returned as the only flag."""
    winner, evidence = reply["winner"], reply["evidence"]
    if winner not in ("A", "B", "tie") or not isinstance(evidence, str):
        raise ValueError("winner is not A, B or tie, or evidence is not a text")
    return ParsedReply("ok", "", {}, storable(evidence), (str(winner),))
