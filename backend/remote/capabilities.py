"""What was agreed with a model at an address: a record that is kept, shown, and part of the judge's identity."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.core.messages import Message
from backend.remote.response import ReplyFormat

SEED = 1
Limit = Literal["max_completion_tokens", "max_tokens"]
Shape = Literal["json_schema", "json_object", "none"]
_STEADY = {"temperature": 0, "seed": SEED, "reasoning_effort": "none", "logprobs": True, "top_logprobs": 10}


class Capabilities(BaseModel):
    """What was agreed with a model at an address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    returned: str = ""
    """As the address names what answered; empty when it does not say."""
    limit: Limit
    shape: Shape = "json_schema"
    steady: dict[str, Any] = Field(default_factory=_STEADY.copy)
    refused: dict[str, str] = Field(default_factory=dict)
    """What the address does not take, and its words for it."""
    logprobs: bool = False
    """The judge's probabilities come back in a shape that can be read."""
    usage: bool = False
    """The address tells how many tokens it counted; else a call costs what was reserved for it."""
    honoured: bool = False
    """The reply had the form that was asked for."""
    attempts: int = 0

    @property
    def parameters(self) -> dict[str, Any]:
        """What every question is asked with: for the judge's identity."""
        return {**self.steady, "response_format": self.shape, "limit": self.limit}

    def asked(self, messages: Sequence[Message], form: ReplyFormat, tokens: int) -> dict[str, Any]:
        """A question as the client sends it."""
        shaped: dict[str, Any] = {}
        if self.shape == "json_schema":
            schema = {"name": form.name, "schema": dict(form.schema), "strict": True}
            shaped = {"response_format": {"type": "json_schema", "json_schema": schema}}
        elif self.shape == "json_object":
            shaped = {"response_format": {"type": "json_object"}}
        return {"model": self.model, "messages": list(messages), self.limit: tokens, **self.steady, **shaped}
