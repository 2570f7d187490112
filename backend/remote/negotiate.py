"""Which parameters an address takes: found out with one question, kept, and shown. For workers only.

It begins with everything that makes a judge steadier, and drops or replaces what is refused.
"""

import re
from collections.abc import Callable, Sequence

from backend.core.errors import LabError, shown
from backend.core.messages import Message
from backend.remote.address import is_openai
from backend.remote.capabilities import Capabilities, Limit
from backend.remote.client import TIMEOUT, ApiClient, ApiReply
from backend.remote.errors import TEMPORARY, ApiError
from backend.remote.prices import place
from backend.remote.response import ReplyFormat
from backend.remote.retry import ATTEMPTS, LONGEST, PAUSE, RetryPolicy

MOST = 12

# The order in which things are dropped when the address does not say what it minds, and how it may call them.
_WORDS = {
    "reasoning_effort": r"reasoning|effort",
    "logprobs": r"logprobs",
    "seed": r"\bseed\b",
    "response_format": r"response_format|json_schema|json_object|structured.output|grammar",
    "temperature": r"temperature",
    "limit": r"max_completion_tokens|max_tokens",
}
_OTHER: dict[Limit, Limit] = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


def negotiate(
    line: ApiClient,
    messages: Sequence[Message],
    form: ReplyFormat,
    fits: Callable[[str], bool],
    tokens: int = 600,
    pause: float = PAUSE,
    timeout: float = TIMEOUT,
    longest: float = LONGEST,
) -> Capabilities:
    """Ask one small question until it is answered, at most 12 times. LabError when it cannot be."""
    patience = RetryPolicy(line, pause, timeout, longest)
    start = Capabilities(model=line.model, limit="max_completion_tokens" if is_openai(line.address) else "max_tokens")
    named: list[tuple[str, str]] = []
    unnamed: list[tuple[str, str]] = []
    made = 0
    while made < MOST:
        now = _without(start, named + unnamed)
        asked, again = now.asked(messages, form, tokens), TEMPORARY - {"busy"}
        outcome = patience.ask(asked, "negotiation", min(ATTEMPTS, MOST - made), again)
        made += outcome.attempts
        told = outcome.told
        if _is_down(told, now, start) and not unnamed and made < MOST:
            outcome = patience.ask(asked, "negotiation", min(ATTEMPTS - 1, MOST - made), TEMPORARY)
            made += outcome.attempts
            told = outcome.told
        if isinstance(told, ApiReply):
            break
        if told is None or not (told.kind == "refused" or told.status in (500, 501)):
            raise LabError(_failed(line, told))
        guilty = _guilty(told, now, start)
        if not guilty:
            raise LabError(_failed(line, told))
        name, is_named = guilty
        (named if is_named else unnamed).append((name, told.said))
    else:
        raise LabError(_failed(line, told))
    kept = [one for one in unnamed if one[0] == unnamed[-1][0]]
    if len(kept) < len(unnamed) and made < MOST:  # what went before the last may have been innocent
        more = _without(start, named + kept)
        outcome = patience.ask(more.asked(messages, form, tokens), "negotiation", 1, ())
        made += outcome.attempts
        if isinstance(outcome.told, ApiReply):
            now, told = more, outcome.told
    return _agreed(now, told, made, fits)


def _without(start: Capabilities, dropped: Sequence[tuple[str, str]]) -> Capabilities:
    """The parameters after each refusal in turn. A shape is refused twice before there is none."""
    steady, shape, limit, refused = dict(start.steady), start.shape, start.limit, dict[str, str]()
    for name, said in dropped:
        if name == "response_format":
            refused[shape] = said
            shape = "json_object" if shape == "json_schema" else "none"
        elif name == "limit":
            refused[limit] = said
            limit = _OTHER[limit]
        else:
            refused[name] = said
            steady.pop(name, None)
            if name == "logprobs":
                steady.pop("top_logprobs", None)
    return start.model_copy(update={"steady": steady, "shape": shape, "limit": limit, "refused": refused})


def _is_down(told: ApiReply | ApiError | None, now: Capabilities, start: Capabilities) -> bool:
    """Whether it broke inside and blames nothing: then it may be well in a moment. Some answer so to a parameter they
    do not know, and name it."""
    if not isinstance(told, ApiError) or told.kind != "busy":
        return False
    guilty = _guilty(told, now, start)
    return guilty is None or not guilty[1]


def _guilty(told: ApiError, now: Capabilities, start: Capabilities) -> tuple[str, bool] | None:
    """What to drop next, and whether the address named it; None when nothing is left to drop."""
    left = [
        name
        for name in _WORDS
        if name in now.steady
        or (name == "response_format" and now.shape != "none")
        or (name == "limit" and now.limit == start.limit)
    ]
    for text in (told.param, told.said):
        places = {name: found.start() for name in left if (found := re.search(_WORDS[name], text, re.IGNORECASE))}
        if places:
            return min(places, key=places.__getitem__), True
    return (left[0], False) if left else None


def _agreed(now: Capabilities, answer: ApiReply, made: int, fits: Callable[[str], bool]) -> Capabilities:
    body, steady, refused = answer.body, dict(now.steady), dict(now.refused)
    if "logprobs" in steady and body.logprobs != "usable":
        del steady["logprobs"], steady["top_logprobs"]
        missing = body.logprobs == "none"
        refused["logprobs"] = "taken, but none came back" if missing else "taken, but they came back in another shape"
    return now.model_copy(
        update={
            "returned": body.model,
            "steady": steady,
            "refused": refused,
            "logprobs": body.logprobs == "usable",
            "usage": not answer.reckoned,
            "honoured": fits(body.text or ""),
            "attempts": made,
        }
    )


def _failed(line: ApiClient, told: ApiError | ApiReply | None) -> str:
    why = told.why if isinstance(told, ApiError) else ""
    return (
        f"{shown(line.model)} at {place(line.address)} did not answer a trial question, so nothing was judged. "
        f"{why.rstrip('.') or 'It told no reason'}. Check JUDGE_BASE_URL and that server, or choose another judge."
    )
