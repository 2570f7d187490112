"""What is asked of an answer (`Sampling`) and what is known of it afterwards (`Generation`)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

End = Literal["stop", "length", "context", "stopped"]


class Sampling(BaseModel):
    """How the next token is chosen. Said once: the form is drawn from these fields, the worker obeys them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(
        0.7, ge=0, le=2, title="Temperature", description="0 always takes the likeliest token; higher is more varied."
    )
    top_k: int = Field(
        40,
        ge=1,
        le=1000,
        title="Top-k",
        description="Only the k likeliest tokens are kept. Applied first: top-p alone would sort the whole vocabulary.",
    )
    top_p: float = Field(
        0.95, gt=0, le=1, title="Top-p", description="Of those, the likeliest that together reach this probability."
    )
    min_p: float = Field(
        0.05, ge=0, le=1, title="Min-p", description="Drops tokens less likely than this share of the likeliest one."
    )
    repeat_penalty: float = Field(
        1.0,
        ge=1,
        le=2,
        title="Repetition penalty",
        description="Above 1, tokens among the last 64 of the answer become less likely.",
    )
    seed: int = Field(
        -1, ge=-1, le=2**31 - 1, title="Seed", description="-1 draws a new one, which is shown so it can be repeated."
    )
    max_tokens: int = Field(512, ge=1, le=8192, title="Max tokens", description="The answer is cut here, and says so.")
    grammar: str = Field(
        "", max_length=50_000, title="Grammar", description="GBNF that the answer must follow; empty for none."
    )


class Generation(BaseModel):
    """How an answer came about. Tokens and seconds are counted in the worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_tokens: int
    reused_tokens: int = 0
    """Of the prompt, how many were still in the KV cache and not computed again."""
    tokens: int
    waited: float
    """Seconds in line before the first token of the prompt was read."""
    first_token: float
    """Seconds from the request's arrival at the loaded model to its first token, the wait in line included."""
    seconds: float
    """Seconds from that arrival to the last token."""
    tokens_per_second: float
    """After the first token; 0 when the answer has fewer than two."""
    end: End
    """stop: the model ended it. length: cut at max_tokens. context: cut, no room left. stopped: by the user."""
    context_used: int
    context_size: int
    left_out: int = 0
    """Oldest messages that did not fit and that the model did not see."""
    seed: int
    template: str = "own"
