"""One call to a judge: written into the ledger, made by the openai client, read. For workers only."""

import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI, OpenAIError

from backend.remote import errors, response
from backend.remote.address import NO_KEY, clean_key, is_near, is_openai
from backend.remote.errors import ApiError
from backend.remote.ledger import Ledger, SavedReplies
from backend.remote.prices import Price
from backend.remote.response import ResponseBody

TIMEOUT = 60.0  # seconds for one call, first byte to last
LARGEST = 1_000_000  # bytes of an answer that are read
_NEVER_LEFT = (
    httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)  # fmt: skip


class Unreadable(Exception):
    """The answer is not read to its end: too large, or packed although nobody asked for that."""


@dataclass(frozen=True)
class ApiReply:
    """A body and what it cost. `reckoned`: the address told no usage, so the cost is the most that the call can have
    cost, and the tokens are estimated from the lengths."""

    body: ResponseBody
    tokens_in: int
    tokens_out: int
    cost: float
    reckoned: bool


@dataclass(frozen=True)
class ApiClient:
    """An address, the model there, its price, and the ledger that every call through it is written into."""

    model: str
    address: str
    price: Price
    ledger: Ledger
    client: OpenAI = field(repr=False)
    key: str = field(repr=False)
    replies: SavedReplies | None = None
    """Where answers are kept, and looked for first."""

    def call(self, asked: dict[str, Any], what: str, timeout: float = TIMEOUT) -> ApiReply | ApiError:
        """One try, at the price of at most one; at none if `what` was answered before. `asked`: the parameters,
        messages included. LabError: a limit."""
        size = len(json.dumps(asked, ensure_ascii=False).encode("utf-8", "replace"))
        most_out = int(asked.get("max_completion_tokens") or asked["max_tokens"])
        most = self.price.of(size, most_out)  # no token is shorter than a byte
        if known := self._recalled(what):
            return self._answer(known, asked, most)
        entry = self.ledger.reserve(what, most)
        told = self._post(asked, timeout, what, entry)
        if isinstance(told, ApiError):
            if told.unbilled:
                self.ledger.release(entry)
            return told
        answer = self._answer(told, asked, most)
        self.ledger.settle(entry, answer.cost, answer.tokens_in, answer.tokens_out, answer.reckoned)
        return answer

    def settle_known(self) -> int:
        """Account for calls of this run that were answered before a kill came between answer and account. How many are
        left whose outcome nobody knows: another call may have brought an answer to the same question."""
        unknown = 0
        for entry in self.ledger.open_ones():
            known = self._recalled(entry.what) if self.replies and self.replies.brought(entry.id) else None
            if known and known.usage:
                self.ledger.settle(entry.id, self.price.of(*known.usage), *known.usage)
            elif known:
                self.ledger.settle(entry.id, entry.dollars, 0, 0, reckoned=True)
            else:
                unknown += 1
        return unknown

    def close(self) -> None:
        self.client.close()

    def _recalled(self, what: str) -> ResponseBody | None:
        raw = self.replies.recall(what) if self.replies else None
        return response.read_body(raw) if raw is not None else None

    def _post(self, asked: dict[str, Any], timeout: float, what: str, entry: str) -> ResponseBody | ApiError:
        raw = self._raw(asked, timeout)
        if isinstance(raw, ApiError):
            return raw
        key = self.key.encode()
        plain = raw if self.key == NO_KEY else raw.replace(key, b"[secret]")  # some servers repeat it
        found = response.read_body(plain)
        if found is None:
            start = shown_start(plain)
            return ApiError("unreadable", 200, f"What answers at the judge's address is no chat API: {start}", start)
        code = (found.error or {}).get("code")
        if found.error is not None and isinstance(code, int) and 400 <= code < 600:
            return errors.of_status(code, plain, {}, self.key)
        if found.error is not None:
            said = errors.without_key(str(found.error.get("message", "")), self.key)[: errors.LONGEST]
            return ApiError("unreadable", 200, f"The judge's address sent an error in place of an answer: {said}", said)
        if self.replies:
            self.replies.keep(what, plain, entry)
        return found

    def _raw(self, asked: dict[str, Any], timeout: float) -> bytes | ApiError:
        """No error of the client leaves this function: they carry the request, and with it the key."""
        try:
            answer = self.client.chat.completions.with_raw_response.create(**asked, timeout=timeout)
            return bytes(answer.http_response.content)
        except APIStatusError as error:
            found = error.response
            return errors.of_status(error.status_code, found.content, found.headers, self.key)
        except APITimeoutError as error:
            if isinstance(error.__cause__, _NEVER_LEFT):
                return ApiError("unreachable", said="nobody answered in time", unbilled=True)
            return ApiError("timed_out", why=f"The judge did not answer within {timeout:.0f} seconds.")
        except APIConnectionError as error:
            cause = error.__cause__
            if isinstance(cause, _NEVER_LEFT):
                said = errors.without_key(str(cause), self.key)[: errors.LONGEST]
                return ApiError("unreachable", said=said or type(cause).__name__, unbilled=True)
            return ApiError("broken", why="The connection to the judge broke off before its answer was complete.")
        except Unreadable as error:
            return ApiError("unreadable", 200, f"The judge's answer was not read: {error}.", str(error))
        except (UnicodeError, httpx2.InvalidURL) as error:
            return ApiError("refused", why=f"The question cannot be sent ({type(error).__name__}).", unbilled=True)
        except (OpenAIError, httpx2.HTTPError, ValueError, RuntimeError) as error:  # RuntimeError: it was closed
            return ApiError("unreadable", why=f"The judge's answer cannot be read ({type(error).__name__}).")

    def _answer(self, told: ResponseBody, asked: dict[str, Any], most: float) -> ApiReply:
        if told.usage:
            return ApiReply(told, *told.usage, self.price.of(*told.usage), False)
        tokens_in = math.ceil(sum(len(message["content"]) for message in asked["messages"]) / 3)
        tokens_out = math.ceil(len(told.text or told.refusal) / 3)
        return ApiReply(told, tokens_in, tokens_out, most, True)


