"""What a judge said of one answer, or why it said nothing; and who the judge was."""

import hashlib
import json
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.core.messages import Message
from backend.jobs.events import Count, Number, Seconds

Kind = Literal["rule", "endpoint", "variant", "given", "you"]
Status = Literal[
    "ok",
    "bad_json",
    "bad_schema",
    "cannot_judge",
    "refused",
    "filtered",
    "judge_truncated",
    "empty_reply",
    "other_model",
    "over_context",
    "api_error",
    "timed_out",
    "cancelled",
    "no_answer",
]
FLAGS = (
    "empty", "refusal", "truncated", "off_language", "repetitive", "tries_to_steer_judge", "reference_looks_wrong",
)  # fmt: skip


class Identity(BaseModel):
    """Who judged. Two scores belong in one table only if all of this is the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    model: str = ""
    """As it was asked for: a model of the address, a variant's id with its file's digest, or empty."""
    returned: str = ""
    """As the address names what answered."""
    address: str = ""
    rubric: str
    """The rubric's hash."""
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def id(self) -> str:
        text = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Item(BaseModel):
    """One answer to be judged. Whose it is, is not known here, so it cannot reach a prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: list[Message] = Field(min_length=1)
    """What was asked: the conversation up to the answer."""
    reference: str | None = None
    answer: str
    cut: bool = False
    """Whether the answer was stopped at its limit."""

    def key(self, judge: str, repeat: int = 0) -> str:
        """What a score of it is kept under: equal answers to equal questions are judged once. `judge`: Identity.id."""
        text = json.dumps([judge, self.model_dump(), repeat], ensure_ascii=True, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


class Score(BaseModel):
    """`values` is filled if and only if `status` is ok: a failure is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    judge: str
    """Identity.id."""
    status: Status
    why: str = ""
    """Of a failure: one sentence."""
    values: dict[str, Number] = Field(default_factory=dict)
    """Criterion's name -> value on its scale."""
    expected: dict[str, Number] = Field(default_factory=dict)
    """The same as means over the judge's own probabilities, where the endpoint tells them."""
    evidence: str = ""
    flags: tuple[str, ...] = ()
    by_rule: bool = False
    """Nobody was asked: an empty answer gets the least of everything."""
    prompt: list[Message] = Field(default_factory=list)
    """Exactly what the judge was sent."""
    reply: str = ""
    """Exactly what it said, up to a limit."""
    model: str = ""
    """As the address names what answered."""
    tokens_in: Count = 0
    tokens_out: Count = 0
    cost: Number = 0.0
    """Dollars."""
    seconds: Number = 0.0
    attempts: Count = 0
    """Calls made for it, those that failed included."""
    at: Seconds = Field(default_factory=time.time)
