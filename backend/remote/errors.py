"""The kinds of errors of a call to a remote judge, and a sentence for each."""

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
from backend.remote.prices import public_name, vendor_host

Kind = Literal[
    "key", "forbidden", "credit", "no_model", "moved",  # the run stops
    "rate", "busy", "timed_out", "broken", "unreachable",  # temporary: a retry may help
    "context", "refused", "unreadable",  # concern this question only
]  # fmt: skip
TEMPORARY = frozenset[Kind](("rate", "busy", "timed_out", "broken", "unreachable"))
LONGEST = 300  # characters of a server's message

_CREDIT = re.compile(r"insufficient_quota|credit_balance_exhausted|.*_(spend|usage)_limit_exceeded|billing_.*")
_CONTEXT = re.compile(
    r"context.length|context.window|context.size|maximum.context|exceeds?.*context|prompt is too long|too many tokens",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model[^.]{0,100}(not found|not exist|no longer available|been retired)", re.IGNORECASE)
_KEY = re.compile(r"\b(sk|hf|gsk|pk)[-_][^\s\"'<>]+")


@dataclass(frozen=True)
class ApiError:
    """Why a call has no reply."""

    kind: Kind
    status: int = 0
    """HTTP status; 0 if there was no response."""
    why: str = ""
    """A sentence for people."""
    detail: str = ""
    """The server's own message, without secrets, at most LONGEST characters."""
    param: str = ""
    retry_after: float | None = None
    """Seconds to wait, if the server states them."""
    unbilled: bool = False
    """The call was certainly not billed."""


def of_status(status: int, raw: bytes, headers: Mapping[str, str], key: str) -> ApiError:
    """Convert a response with an error status."""
    error = _error(raw)
    text = without_key(raw[:4000].decode("utf-8", "replace"), key)
    message = error.get("message")
    detail = without_key(message, key) if isinstance(message, str) and message else text
    detail = " ".join(detail.split())[:LONGEST]
    param = error.get("param")
    param = param if isinstance(param, str) else ""
    kind = _kind(status, {str(error.get("code")), str(error.get("type"))}, param, text)
    return ApiError(
        kind=kind,
        status=status,
        why=f"The judge's address answered with status {status}{': ' + detail if detail else ''}",
        detail=detail or f"status {status}",
        param=param,
        retry_after=parse_retry_after(headers.get("retry-after", "")),
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


def reason_to_stop(error: ApiError, model: str, address: str) -> str:
    """The sentence for an error that stops the whole run; empty for any other error."""
    detail = error.detail.replace(host(address) or " ", "[address]")
    where = vendor_host(address) or "The judge's address"
    message = f" Its message: {detail}" if detail else ""
    key = "the key in OPENAI_API_KEY" if is_openai(address) else "the key (OPENAI_API_KEY)"
    match error.kind:
        case "key":
            return f"{where} does not accept {key}. Put a valid one into .env and resume."
        case "forbidden":
            return f"{where} does not let {key} use {shown(model)}. Grant the access there, or choose another judge."
        case "credit":
            return (
                f"{where} refuses calls because the account's credit or its spending limit is used up. Add credit "
                f"or raise the limit there, then resume. The judgements made so far are stored.{message}"
            )
        case "no_model":
            return (
                f"{where} has no model {shown(model)}. Check JUDGE_MODEL, and check that JUDGE_BASE_URL ends as the "
                f"server's documentation says, usually in /v1.{message}"
            )
        case "moved":
            return (
                f"{where} redirects to another address, and the key is not sent to a redirect. Put the final address "
                "into JUDGE_BASE_URL."
            )
        case "unreachable":
            return (
                f"{where} cannot be reached: {detail}. Check that the server runs, JUDGE_BASE_URL and the network, "
                "then resume. The judgements made so far are stored."
            )
        case _:
            return ""


def too_long_to_wait(seconds: float, address: str) -> LabError:
    """The error for a rate limit whose pause is longer than a run waits."""
    wait = f"{seconds:.0f} seconds" if seconds < 180 else f"{math.ceil(seconds / 60)} minutes"
    return LabError(
        f"There were too many requests: {public_name(address)} requires a pause of {wait}. Resume after that. The "
        "judgements made so far are stored."
    )


def parse_retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header, which may be a date; None if it is not valid."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip()):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def without_key(text: str, key: str) -> str:
    """Replace the key, and everything that looks like one: some servers repeat it, or half of it."""
    return _KEY.sub("[secret]", redact(text, () if key == NO_KEY else (key,)))


def _error(raw: bytes) -> dict[str, Any]:
    """The error object of a body: its field "error", or the body itself."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    inner = data.get("error", data) if isinstance(data, dict) else {}
    return inner if isinstance(inner, dict) else {"message": inner}
