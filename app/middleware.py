"""Which HTTP requests reach the app: the one module for requests.

`RequestRules` wraps everything and knows no user: host, origin, route, size, response headers. `VisitorLimits` runs
inside Gradio's session middleware, so it knows who asks: files, uploads, and how much one visitor may ask for.
`docs/security.md` lists the rules and the tests that hold them.
"""

import asyncio
import contextlib
import json
import logging
import re
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from weakref import WeakValueDictionary

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.guard import Who, client_address, who_asks
from backend.settings import Settings

log = logging.getLogger("peft-lab")

# The routes that the page and gradio_client use. Gradio has others (proxy=, stream/, component_server, deep_link,
# process_recording, monitoring, run-history, vibe-*): they fetch addresses, keep files or report on the app.
READABLE = re.compile(
    r"""/ | /config/? | /favicon\.ico | /manifest\.json | /robots\.txt | /theme\.css | /pwa_icon(/\w+)?
    | /(static|assets|svelte)/.+ | /login/huggingface/? | /login/callback/? | /logout/?
    | /gradio_api/(info|openapi\.json|app_id|user|token|login_check|startup-events|theme\.css)/?
    | /gradio_api/(upload_progress|heartbeat/[^/]+|queue/(data|status)|call/[^/]+/[^/]+|call/v2/[^/]+/[^/]+)
    | /gradio_api/file=.+""",
    re.VERBOSE,
)
WRITABLE = re.compile(
    r"/gradio_api/((queue/join|cancel|reset|upload)/?|(run|api|call|call/v2)/[^/]+/?)",
)
CALLS = re.compile(r"/gradio_api/(queue/join|run/|api/).*")
STATIC = re.compile(r"/(static|assets|svelte)/.+|/favicon\.ico|/theme\.css|/manifest\.json")
HEAVY = re.compile(r"/|/config/?|/gradio_api/(info|openapi\.json)/?")  # 0.1 s of computing and 1 MB each
SINGLE = ("host", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "content-length")
FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
NAVIGABLE = ("/", "/login/huggingface", "/login/callback")  # what a link on another site may open

LONGEST_PATH = 4000  # characters of a path and its query
SPARE = 200_000_000  # bytes of disk that an upload leaves free
LARGEST_BODY = 32_000_000  # bytes of a JSON body from the owner
VISITOR_BODY = 256_000  # bytes of a JSON body from a visitor
VISITOR_REQUESTS = 100  # calls and streams of one address that are open at the same time
VISITOR_IN_LINE = 24  # calls of one address that wait in Gradio's queue, which holds 64
VISITOR_RATE, VISITOR_BURST = 50.0, 200.0  # requests per second of one address, and how many may come at once
VISITOR_SESSIONS, SESSION_SECONDS = 40, 600.0  # new sessions (browser tabs) of one address in so many seconds
VISITOR_UNREAD = 30  # answers that wait for one session to read them

# Model output may name remote images, scripts and forms; the browser is told to load, run and submit none of them.
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-src 'none'; object-src 'none'; base-uri 'self'; form-action 'self'; connect-src 'self' data: blob:"
)
# On a Space, Gradio asks the Hub for the state of the Space, and the Hub shows the page in a frame.
HUB, HUB_FRAMES = " https://huggingface.co", " https://huggingface.co https://*.huggingface.co"
FILE_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
INLINE = re.compile(r"(image/(png|jpeg|gif|webp)|audio/[\w.+-]+|video/[\w.+-]+)")


