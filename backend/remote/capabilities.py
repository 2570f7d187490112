"""Which request parameters a model at an address accepts. Stored with a run, and part of the judge's identity."""

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
    """The request parameters that a model at an address accepts, as found out by `negotiate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    returned: str = ""
    """The model name in the response; empty if the response has none."""
    limit: Limit
    shape: Shape = "json_schema"
    steady: dict[str, Any] = Field(default_factory=_STEADY.copy)
    refused: dict[str, str] = Field(default_factory=dict)
    """Parameters that the address refuses -> its reason."""
    logprobs: bool = False
    """The response has log probabilities in the documented form."""
    usage: bool = False
    """The response has token counts. If not, a call is accounted at the amount reserved for it."""
    honoured: bool = False
    """The reply had the requested format."""
    attempts: int = 0

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of every request, for the judge's identity."""
        return {**self.steady, "response_format": self.shape, "limit": self.limit}

    def request(self, messages: Sequence[Message], form: ReplyFormat, tokens: int) -> dict[str, Any]:
        """The parameters of one call, for `ApiClient.call`. `tokens`: the longest reply."""
        response_format: dict[str, Any] = {}
        if self.shape == "json_schema":
            schema = {"name": form.name, "schema": dict(form.schema), "strict": True}
            response_format = {"response_format": {"type": "json_schema", "json_schema": schema}}
        elif self.shape == "json_object":
            response_format = {"response_format": {"type": "json_object"}}
        return {"model": self.model, "messages": list(messages), self.limit: tokens, **self.steady, **response_format}
