"""Rules for HTTP requests that do not depend on the user: host, origin, route, size, response headers.

Rules for visitors are in `app/visitor_limits.py`. `docs/security.md` lists all rules and their tests.
"""

import asyncio
import logging
import re
import traceback
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.core.settings import Settings

log = logging.getLogger("peft-lab")

# The routes that the page and gradio_client use. Gradio has others (proxy=, stream/, component_server, deep_link,
# process_recording, monitoring, run-history, vibe-*), which download addresses, store files or report on the app.
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
SINGLE = ("host", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "content-length")
FILE = "/gradio_api/file="
KNOWN_HOST = "peft_lab.known_host"  # set in the scope of a request by the check of its Host header
NAVIGABLE = ("/", "/login/huggingface", "/login/callback")  # paths that a link on another site may open

MAX_PATH = 4000  # characters of a path and its query

# Model output may have remote images, scripts and forms. The browser must not load, run or submit them.
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-src 'none'; object-src 'none'; base-uri 'self'; form-action 'self'; connect-src 'self' data: blob:"
)
# On a Space, the page requests the state of the Space from the Hub, and the Hub shows the page in a frame.
HUB, HUB_FRAMES = " https://huggingface.co", " https://huggingface.co https://*.huggingface.co"
FILE_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
INLINE = re.compile(r"(image/(png|jpeg|gif|webp)|audio/[\w.+-]+|video/[\w.+-]+)")