class RequestRules:
    """ASGI middleware: refuses what no page of this app would ask for, and sends security headers with every answer.

    A page on another site can make a browser send requests here, with the cookies of a logged-in owner; its own name
    may even be made to resolve to this machine. Such a request carries that page's name in Host or Origin, or the
    browser says so in Sec-Fetch-Site. Host is not checked on a Space, where Hugging Face's proxy has done it.
    """

    def __init__(self, app: ASGIApp, settings: Settings, stopping: asyncio.Event) -> None:
        """`stopping`: set when the server ends, so that open streams end at once."""
        self.app, self.settings, self.stopping = app, settings, stopping
        hub, frames = (HUB, HUB_FRAMES) if settings.space_id else ("", "")
        self.policy = f"{PAGE_POLICY}{hub}; frame-ancestors 'self'{frames}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the app has no websockets
            return

        started = streaming = False

        async def with_headers(message: Message) -> None:
            nonlocal started, streaming
            started = True
            if message["type"] == "http.response.start":
                _secure(MutableHeaders(scope=message), scope["path"], self.policy)
            streaming = message["type"] == "http.response.start" or message.get("more_body", False)
            await send(message)

        async def receive_or_stop() -> Message:
            """A stream that waits here for the client to leave sees it leave when the server ends."""
            ends = asyncio.create_task(self.stopping.wait())
            message = asyncio.ensure_future(receive())
            try:
                await asyncio.wait({ends, message}, return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                ends.cancel()
                message.cancel()

        refusal = refused(self.settings, scope)
        try:
            await (refusal or self.app)(scope, receive_or_stop, with_headers)
        except Exception as error:  # one line: whoever can cause it could fill the log with traces
            at = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(at.filename).name}:{at.lineno}"
            log.error("%s %.100s: %s: %.200s (%s)", scope["method"], scope["path"], type(error).__name__, error, where)
            if not started:
                await _refuse(500, "This request cannot be answered.")(scope, receive, with_headers)
        if streaming:  # it was ended before it was whole
            await send({"type": "http.response.body"})


def refused(settings: Settings, scope: Scope) -> PlainTextResponse | None:
    """The answer to a request that must not reach the app, or None."""
    headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
    if any(len(headers.getlist(name)) > 1 for name in SINGLE):  # a proxy and the app may each read another one
        return _refuse(400, f"Send each of these headers once: {', '.join(SINGLE)}.")
    if not settings.space_id and (name := _unknown_host(settings, headers.get("host", ""))):
        return _refuse(
            403,
            f"This lab does not answer to the name {name!r}. Open it as http://127.0.0.1, or add the name to "
            "LAB_HOSTS in .env.",
        )
    if "origin" in headers and not own_origin(settings, headers):
        return _refuse(
            403,
            f"This request comes from a page of {headers['origin'][:100]!r}, which is not this lab. Use the lab's own "
            "page. If that is its own address, add its name to LAB_HOSTS in .env.",
        )
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not _is_link(settings, scope, headers):
        return _refuse(403, "This request was made by another site. Open the lab's own page, then try again.")
    routes = {"GET": READABLE, "HEAD": READABLE, "POST": WRITABLE}.get(method)
    if len(path) + len(scope["query_string"]) > LONGEST_PATH:
        return _refuse(414, f"The address has more than {LONGEST_PATH:,} characters.")
    if routes is None:
        return _refuse(405, f"The lab answers GET, HEAD and POST, not {method[:20]}.")
    if not routes.fullmatch(path) or "deep_link" in parse_qs(scope["query_string"].decode("latin-1")):
        return _refuse(404, "The lab has no such address.")
    length = headers.get("content-length", "")
    if method == "POST" and (not length.isdecimal() or "transfer-encoding" in headers):
        return _refuse(411, "Say how long the body is (Content-Length).")
    return None


def own_origin(settings: Settings, headers: Headers) -> bool:
    """Whether the Origin header names the address at which this request reached the app, port included."""
    try:
        parts = urlsplit(headers["origin"])
        origin = _netloc(parts.netloc)
    except ValueError:
        return False
    if headers["origin"].lower() != f"{parts.scheme}://{parts.netloc}".lower() or parts.scheme not in ("http", "https"):
        return False
    own = {headers.get("host", ""), *settings.lab_hosts.split(",")}
    if settings.space_id:  # a browser cannot set this header without a preflight, and preflights are refused
        own |= {headers.get("x-forwarded-host", ""), *settings.space_host.split(",")}
    return origin in {_netloc(name.strip()) for name in own} - {""}


