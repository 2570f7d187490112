"""What can go wrong with a call to a judge, what kind of trouble it is, and the sentence for a person."""

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from backend.core.errors import LabError, redact, shown
from backend.remote.address import NO_KEY, host, is_openai
from backend.remote.prices import place, seller

Kind = Literal[
    "key", "forbidden", "credit", "no_model", "moved",  # going on makes no sense
    "rate", "busy", "timed_out", "broken", "unreachable",  # asking again may help
    "context", "refused", "unreadable",  # this question's own
]  # fmt: skip
TEMPORARY = frozenset[Kind](("rate", "busy", "timed_out", "broken", "unreachable"))
LONGEST = 300  # characters of a stranger's message that are kept

_CREDIT = re.compile(r"insufficient_quota|credit_balance_exhausted|.*_(spend|usage)_limit_exceeded|billing_.*")
_CONTEXT = re.compile(
    r"context.length|context.window|context.size|maximum.context|exceeds?.*context|prompt is too long|too many tokens",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model[^.]{0,100}(not found|not exist|no longer available|been retired)", re.IGNORECASE)
_KEYLIKE = re.compile(r"\b(sk|hf|gsk|pk)[-_][^\s\"'<>]+")


@dataclass(frozen=True)
class ApiError:
    """Why a call brought no answer."""

    kind: Kind
    status: int = 0
    """0: nothing was answered."""
    why: str = ""
    """A sentence."""
    said: str = ""
    """What the address itself said, without secrets and not too long."""
    param: str = ""
    after: float | None = None
    """Seconds to wait, where the address told them."""
    unbilled: bool = False
    """Certainly nothing was billed."""


def of_status(status: int, raw: bytes, headers: Mapping[str, str], key: str) -> ApiError:
    """Of an answer that is an error."""
    error = _error(raw)
    text = without_key(raw[:4000].decode("utf-8", "replace"), key)
    message = error.get("message")
    said = without_key(message, key) if isinstance(message, str) and message else text
    said = " ".join(said.split())[:LONGEST]
    param = error.get("param")
    param = param if isinstance(param, str) else ""
    kind = _kind(status, {str(error.get("code")), str(error.get("type"))}, param, text)
    return ApiError(
        kind=kind,
        status=status,
        why=f"The judge's address answered with status {status}{': ' + said if said else ''}",
        said=said or f"status {status}",
        param=param,
        after=retry_after(headers.get("retry-after", "")),
        unbilled=status < 500 and status != 408,
    )


def _kind(status: int, codes: set[str], param: str, text: str) -> Kind:
    if status == 402 or any(_CREDIT.fullmatch(code) for code in codes):
        return "credit"
    if status in (401, 403, 429):
        return {401: "key", 403: "forbidden", 429: "rate"}[status]  # type: ignore[return-value]
    if status < 400:
        return "moved"
    if status != 404 and ("context_length_exceeded" in codes or status == 413 or _CONTEXT.search(text)):
        return "context"
    if "model_not_found" in codes or param == "model" or (not param and _NO_MODEL.search(text)):
        return "no_model"
    if status == 404:
        return "refused" if param or "parameter" in text else "no_model"
    return "busy" if status in (408, 409) or status >= 500 else "refused"


def stop_for(trouble: ApiError, model: str, address: str) -> str:
    """The sentence where going on makes no sense; empty where it does."""
    own = trouble.said.replace(host(address) or " ", "[address]")
    where = seller(address) or "The judge's address"
    said = f" It says: {own}" if own else ""
    key = "the key in OPENAI_API_KEY" if is_openai(address) else "the key (OPENAI_API_KEY)"
    match trouble.kind:
        case "key":
            return f"{where} does not accept {key}. Put a valid one into .env and resume."
        case "forbidden":
            return f"{where} does not let {key} use {shown(model)}. Give it access there, or choose another judge."
        case "credit":
            return (
                f"{where} answers no more because the account's credit or its spending limit is used up. Add credit "
                f"or raise the limit there, then resume; what is judged so far is kept.{said}"
            )
        case "no_model":
            return (
                f"{where} has no judge {shown(model)}. Check JUDGE_MODEL and that JUDGE_BASE_URL ends as its maker "
                f"says, usually in /v1.{said}"
            )
        case "moved":
            return (
                f"{where} sends requests on to another address, and a key is not sent after them. Put the final "
                "address into JUDGE_BASE_URL."
            )
        case "unreachable":
            return (
                f"{where} cannot be reached: {own}. Check that it runs, JUDGE_BASE_URL and the network, then "
                "resume; what is judged so far is kept."
            )
        case _:
            return ""


def too_long_to_wait(seconds: float, address: str) -> LabError:
    wait = f"{seconds:.0f} seconds" if seconds < 180 else f"{math.ceil(seconds / 60)} minutes"
    return LabError(
        f"There were too many requests: {place(address)} asks to be left alone for {wait}. Resume after that; what is "
        "judged so far is kept."
    )


def retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header, which may be a date; None for what cannot be understood."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip()):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def without_key(text: str, key: str) -> str:
    """Without the key, and without what looks like one: some servers repeat it, or half of it."""
    return _KEYLIKE.sub("[secret]", redact(text, () if key == NO_KEY else (key,)))


def _error(raw: bytes) -> dict[str, Any]:
    """The error object of the answer, wherever it stands in it."""
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    inner = told.get("error", told) if isinstance(told, dict) else {}
    return inner if isinstance(inner, dict) else {"message": inner}
