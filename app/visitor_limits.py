"""Limits for visitors, and requests that only the owner may send.

It runs inside Gradio's session middleware, so it knows the user. `docs/security.md` lists the rules and their tests.
"""

import asyncio
import contextlib
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import gradio as gr
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.guard import Role, client_address, role_of
from app.middleware import FILE, refuse
from backend.core.settings import Settings

CALLS = re.compile(r"/gradio_api/(queue/join|run/|api/).*")
STATIC = re.compile(r"/(static|assets|svelte)/.+|/favicon\.ico|/theme\.css|/manifest\.json")
HEAVY = re.compile(r"/|/config/?|/gradio_api/(info|openapi\.json)/?")  # 0.1 s of computing and 1 MB each
UPLOAD = "/gradio_api/upload"
MIN_FREE_DISK = 200_000_000  # bytes that stay free after an upload
OWNER_BODY = 32_000_000  # bytes of a JSON body from the owner
VISITOR_BODY = 256_000  # bytes of a JSON body from a visitor
VISITOR_REQUESTS = 100  # calls and streams of one address that are open at the same time
VISITOR_QUEUED = 24  # calls of one address that may wait in Gradio's queue, which has 64 places
VISITOR_RATE, VISITOR_BURST = 50.0, 200.0  # requests per second of one address, and how many at once
VISITOR_SESSIONS, SESSION_SECONDS = 40, 600.0  # new sessions (browser tabs) of one address within these seconds
VISITOR_UNREAD = 30  # unread responses of one session


