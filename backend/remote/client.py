"""Makes one call to a remote judge, with the openai client, and enters it in the ledger. For workers only."""

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
from backend.remote.address import NO_KEY, clean_key, is_local, is_openai
from backend.remote.errors import ApiError
from backend.remote.ledger import Ledger, SavedReplies
from backend.remote.prices import Price
from backend.remote.response import ResponseBody

TIMEOUT = 60.0  # seconds for one call, from the first byte to the last
MAX_BODY = 1_000_000  # bytes of a response body
_NEVER_SENT = (
    httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)  # fmt: skip


class Unreadable(Exception):
    """The response body is too large, or compressed although the request forbids it."""


@dataclass(frozen=True)
class ApiReply:
    """A response body and what the call cost, in dollars.

    `estimated`: the response has no token counts. Then `cost` is the most that the call can have cost, and the tokens
    are estimated from the lengths of the texts.
    """

    body: ResponseBody
    tokens_in: int
    tokens_out: int
    cost: float
    estimated: bool


@dataclass(frozen=True)
class ApiClient:
    """Calls one model at one address, and enters every call in a ledger at the model's price."""

    model: str
    address: str
    price: Price
    ledger: Ledger
    client: OpenAI = field(repr=False)
    key: str = field(repr=False)
    replies: SavedReplies | None = None
    """Saved replies. A call whose reply is saved is not made again."""

    def call(self, request: dict[str, Any], what: str, timeout: float = TIMEOUT) -> ApiReply | ApiError:
        """Send `request` once, or return the reply saved for `what` without a call.

        `request`: the parameters, messages included. `what`: the key of the question. Raises LabError if a spending
        limit forbids the call.
        """
        size = len(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace"))
        max_out = int(request.get("max_completion_tokens") or request["max_tokens"])
        max_cost = self.price.cost(size, max_out)  # no token is shorter than a byte
        if saved := self._saved(what):
            return self._reply(saved, request, max_cost)
        entry = self.ledger.reserve(what, max_cost)
        body = self._post(request, timeout, what, entry)
        if isinstance(body, ApiError):
            if body.unbilled:
                self.ledger.release(entry)
            return body
        reply = self._reply(body, request, max_cost)
        self.ledger.settle(entry, reply.cost, reply.tokens_in, reply.tokens_out, reply.estimated)
        return reply

    def settle_saved(self) -> int:
        """Settle the calls of this run whose reply was saved before the process was killed.

        Returns the number of open calls whose outcome stays unknown. A reply counts only for the call that it belongs
        to: another call may have had the same question.
        """
        unknown = 0
        for entry in self.ledger.open_entries():
            saved = self._saved(entry.what) if self.replies and self.replies.has_call(entry.id) else None
            if saved and saved.usage:
                self.ledger.settle(entry.id, self.price.cost(*saved.usage), *saved.usage)
            elif saved:
                self.ledger.settle(entry.id, entry.dollars, 0, 0, estimated=True)
            else:
                unknown += 1
        return unknown

    def close(self) -> None:
        self.client.close()

    def _saved(self, what: str) -> ResponseBody | None:
        raw = self.replies.recall(what) if self.replies else None
        return response.read_body(raw) if raw is not None else None

    def _post(self, request: dict[str, Any], timeout: float, what: str, entry: str) -> ResponseBody | ApiError:
        raw = self._raw(request, timeout)
        if isinstance(raw, ApiError):
            return raw
        key = self.key.encode()
        plain = raw if self.key == NO_KEY else raw.replace(key, b"[secret]")  # some servers repeat it
        body = response.read_body(plain)
        if body is None:
            start = shown_start(plain)
            why = f"The server at the judge's address is no chat API; its response {start}"
            return ApiError("unreadable", 200, why, f"its response {start}")
        code = (body.error or {}).get("code")
        if body.error is not None and isinstance(code, int) and 400 <= code < 600:
            return errors.of_status(code, plain, {}, self.key)
        if body.error is not None:
            detail = errors.without_key(str(body.error.get("message", "")), self.key)[: errors.LONGEST]
            return ApiError("unreadable", 200, f"The judge's address sent an error with status 200: {detail}", detail)
        if self.replies:
            self.replies.save(what, plain, entry)
        return body

    def _raw(self, request: dict[str, Any], timeout: float) -> bytes | ApiError:
        """Send the request and return the body.

        Every error of the client is converted here, because it holds the request and with it the key.
        """
        try:
            reply = self.client.chat.completions.with_raw_response.create(**request, timeout=timeout)
            return bytes(reply.http_response.content)
        except APIStatusError as error:
            failed = error.response
            return errors.of_status(error.status_code, failed.content, failed.headers, self.key)
        except APITimeoutError as error:
            if isinstance(error.__cause__, _NEVER_SENT):
                return ApiError("unreachable", detail="the connection timed out", unbilled=True)
            return ApiError("timed_out", why=f"The judge did not answer within {timeout:.0f} seconds.")
        except APIConnectionError as error:
            cause = error.__cause__
            if isinstance(cause, _NEVER_SENT):
                detail = errors.without_key(str(cause), self.key)[: errors.LONGEST]
                return ApiError("unreachable", detail=detail or type(cause).__name__, unbilled=True)
            return ApiError("broken", why="The connection to the judge broke off before its answer was complete.")
        except Unreadable as error:
            return ApiError("unreadable", 200, f"The judge's answer was not read: {error}.", str(error))
        except (UnicodeError, httpx2.InvalidURL) as error:
            return ApiError("refused", why=f"The question cannot be sent ({type(error).__name__}).", unbilled=True)
        except (OpenAIError, httpx2.HTTPError, ValueError, RuntimeError) as error:  # RuntimeError: it was closed
            return ApiError("unreadable", why=f"The judge's answer cannot be read ({type(error).__name__}).")

    def _reply(self, body: ResponseBody, request: dict[str, Any], max_cost: float) -> ApiReply:
        if body.usage:
            return ApiReply(body, *body.usage, self.price.cost(*body.usage), False)
        tokens_in = math.ceil(sum(len(message["content"]) for message in request["messages"]) / 3)
        tokens_out = math.ceil(len(body.text or body.refusal) / 3)
        return ApiReply(body, tokens_in, tokens_out, max_cost, True)


def connect(model: str, address: str, key: str, price: Price, ledger: Ledger) -> ApiClient:
    """Create the client for a model at an address. It makes no retries and follows no redirects.

    `address`: a result of `judge_address`. `key`: as it was pasted.
    """
    key = clean_key(key, address)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)  # below that it logs responses with their headers
    http = httpx2.Client(
        follow_redirects=False,
        trust_env=not is_local(address),  # a proxy from the environment is for public addresses only
        timeout=TIMEOUT,
        event_hooks={
            "request": [_start_clock if is_openai(address) else _start_without_account],
            "response": [_limit_body],
        },
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
    """The start of a body for a sentence, escaped: "begins with ...", or "is empty"."""
    text = ascii(" ".join(raw[:80].decode("utf-8", "replace").split()))[1:-1]
    return f"begins with '{text}'" if text else "is empty"


def _start_clock(request: httpx2.Request) -> None:
    request.extensions["started"] = time.monotonic()


def _start_without_account(request: httpx2.Request) -> None:
    """Remove the headers with the OpenAI account, which the client reads from the environment."""
    _start_clock(request)
    for name in ("openai-organization", "openai-project"):
        request.headers.pop(name, None)


def _limit_body(response: httpx2.Response) -> None:
    """Limit the time and the size of reading the body."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unreadable("it is compressed")
    limit = response.request.extensions["timeout"]["read"]
    deadline = response.request.extensions["started"] + limit
    response.stream = _Bounded(response.stream, deadline, response.request)


class _Bounded(httpx2.SyncByteStream):
    """A body with a limit on its time and size. The client's own time limit restarts with every byte."""

    def __init__(self, stream: Any, deadline: float, request: httpx2.Request) -> None:
        self._stream, self._deadline, self._request = stream, deadline, request

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._stream:
            size += len(piece)
            if size > MAX_BODY:
                raise Unreadable(f"it is longer than {MAX_BODY:,} bytes")
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("the whole answer took too long", request=self._request)
            yield piece

    def close(self) -> None:
        self._stream.close()