class VisitorLimits:
    """ASGI middleware inside the session: what depends on who asks. The owner has no limits but the disk's.

    Limits are kept per network address. Where it is not known, only the form of a request is checked.
    """

    def __init__(self, app: ASGIApp, settings: Settings, files: Path, queue: "GradioQueue") -> None:
        """`files`: the folder that uploads are kept in, the only one that files are served from."""
        self.app, self.settings, self.files, self.queue = app, settings, files.resolve(), queue
        self.open: Counter[str] = Counter()
        self.calling: Counter[str] = Counter()
        self.tokens: dict[str, tuple[float, float]] = {}
        self.sessions: dict[str, dict[str, float]] = {}
        self.heavy: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif who_asks(self.settings, scope) is Who.OWNER:
            await (self._by_owner(scope) or self.app)(scope, receive, send)
        else:
            await self._visit(scope, receive, send)

    async def _visit(self, scope: Scope, receive: Receive, send: Send) -> None:
        address, path = client_address(self.settings, scope), scope["path"]
        if STATIC.fullmatch(path):  # a page loads some 100 of them at once
            await self.app(scope, receive, send)
        elif refusal := self._by_visitor(scope, address):
            await refusal(scope, receive, send)
        elif HEAVY.fullmatch(path):
            with _counted(self.open, address):
                async with self.heavy.setdefault(address, asyncio.Semaphore(1)):
                    await self.app(scope, receive, send)
        elif scope["method"] == "POST" and CALLS.fullmatch(path):
            with _counted(self.open, address):
                body = await _read(receive)
                with _counted(self.calling, address):
                    answer = self._by_call(body, address) or self.app
                    await answer(scope, _read_before(body, receive), send)
        else:
            with _counted(self.open, address):
                await self.app(scope, receive, send)

    def _by_owner(self, scope: Scope) -> PlainTextResponse | None:
        path, length = scope["path"], int(Headers(scope=scope).get("content-length") or 0)
        if path.startswith(FILE) and not self._is_own_file(path.removeprefix(FILE)):
            return _refuse(403, "Only files that were uploaded here are served, by their path.")
        if path.startswith(UPLOAD):
            free = shutil.disk_usage(self.files).free
            if length + SPARE > free:
                sizes = f"{length / 1e6:,.0f} MB and {free / 1e6:,.0f} MB of disk are free"
                return _refuse(413, f"The upload has {sizes}. Free some, or choose a smaller file.")
        elif scope["method"] == "POST" and length > LARGEST_BODY:
            return _too_large(length, LARGEST_BODY)
        return None

    def _by_visitor(self, scope: Scope, address: str) -> PlainTextResponse | None:
        """Why a visitor's request is refused before its body is read, if it is."""
        path, length = scope["path"], int(Headers(scope=scope).get("content-length") or 0)
        if path.startswith(FILE):
            return _refuse(403, "Only the owner of this lab may read uploaded files.")
        if path.startswith("/gradio_api/upload"):
            return _refuse(403, "Only the owner of this lab may upload files.")
        if path.startswith("/gradio_api/call/"):  # its answers are kept until they are read, by a key of their own
            return _refuse(403, "Only the owner of this lab may use this route. Use the page, or gradio_client.")
        if scope["method"] == "POST" and length > VISITOR_BODY:
            return _too_large(length, VISITOR_BODY)
        if address and self.open[address] >= VISITOR_REQUESTS:
            return _too_many(f"{VISITOR_REQUESTS} requests of your address are open")
        if address and not self._take_token(address):
            return _too_many(f"Your address makes more than {VISITOR_RATE:.0f} requests a second")
        return None

    def _by_call(self, body: bytes, address: str) -> PlainTextResponse | None:
        """Why a visitor's call of a handler is refused, if it is."""
        try:
            call = json.loads(body)
            session = call["session_hash"]
        except (ValueError, KeyError, TypeError, RecursionError):
            session = None
        if not isinstance(session, str) or not re.fullmatch(r"[\w-]{1,64}", session):
            return _refuse(400, "A call is a JSON object that names its session_hash in letters and digits.")
        if "gradio.FileData" in json.dumps(call, ensure_ascii=False):  # Gradio would read and copy the file it names
            return _refuse(403, "Only the owner of this lab may hand files to it.")
        if self.queue.unread(session) > VISITOR_UNREAD:
            return _too_many(f"{VISITOR_UNREAD} answers wait to be read")
        if not address:
            return None
        if not self._may_begin(session, address):
            return _too_many(f"Your address has opened {VISITOR_SESSIONS} pages in {SESSION_SECONDS / 60:.0f} minutes")
        queued = sum(client_address(self.settings, other) == address for other in self.queue.waiting())
        if queued + self.calling[address] > VISITOR_IN_LINE:
            return _too_many(f"{VISITOR_IN_LINE} calls of your address are waiting")
        return None

    def _may_begin(self, session: str, address: str) -> bool:
        """Whether the session is known, or the address may have another one: Gradio keeps a state for each."""
        now = time.monotonic()
        for name in [name for name, known in self.sessions.items() if now - max(known.values()) > SESSION_SECONDS]:
            del self.sessions[name]
        known = self.sessions.setdefault(address, {session: now})
        if session not in known and sum(now - at < SESSION_SECONDS for at in known.values()) >= VISITOR_SESSIONS:
            return False
        known.pop(session, None)
        known[session] = now
        if len(known) > 2 * VISITOR_SESSIONS:
            del known[next(iter(known))]  # the one that was not used for longest
        return True

    def _is_own_file(self, name: str) -> bool:
        """Whether it is the absolute path of a file in the upload folder. An address of any kind is not."""
        try:
            path = Path(name)
            return path.is_absolute() and path.resolve().is_relative_to(self.files) and path.is_file()
        except (OSError, ValueError):  # too long, or a NUL in it
            return False

    def _take_token(self, address: str) -> bool:
        """Token bucket: VISITOR_BURST requests at once, VISITOR_RATE a second after that."""
        now = time.monotonic()
        if len(self.tokens) > 10_000:  # forget addresses whose bucket is full again
            self.tokens = {name: at for name, at in self.tokens.items() if now - at[0] < VISITOR_BURST / VISITOR_RATE}
        last, left = self.tokens.get(address, (now, VISITOR_BURST))
        left = min(VISITOR_BURST, left + (now - last) * VISITOR_RATE)
        self.tokens[address] = (now, max(0.0, left - 1))
        return left >= 1


