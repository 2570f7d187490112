"""Which of two answers is better: asked in both orders, because judges favour a place. Disagreement is a tie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from backend.core.messages import Message
from backend.jobs.events import Number
from backend.judge.client import JudgeClient
from backend.judge.grader import asked_twice
from backend.judge.prompt import EVIDENCE, blocks
from backend.judge.reply import ParsedReply, kept, parse_object
from backend.judge.rubric import Rubric
from backend.judge.score import Status
from backend.remote.response import ReplyFormat

TOKENS = 400
Place = Literal["A", "B", "tie"]
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
_SWAPPED: dict[str, Place] = {"A": "B", "B": "A", "tie": "tie"}


class OrderedVote(BaseModel):
    """One order. `winner` is the place that was named, whoever stood there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    why: str = ""
    winner: Place | None = None
    evidence: str = ""
    prompt: list[Message] = []
    reply: str = ""
    cost: Number = 0.0


class PairwiseVote(BaseModel):
    """Both orders: the first answer as A, then as B. `better` is None where either order brought no verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    forth: OrderedVote
    back: OrderedVote

    @property
    def better(self) -> Better | None:
        if self.forth.winner is None or self.back.winner is None:
            return None
        if self.forth.winner != _SWAPPED[self.back.winner]:
            return "tie"
        return {"A": "first", "B": "second", "tie": "tie"}[self.forth.winner]  # type: ignore[return-value]

    @property
    def disagree(self) -> bool:
        """Whether the judge named a place and not an answer."""
        both = self.forth.winner is not None and self.back.winner is not None
        return both and self.forth.winner != _SWAPPED[self.back.winner or "tie"]

    @property
    def reason(self) -> str:
        if self.better is None:
            return self.forth.why or self.back.why
        if self.disagree:
            return "The judge preferred another answer when their order was turned round, so it is a tie."
        return self.forth.evidence


@dataclass(frozen=True)
class PairwiseJudge:
    """A judge that picks. The rules are those of the rubric; its criteria are what better means."""

    asker: JudgeClient
    rubric: Rubric

    def pick(
        self, messages: Sequence[Message], reference: str | None, first: str, second: str, what: str
    ) -> PairwiseVote:
        """`what`: for the ledger. LabError where going on makes no sense."""
        if first == second:
            same = OrderedVote(status="ok", winner="tie", evidence="Both answers are the same.")
            return PairwiseVote(forth=same, back=same)
        forth = self._asked(messages, reference, first, second, f"{what}.forth")
        if forth.winner is None:  # no second order could make a verdict of it
            return PairwiseVote(forth=forth, back=OrderedVote(status=forth.status, why=forth.why))
        return PairwiseVote(forth=forth, back=self._asked(messages, reference, second, first, f"{what}.back"))

    def _asked(self, messages: Sequence[Message], reference: str | None, a: str, b: str, what: str) -> OrderedVote:
        prompt = question(self.rubric, messages, reference, a, b)
        told, found = asked_twice(self.asker, prompt, FORM, TOKENS, what, _read)
        winner: Place | None = found.flags[0] if found.status == "ok" else None  # type: ignore[assignment]
        return OrderedVote(
            status=found.status, why=found.why, winner=winner, evidence=found.evidence, prompt=prompt,
            reply=told.text[:2000], cost=told.cost,
        )  # fmt: skip


def question(rubric: Rubric, messages: Sequence[Message], reference: str | None, a: str, b: str) -> list[Message]:
    """The whole prompt for one order."""
    criteria = "\n".join(f"- {one.name}: {one.about}" for one in rubric.criteria)
    system = (
        f"{rubric.rules.strip()}\n\nWhat counts:\n{criteria}\n\n"
        "Two answers stand below, A and B. Say which is better, or tie if neither is. Their order means nothing.\n"
        "Reply with one JSON object and nothing else, its keys in this order:\n"
        f'{{"evidence": "at most {EVIDENCE} words, quoting what decides", "winner": "A" or "B" or "tie"}}'
    )
    told, mark = blocks(messages, reference, {"ANSWER A": a, "ANSWER B": b})
    end = f"Compare the answers between the marks that end in {mark}. Reply with the JSON object alone."
    return [Message(role="system", content=system), Message(role="user", content=f"{told}\n\n{end}")]


def fits(text: str) -> bool:
    """Whether a reply has the form that was asked for."""
    return _read(text).status == "ok"


def _read(text: str) -> ParsedReply:
    return parse_object(text, {"evidence", "winner"}, _winner)


def _winner(one: dict[str, object]) -> ParsedReply:
    winner, evidence = one["winner"], one["evidence"]
    if winner not in ("A", "B", "tie") or not isinstance(evidence, str):
        raise ValueError("winner is neither A nor B nor tie")
    return ParsedReply("ok", "", {}, kept(evidence), (str(winner),))
