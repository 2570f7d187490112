"""The score of one answer, the item that was judged, and the identity of the judge. All are stored."""

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
    """The judge and its settings. Two scores are comparable only if their identities are equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    model: str = ""
    """The requested model: a model of the address, a variant's id with its file's digest, or empty."""
    returned: str = ""
    """The model name in the response."""
    address: str = ""
    rubric: str
    """The rubric's hash."""
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def id(self) -> str:
        text = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Item(BaseModel):
    """An answer to be judged. It does not name its variant, so that no prompt can."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: list[Message] = Field(min_length=1)
    """The conversation up to the answer."""
    reference: str | None = None
    answer: str
    cut: bool = False
    """Whether the answer was cut off at its length limit."""

    def key(self, judge: str, repeat: int = 0) -> str:
        """The key of a score: equal answers to equal questions are judged once. `judge`: Identity.id."""
        text = json.dumps([judge, self.model_dump(), repeat], ensure_ascii=True, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


class Score(BaseModel):
    """The judgement of one answer. `values` is filled if and only if `status` is "ok"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    judge: str
    """Identity.id."""
    status: Status
    why: str = ""
    """For a failure: the reason, in one sentence."""
    values: dict[str, Number] = Field(default_factory=dict)
    """Criterion's name -> value on its scale."""
    expected: dict[str, Number] = Field(default_factory=dict)
    """The same as means over the probabilities of the grades, if the endpoint returns probabilities."""
    evidence: str = ""
    flags: tuple[str, ...] = ()
    by_rule: bool = False
    """The score was computed without a model."""
    prompt: list[Message] = Field(default_factory=list)
    """The exact prompt."""
    reply: str = ""
    """The exact reply, up to a limit."""
    model: str = ""
    """The model name in the response."""
    tokens_in: Count = 0
    tokens_out: Count = 0
    cost: Number = 0.0
    """Dollars."""
    seconds: Number = 0.0
    attempts: Count = 0
    """Number of calls, failed ones included."""
    at: Seconds = Field(default_factory=time.time)