class GradioQueue:
    """What `VisitorLimits` asks of Gradio's queue, the one place that knows how Gradio keeps it."""

    def __init__(self, page: gr.Blocks) -> None:
        self.page = page

    def waiting(self) -> list[Scope]:
        """The requests of the calls that wait for their handler."""
        lines = self.page._queue.event_queue_per_concurrency_id.values()
        return [event.request.scope for line in lines for event in line.queue]

    def unread(self, session: str) -> int:
        """Messages that wait for a session to read them."""
        kept = self.page._queue.pending_messages_per_session
        return kept[session].qsize() if session in kept else 0


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
    """The whole body; the server holds it to its Content-Length, which is bounded. Nothing if the client leaves."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


def _read_before(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay


def _secure(headers: MutableHeaders, path: str, policy: str) -> None:
    headers["content-security-policy"] = policy
    headers["x-content-type-options"] = "nosniff"
    headers["referrer-policy"] = "same-origin"
    headers["cross-origin-resource-policy"] = "same-origin"
    for name in [name for name in headers if name.startswith("access-control-")]:
        del headers[name]
    if path.startswith(FILE):  # it must never run as a page of this app
        headers["content-security-policy"] = FILE_POLICY
        kind = headers.get("content-type", "").partition(";")[0].strip()
        if not INLINE.fullmatch(kind):
            headers["content-disposition"] = "attachment"


def _is_link(settings: Settings, scope: Scope, headers: Headers) -> bool:
    """Whether a person opens the page from elsewhere: a link, a bookmark service, the Hub's frame or its login."""
    frames = ("document", "iframe") if settings.space_id else ("document",)
    return (
        scope["method"] in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") in frames
        and scope["path"] in NAVIGABLE
    )


def _unknown_host(settings: Settings, host: str) -> str:
    """The name in the Host header if it is not one of ours; empty otherwise."""
    own = {"localhost", "127.0.0.1", "::1", settings.lab_host, *settings.lab_hosts.split(",")}
    try:
        name = urlsplit(f"//{host}").hostname or "" if "@" not in host else ""
        names = {urlsplit(f"//{_bracketed(one.strip())}").hostname for one in own if one.strip()}
    except ValueError:
        return host[:100] or "(none)"
    return "" if name in names else (name or host)[:100] or "(none)"


def _netloc(name: str) -> str:
    """`host` or `host:port` in lower case, without a port that is a scheme's default."""
    parts = urlsplit(f"//{_bracketed(name)}")
    if not parts.hostname or parts.path or "@" in parts.netloc:
        return ""
    return parts.hostname if parts.port in (None, 80, 443) else f"{parts.hostname}:{parts.port}"


def _bracketed(name: str) -> str:
    """An IPv6 address as a URL writes it."""
    return f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name


def _too_large(length: int, limit: int) -> PlainTextResponse:
    return _refuse(413, f"The request has {length / 1000:,.0f} kB; {limit / 1000:,.0f} kB are allowed. Send less text.")


def _too_many(what: str) -> PlainTextResponse:
    answer = _refuse(429, f"{what}. Close other tabs of this lab, wait a few seconds, then try again.")
    answer.headers["retry-after"] = "5"
    return answer


def _refuse(status: int, sentence: str) -> PlainTextResponse:
    return PlainTextResponse(sentence + "\n", status_code=status)