def connect(model: str, address: str, key: str, price: Price, ledger: Ledger) -> ApiClient:
    """`address` as `judge_address` gives it; `key` as it was pasted. The client asks once and follows nobody."""
    key = clean_key(key, address)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)  # it would log what comes back, headers and all
    http = httpx2.Client(
        follow_redirects=False,
        trust_env=not is_near(address),  # proxies of the environment are for the world outside
        timeout=TIMEOUT,
        event_hooks={"request": [_begin if is_openai(address) else _begin_elsewhere], "response": [_bound]},
    )
    client = OpenAI(
        api_key=key,
        base_url=address,
        max_retries=0,
        timeout=TIMEOUT,
        http_client=http,
        default_headers={"Accept-Encoding": "identity"},
    )
    return ApiClient(model, address, price, ledger, client, key)


def shown_start(raw: bytes) -> str:
    text = ascii(" ".join(raw[:80].decode("utf-8", "replace").split()))[1:-1]
    return f"it begins with '{text}'" if text else "it is empty"


def _begin(request: httpx2.Request) -> None:
    request.extensions["begun"] = time.monotonic()


def _begin_elsewhere(request: httpx2.Request) -> None:
    """Names of an account at OpenAI, which the client takes from the environment, are nobody else's business."""
    _begin(request)
    for name in ("openai-organization", "openai-project"):
        request.headers.pop(name, None)


def _bound(response: httpx2.Response) -> None:
    """From here on the body is read within its limits of time and size."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unreadable("it is packed")
    limit = response.request.extensions["timeout"]["read"]
    until = response.request.extensions["begun"] + limit
    response.stream = _Bounded(response.stream, until, response.request)


class _Bounded(httpx2.SyncByteStream):
    """The client's own time limit starts again with every byte; this one does not."""

    def __init__(self, stream: Any, until: float, request: httpx2.Request) -> None:
        self._stream, self._until, self._request = stream, until, request

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._stream:
            size += len(piece)
            if size > LARGEST:
                raise Unreadable(f"it is longer than {LARGEST:,} bytes")
            if time.monotonic() > self._until:
                raise httpx2.ReadTimeout("the whole answer took too long", request=self._request)
            yield piece

    def close(self) -> None:
        self._stream.close()