class RequestRules:
    """ASGI middleware: refuses requests that this app never sends itself, and adds security headers to responses.

    A page on another site can make a browser send requests here with the cookies of a logged-in owner, and its name
    may resolve to this machine. Such a request has the name of that page in Host or Origin, or a Sec-Fetch-Site
    header. Host is not checked on a Space, because the proxy of Hugging Face checks it.
    """

    def __init__(self, app: ASGIApp, settings: Settings, stopping: asyncio.Event) -> None:
        """`stopping`: set when the server ends, so that open streams end at once."""
        self.app, self.settings, self.stopping = app, settings, stopping
        self.hosts = TrustedHostMiddleware(_accept, allowed_hosts=own_hosts(settings), www_redirect=False)
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
            """Receive a message, or a disconnect when the server ends, so that streams end."""
            ends = asyncio.create_task(self.stopping.wait())
            message = asyncio.ensure_future(receive())
            try:
                await asyncio.wait({ends, message}, return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                ends.cancel()
                message.cancel()

        refusal = refused(self.settings, scope) or await self._refused_host(scope)
        try:
            await (refusal or self.app)(scope, receive_or_stop, with_headers)
        except Exception as error:  # one line, because tracebacks that a visitor causes would fill the log
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            log.error("%s %.100s: %s: %.200s (%s)", scope["method"], scope["path"], type(error).__name__, error, where)
            if not started:
                await refuse(500, "This request cannot be answered.")(scope, receive, with_headers)
        if streaming:  # the response was cut off
            await send({"type": "http.response.body"})

    async def _refused_host(self, scope: Scope) -> PlainTextResponse | None:
        """The response to a request whose Host is not a name of this app, or None. Starlette checks the name."""
        if not self.settings.space_id:
            await self.hosts(scope, _receive_nothing, _send_nothing)
        if self.settings.space_id or scope.pop(KNOWN_HOST, False):
            return None
        host = Headers(scope=scope).get("host", "")
        return refuse(
            403,
            f"This lab is not served under the name {host[:100] or '(none)'!r}. Open it as http://127.0.0.1, or add "
            "the name to LAB_HOSTS in .env.",
        )


async def _accept(scope: Scope, receive: Receive, send: Send) -> None:
    scope[KNOWN_HOST] = True


async def _receive_nothing() -> Message:
    return {"type": "http.disconnect"}


async def _send_nothing(message: Message) -> None:
    return


def own_hosts(settings: Settings) -> list[str]:
    """The host names of this app, as in a Host header without a port. Wildcards are ignored."""
    names = {"localhost", "127.0.0.1", "::1", settings.lab_host, *settings.lab_hosts.split(",")}
    hosts = {urlsplit(f"//{_bracketed(name.strip())}").hostname for name in names if name.strip() and "*" not in name}
    return sorted(_bracketed(host) for host in hosts if host)


def refused(settings: Settings, scope: Scope) -> PlainTextResponse | None:
    """The response to a request that is refused, or None. The Host header is checked in `_refused_host`."""
    headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
    if any(len(headers.getlist(name)) > 1 for name in SINGLE):  # a proxy and the app could read different ones
        return refuse(400, f"Send each of these headers once: {', '.join(SINGLE)}.")
    if "origin" in headers and not own_origin(settings, headers):
        return refuse(
            403,
            f"This request comes from a page of {headers['origin'][:100]!r}, which is not this lab. Use the lab's own "
            "page. If that is its own address, add its name to LAB_HOSTS in .env.",
        )
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not _is_link(settings, scope, headers):
        return refuse(403, "This request was made by another site. Open the lab's own page, then try again.")
    routes = {"GET": READABLE, "HEAD": READABLE, "POST": WRITABLE}.get(method)
    if len(path) + len(scope["query_string"]) > MAX_PATH:
        return refuse(414, f"The address has more than {MAX_PATH:,} characters.")
    if routes is None:
        return refuse(405, f"The lab answers GET, HEAD and POST, not {method[:20]}.")
    if not routes.fullmatch(path) or "deep_link" in parse_qs(scope["query_string"].decode("latin-1")):
        return refuse(404, "The lab has no such address.")
    length = headers.get("content-length", "")
    if method == "POST" and (not length.isdecimal() or "transfer-encoding" in headers):
        return refuse(411, "The request has no Content-Length header. Send one.")
    return None


def own_origin(settings: Settings, headers: Headers) -> bool:
    """Whether the Origin header is the address of this app, with its port."""
    try:
        parts = urlsplit(headers["origin"])
        origin = _netloc(parts.netloc)
    except ValueError:
        return False
    if headers["origin"].lower() != f"{parts.scheme}://{parts.netloc}".lower() or parts.scheme not in ("http", "https"):
        return False
    own = {headers.get("host", ""), *settings.lab_hosts.split(",")}
    if settings.space_id:  # a browser sends a preflight before it sets this header, and preflights are refused
        own |= {headers.get("x-forwarded-host", ""), *settings.space_host.split(",")}
    return origin in {_netloc(name.strip()) for name in own} - {""}


def _secure(headers: MutableHeaders, path: str, policy: str) -> None:
    headers["content-security-policy"] = policy
    headers["x-content-type-options"] = "nosniff"
    headers["referrer-policy"] = "same-origin"
    headers["cross-origin-resource-policy"] = "same-origin"
    for name in [name for name in headers if name.startswith("access-control-")]:
        del headers[name]
    if path.startswith(FILE):  # a file must never run as a page of this app
        headers["content-security-policy"] = FILE_POLICY
        kind = headers.get("content-type", "").partition(";")[0].strip()
        if not INLINE.fullmatch(kind):
            headers["content-disposition"] = "attachment"


def _is_link(settings: Settings, scope: Scope, headers: Headers) -> bool:
    """Whether the user follows a link from another site, or opens the page in the Hub's frame or after its login."""
    frames = ("document", "iframe") if settings.space_id else ("document",)
    return (
        scope["method"] in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") in frames
        and scope["path"] in NAVIGABLE
    )


def _netloc(name: str) -> str:
    """`host` or `host:port` in lower case, without the default port of the scheme."""
    parts = urlsplit(f"//{_bracketed(name)}")
    if not parts.hostname or parts.path or "@" in parts.netloc:
        return ""
    return parts.hostname if parts.port in (None, 80, 443) else f"{parts.hostname}:{parts.port}"


def _bracketed(name: str) -> str:
    """An IPv6 address in the brackets that a URL needs."""
    return f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name


def refuse(status: int, sentence: str) -> PlainTextResponse:
    return PlainTextResponse(sentence + "\n", status_code=status)