class VisitorLimits:
    """ASGI middleware: limits per network address for visitors. The owner is limited by the free disk only.

    If the address of a visitor is unknown, only the form of the request is checked.
    """

    def __init__(self, app: ASGIApp, settings: Settings, files: Path, queue: "GradioQueue") -> None:
        """`files`: the folder of uploads, the only folder that files are served from."""
        self.app, self.settings, self.files, self.queue = app, settings, files.resolve(), queue
        self.open: Counter[str] = Counter()
        self.calling: Counter[str] = Counter()
        self.tokens: dict[str, tuple[float, float]] = {}
        self.sessions: dict[str, dict[str, float]] = {}
        self.heavy: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif role_of(self.settings, scope) is Role.OWNER:
            await (self._by_owner(scope) or self.app)(scope, receive, send)
        else:
            await self._visit(scope, receive, send)

    async def _visit(self, scope: Scope, receive: Receive, send: Send) -> None:
        address, path = client_address(self.settings, scope), scope["path"]
        if STATIC.fullmatch(path):  # a page loads some 100 of them at once
            await self.app(scope, receive, send)
            return
        if refusal := self._by_visitor(scope, address):
            await refusal(scope, receive, send)
            return
        with _counted(self.open, address):
            if address and HEAVY.fullmatch(path):  # one at a time per address
                async with self.heavy.setdefault(address, asyncio.Semaphore(1)):
                    await self.app(scope, receive, send)
            elif scope["method"] == "POST" and CALLS.fullmatch(path):
                body = await _read(receive)
                with _counted(self.calling, address):
                    answer = self._by_call(body, address) or self.app
                    await answer(scope, _read_before(body, receive), send)
            else:
                await self.app(scope, receive, send)

    def _by_owner(self, scope: Scope) -> PlainTextResponse | None:
        path, length = scope["path"], int(Headers(scope=scope).get("content-length") or 0)
        if path.startswith(FILE) and not self._is_own_file(path.removeprefix(FILE)):
            return refuse(403, "Only uploaded files are served, by their path.")
        if path.startswith(UPLOAD):
            free = shutil.disk_usage(self.files).free
            if length + MIN_FREE_DISK > free:
                sizes = f"{length / 1e6:,.0f} MB and {free / 1e6:,.0f} MB of disk are free"
                return refuse(413, f"The upload has {sizes}. Free some, or choose a smaller file.")
        elif scope["method"] == "POST" and length > OWNER_BODY:
            return _too_large(length, OWNER_BODY)
        return None

    def _by_visitor(self, scope: Scope, address: str) -> PlainTextResponse | None:
        """Why a visitor's request is refused before its body is read, if it is."""
        path, length = scope["path"], int(Headers(scope=scope).get("content-length") or 0)
        if path.startswith(FILE):
            return refuse(403, "Only the owner of this lab may read uploaded files.")
        if path.startswith(UPLOAD):
            return refuse(403, "Only the owner of this lab may upload files.")
        if path.startswith("/gradio_api/call/"):  # its responses are stored until they are read
            return refuse(403, "Only the owner of this lab may use this route. Use the page, or gradio_client.")
        if scope["method"] == "POST" and length > VISITOR_BODY:
            return _too_large(length, VISITOR_BODY)
        if address and self.open[address] >= VISITOR_REQUESTS:
            return _too_many(f"{VISITOR_REQUESTS} requests of your address are open")
        if address and not self._take_token(address):
            return _too_many(f"Your address makes more than {VISITOR_RATE:.0f} requests a second")
        return None

    def _by_call(self, body: bytes, address: str) -> PlainTextResponse | None:
        """Why a visitor's call of a handler is refused, if it is."""
        files: list[str] = []

        def note_file(value: dict[str, Any]) -> dict[str, Any]:
            if isinstance(meta := value.get("meta"), dict) and meta.get("_type") == "gradio.FileData":
                files.append(str(value.get("path")))
            return value

        try:
            session = json.loads(body, object_hook=note_file)["session_hash"]
        except (ValueError, KeyError, TypeError, RecursionError):
            session = None
        if not isinstance(session, str) or not re.fullmatch(r"[\w-]{1,64}", session):
            return refuse(400, "A call is a JSON object that names its session_hash in letters and digits.")
        if not all(map(self._is_own_file, files)):  # Gradio would copy the file before the handler is called
            return refuse(403, "Only the owner of this lab may send files.")
        if self.queue.unread(session) > VISITOR_UNREAD:
            return _too_many(f"{VISITOR_UNREAD} answers have not been read")
        if not address:
            return None
        if not self._may_open(session, address):
            return _too_many(f"Your address has opened {VISITOR_SESSIONS} pages in {SESSION_SECONDS / 60:.0f} minutes")
        queued = sum(client_address(self.settings, other) == address for other in self.queue.waiting())
        if queued + self.calling[address] > VISITOR_QUEUED:
            return _too_many(f"{VISITOR_QUEUED} calls of your address are waiting")
        return None

    def _may_open(self, session: str, address: str) -> bool:
        """Whether the session is known, or the address may open another: Gradio stores a state for each session."""
        now = time.monotonic()
        last = {name: next(reversed(known.values())) for name, known in self.sessions.items()}
        for name in [name for name, at in last.items() if now - at > SESSION_SECONDS]:
            del self.sessions[name]
        known = self.sessions.setdefault(address, {session: now})
        if session not in known and sum(now - at < SESSION_SECONDS for at in known.values()) >= VISITOR_SESSIONS:
            return False
        known.pop(session, None)
        known[session] = now
        if len(known) > 2 * VISITOR_SESSIONS:
            del known[next(iter(known))]  # the least recently used
        return True

    def _is_own_file(self, name: str) -> bool:
        """Whether it is the absolute path of an existing file in the folder of uploads."""
        try:
            path = Path(name)
            return path.is_absolute() and path.resolve().is_relative_to(self.files) and path.is_file()
        except (OSError, ValueError):  # the name is too long or has a NUL
            return False

    def _take_token(self, address: str) -> bool:
        """Token bucket: VISITOR_BURST requests at once, VISITOR_RATE a second after that."""
        now = time.monotonic()
        if len(self.tokens) > 10_000:  # forget addresses whose bucket is full again
            self.tokens = {
                name: entry for name, entry in self.tokens.items() if now - entry[0] < VISITOR_BURST / VISITOR_RATE
            }
        last, left = self.tokens.get(address, (now, VISITOR_BURST))
        left = min(VISITOR_BURST, left + (now - last) * VISITOR_RATE)
        self.tokens[address] = (now, max(0.0, left - 1))
        return left >= 1


class GradioQueue:
    """Reads Gradio's queue. Only this class depends on its private attributes."""

    def __init__(self, page: gr.Blocks) -> None:
        self.page = page

    def waiting(self) -> list[Scope]:
        """The scopes of the calls that wait for their handler."""
        queues = self.page._queue.event_queue_per_concurrency_id.values()
        return [event.request.scope for queue in queues for event in queue.queue]

    def unread(self, session: str) -> int:
        """The number of unread messages of a session."""
        pending = self.page._queue.pending_messages_per_session
        return pending[session].qsize() if session in pending else 0


@contextlib.contextmanager
def _counted(counter: Counter[str], address: str) -> Iterator[None]:
    counter[address] += 1
    try:
        yield
    finally:
        counter[address] -= 1
        if not counter[address]:
            del counter[address]


async def _read(receive: Receive) -> bytes:
    """Read the whole body, whose Content-Length was checked. The rest is missing if the client leaves."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


def _read_before(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body that was read before."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay


def _too_large(length: int, limit: int) -> PlainTextResponse:
    return refuse(413, f"The request has {length / 1000:,.0f} kB; {limit / 1000:,.0f} kB are allowed. Send less text.")


def _too_many(what: str) -> PlainTextResponse:
    answer = refuse(429, f"{what}. Close other tabs of this lab, wait a few seconds, then try again.")
    answer.headers["retry-after"] = "5"
    return answer
