"""What an address answered to a question: read with care, because anything can stand there."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class ReplyFormat:
    """The format of a reply: one JSON object. `schema` for addresses that follow one, `grammar` (GBNF) for llama.cpp.

    Neither is trusted: every reply is parsed strictly.
    """

    name: str
    schema: Mapping[str, Any]
    grammar: str


@dataclass(frozen=True)
class Token:
    """A token of the reply, and the log probabilities of its alternatives, itself included."""

    text: str
    others: Mapping[str, float]


@dataclass(frozen=True)
class ResponseBody:
    """An answer with status 200. `text` is None when it holds none."""

    text: str | None
    finish: str = ""
    refusal: str = ""
    model: str = ""
    tokens: tuple[Token, ...] = field(default=(), repr=False)
    logprobs: Literal["usable", "none", "another shape"] = "none"
    usage: tuple[int, int] | None = None
    """Tokens in and out, as they were told."""
    error: dict[str, Any] | None = field(default=None, repr=False)
    """Some addresses send errors with status 200."""


def read_body(raw: bytes) -> ResponseBody | None:
    """None when this is no answer of a chat API at all: a web page, or no JSON object."""
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    choices, error = told.get("choices"), told.get("error")
    if not isinstance(choices, list) and not isinstance(error, dict):
        return None
    choice = _dict(choices[0]) if isinstance(choices, list) and choices else {}
    message = _dict(choice.get("message"))
    tokens, shape = _tokens(choice.get("logprobs"))
    return ResponseBody(
        text=_text(message.get("content")),
        finish=_string(choice.get("finish_reason")),
        refusal=_string(message.get("refusal")),
        model=_string(told.get("model"))[:200],
        tokens=tokens,
        logprobs=shape,
        usage=_usage(_dict(told.get("usage"))),
        error=error if isinstance(error, dict) and not choice else None,
    )


def _text(content: object) -> str | None:
    """The content, or what its parts say together; lone surrogates become U+FFFD."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str)) or None
    return content.encode("utf-8", "replace").decode() if isinstance(content, str) else None


def _usage(usage: dict[str, Any]) -> tuple[int, int] | None:
    tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    whole = [n for n in tokens if isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 10**9]
    return (whole[0], whole[1]) if len(whole) == 2 and whole[0] > 0 else None


def _tokens(logprobs: object) -> tuple[tuple[Token, ...], Literal["usable", "none", "another shape"]]:
    """Tokens with what could have stood in their place, only in the one shape that is documented today."""
    if not logprobs:
        return (), "none"
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        return (), "another shape"
    found = []
    for place in content:
        own = _chance(place)
        top = place.get("top_logprobs") if isinstance(place, dict) else None
        others = [_chance(one) for one in top] if isinstance(top, list) else []
        if own is None or not others or None in others:
            return (), "another shape"
        chances = dict(one for one in reversed(others) if one)  # of two that read the same, the likelier stands first
        found.append(Token(own[0], {own[0]: own[1]} | chances))
    return tuple(found), "usable"


def _chance(one: object) -> tuple[str, float] | None:
    if not isinstance(one, dict) or not isinstance(one.get("token"), str):
        return None
    chance = one.get("logprob")
    if isinstance(chance, bool) or not isinstance(chance, int | float) or math.isnan(chance) or chance > 1e-3:
        return None
    return one["token"], float(chance)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: object) -> str:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
