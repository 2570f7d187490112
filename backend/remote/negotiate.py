"""Finds out with one question which request parameters an address accepts. For workers only.

The first request has all parameters that make a judge reproducible. Each refused parameter is dropped or replaced.
"""

import re
from collections.abc import Callable, Sequence

from backend.core.errors import LabError, shown
from backend.core.messages import Message
from backend.remote.address import is_openai
from backend.remote.capabilities import Capabilities, Limit
from backend.remote.client import TIMEOUT, ApiClient, ApiReply
from backend.remote.errors import TEMPORARY, ApiError
from backend.remote.prices import public_name
from backend.remote.response import ReplyFormat
from backend.remote.retry import ATTEMPTS, LONGEST, PAUSE, RetryPolicy

MOST = 12  # calls

# Parameter -> pattern for its name in an error message. If a message names none, they are dropped in this order.
_PATTERNS = {
    "reasoning_effort": r"reasoning|effort",
    "logprobs": r"logprobs",
    "seed": r"\bseed\b",
    "response_format": r"response_format|json_schema|json_object|structured.output|grammar",
    "temperature": r"temperature",
    "limit": r"max_completion_tokens|max_tokens",
}
_OTHER: dict[Limit, Limit] = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


def negotiate(
    api: ApiClient,
    messages: Sequence[Message],
    form: ReplyFormat,
    fits: Callable[[str], bool],
    tokens: int = 600,
    pause: float = PAUSE,
    timeout: float = TIMEOUT,
    longest: float = LONGEST,
) -> Capabilities:
    """Send one small question until it is answered, with at most MOST calls.

    `fits`: whether a reply has the format `form`. Raises LabError if no combination of parameters is answered.
    """
    retry = RetryPolicy(api, pause, timeout, longest)
    start = Capabilities(model=api.model, limit="max_completion_tokens" if is_openai(api.address) else "max_tokens")
    named: list[tuple[str, str]] = []  # (parameter, reason) where the error message names the parameter
    unnamed: list[tuple[str, str]] = []
    calls = 0
    while calls < MOST:
        current = _without(start, named + unnamed)
        request, again = current.request(messages, form, tokens), TEMPORARY - {"busy"}
        outcome = retry.ask(request, "negotiation", min(ATTEMPTS, MOST - calls), again)
        calls += outcome.attempts
        result = outcome.result
        if _is_down(result, current, start) and not unnamed and calls < MOST:
            outcome = retry.ask(request, "negotiation", min(ATTEMPTS - 1, MOST - calls), TEMPORARY)
            calls += outcome.attempts
            result = outcome.result
        if isinstance(result, ApiReply):
            break
        if result is None or not (result.kind == "refused" or result.status in (500, 501)):
            raise LabError(_failed(api, result))
        refusal = _refused_parameter(result, current, start)
        if not refusal:
            raise LabError(_failed(api, result))
        name, is_named = refusal
        (named if is_named else unnamed).append((name, result.detail))
    else:
        raise LabError(_failed(api, result))
    last = [refusal for refusal in unnamed if refusal[0] == unnamed[-1][0]]
    if len(last) < len(unnamed) and calls < MOST:  # the parameters dropped before the last one may be accepted
        more = _without(start, named + last)
        outcome = retry.ask(more.request(messages, form, tokens), "negotiation", 1, ())
        calls += outcome.attempts
        if isinstance(outcome.result, ApiReply):
            current, result = more, outcome.result
    return _capabilities(current, result, calls, fits)


def _without(start: Capabilities, dropped: Sequence[tuple[str, str]]) -> Capabilities:
    """Apply each refusal in turn. `response_format` is refused twice before there is none."""
    steady, shape, limit, refused = dict(start.steady), start.shape, start.limit, dict[str, str]()
    for name, reason in dropped:
        if name == "response_format":
            refused[shape] = reason
            shape = "json_object" if shape == "json_schema" else "none"
        elif name == "limit":
            refused[limit] = reason
            limit = _OTHER[limit]
        else:
            refused[name] = reason
            steady.pop(name, None)
            if name == "logprobs":
                steady.pop("top_logprobs", None)
    return start.model_copy(update={"steady": steady, "shape": shape, "limit": limit, "refused": refused})


def _is_down(result: ApiReply | ApiError | None, current: Capabilities, start: Capabilities) -> bool:
    """Whether a server error is probably temporary: its message names no parameter.

    Some servers answer with a server error to a parameter that they do not know, and name it.
    """
    if not isinstance(result, ApiError) or result.kind != "busy":
        return False
    refusal = _refused_parameter(result, current, start)
    return refusal is None or not refusal[1]


def _refused_parameter(error: ApiError, current: Capabilities, start: Capabilities) -> tuple[str, bool] | None:
    """The parameter to drop next, and whether the error names it; None if none is left to drop."""
    droppable = [
        name
        for name in _PATTERNS
        if name in current.steady
        or (name == "response_format" and current.shape != "none")
        or (name == "limit" and current.limit == start.limit)
    ]
    for text in (error.param, error.detail):
        matches = {name: re.search(_PATTERNS[name], text, re.IGNORECASE) for name in droppable}
        starts = {name: match.start() for name, match in matches.items() if match}
        if starts:
            return min(starts, key=starts.__getitem__), True
    return (droppable[0], False) if droppable else None


def _capabilities(current: Capabilities, reply: ApiReply, calls: int, fits: Callable[[str], bool]) -> Capabilities:
    """The accepted parameters, with what the reply shows about them."""
    body, steady, refused = reply.body, dict(current.steady), dict(current.refused)
    if "logprobs" in steady and body.logprobs != "usable":
        del steady["logprobs"], steady["top_logprobs"]
        missing = body.logprobs == "none"
        refused["logprobs"] = "accepted, but not returned" if missing else "accepted, but returned in another form"
    return current.model_copy(
        update={
            "returned": body.model,
            "steady": steady,
            "refused": refused,
            "logprobs": body.logprobs == "usable",
            "usage": not reply.estimated,
            "honoured": fits(body.text or ""),
            "attempts": calls,
        }
    )


def _failed(api: ApiClient, result: ApiError | ApiReply | None) -> str:
    why = result.why if isinstance(result, ApiError) else ""
    return (
        f"{shown(api.model)} at {public_name(api.address)} did not answer a test question, so nothing was judged. "
        f"{why.rstrip('.') or 'It stated no reason'}. Check JUDGE_BASE_URL and that server, or choose another judge."
    )
