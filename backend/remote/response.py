"""Parses the body of a response. The body is untrusted: any field may be missing or have the wrong type."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class ReplyFormat:
    """The format of a reply: one JSON object. `schema` is for remote addresses, `grammar` (GBNF) for llama.cpp.

    A reply may still have another format, so every reply is parsed strictly.
    """

    name: str
    schema: Mapping[str, Any]
    grammar: str


@dataclass(frozen=True)
class Token:
    """A token of the reply, with the log probabilities of its alternatives and of itself."""

    text: str
    others: Mapping[str, float]


@dataclass(frozen=True)
class ResponseBody:
    """The body of a response with status 200. `text` is None if it has no text."""

    text: str | None
    finish: str = ""
    refusal: str = ""
    model: str = ""
    tokens: tuple[Token, ...] = field(default=(), repr=False)
    logprobs: Literal["usable", "none", "another shape"] = "none"
    usage: tuple[int, int] | None = None
    """Tokens in and out, as the response states them."""
    error: dict[str, Any] | None = field(default=None, repr=False)
    """The error object: some servers send errors with status 200."""


def read_body(raw: bytes) -> ResponseBody | None:
    """Parse a body. None if it does not come from a chat API, such as a web page."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    choices, error = data.get("choices"), data.get("error")
    if not isinstance(choices, list) and not isinstance(error, dict):
        return None
    choice = _dict(choices[0]) if isinstance(choices, list) and choices else {}
    message = _dict(choice.get("message"))
    tokens, shape = _tokens(choice.get("logprobs"))
    return ResponseBody(
        text=_text(message.get("content")),
        finish=_string(choice.get("finish_reason")),
        refusal=_string(message.get("refusal")),
        model=_string(data.get("model"))[:200],
        tokens=tokens,
        logprobs=shape,
        usage=_usage(_dict(data.get("usage"))),
        error=error if isinstance(error, dict) and not choice else None,
    )


def _text(content: object) -> str | None:
    """The content, or its text parts joined. Lone surrogates become U+FFFD."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str)) or None
    return content.encode("utf-8", "replace").decode() if isinstance(content, str) else None


def _usage(usage: dict[str, Any]) -> tuple[int, int] | None:
    tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    valid = [n for n in tokens if isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 10**9]
    return (valid[0], valid[1]) if len(valid) == 2 and valid[0] > 0 else None


def _tokens(logprobs: object) -> tuple[tuple[Token, ...], Literal["usable", "none", "another shape"]]:
    """Tokens with their alternatives. Only the documented form of `logprobs` is read."""
    if not logprobs:
        return (), "none"
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        return (), "another shape"
    tokens = []
    for entry in content:
        own = _logprob(entry)
        top = entry.get("top_logprobs") if isinstance(entry, dict) else None
        others = [_logprob(alternative) for alternative in top] if isinstance(top, list) else []
        if own is None or not others or None in others:
            return (), "another shape"
        # Two tokens may have the same text. The likelier one comes first, so it is written last.
        by_text = dict(pair for pair in reversed(others) if pair)
        tokens.append(Token(own[0], {own[0]: own[1]} | by_text))
    return tuple(tokens), "usable"


def _logprob(entry: object) -> tuple[str, float] | None:
    """(token text, log probability) of an entry; None if it is not valid."""
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
        return None
    logprob = entry.get("logprob")
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or math.isnan(logprob) or logprob > 1e-3:
        return None
    return entry["token"], float(logprob)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: object) -> str:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
