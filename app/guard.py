"""Who may do what. Every handler that changes, spends, downloads or deletes asks here first.

Hidden buttons and private endpoints protect nothing: anyone can post to them. On a laptop the app listens to this
machine only and whoever reaches it is its owner; on a Space everybody is a visitor except the logged-in creator.
"""

import functools
import inspect
import ipaddress
import logging
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit

import gradio as gr
from gradio import processing_utils
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.errors import LabError, redact
from backend.inference.sampling import Sampling
from backend.settings import Settings

log = logging.getLogger("peft-lab")
Handler = TypeVar("Handler", bound=Callable[..., Any])

SPARE = 200_000_000  # bytes of disk that an upload leaves free
# Model output may name remote images; loading one would tell its server who reads this, so the browser is told not to.
POLICY = "img-src 'self' data: blob:; media-src 'self' data: blob:; object-src 'none'; base-uri 'self'"


class Who(StrEnum):
    OWNER = "owner"
    VISITOR = "visitor"


def who(settings: Settings, request: gr.Request | None) -> Who:
    """The person behind a request. An identity counts only where Hugging Face vouches for it."""
    return _who(settings, request.request.scope if request and request.request else {})


def _who(settings: Settings, scope: Scope | dict[str, Any]) -> Who:
    if settings.space_id:
        vouched = settings.oauth_client_secret.get_secret_value() and settings.space_creator_user_id
        return Who.OWNER if vouched and _user_id(scope) == settings.space_creator_user_id else Who.VISITOR
    return Who.OWNER if settings.lab_trusted or _loopback(settings.lab_host) else Who.VISITOR


def may_change(settings: Settings, request: gr.Request | None) -> bool:
    """Whether this person may change, spend, download or delete what is kept here."""
    return who(settings, request) is Who.OWNER


def require_owner(settings: Settings, request: gr.Request | None, what: str) -> None:
    """LabError unless this person may change things here."""
    if not may_change(settings, request):
        raise LabError(
            f"Only the owner of this lab may {what}. Log in as its owner, or run your own: clone the repository and "
            "type `make run`."
        )


def bounded(settings: Settings, request: gr.Request | None, sampling: Sampling) -> Sampling:
    """A visitor's answers are shorter, so that everybody gets a turn. LabError where only the owner may ask."""
    if sampling.grammar:
        require_owner(settings, request, "use a grammar, because a bad one can stop everybody's answers")
    if may_change(settings, request):
        return sampling
    return sampling.model_copy(update={"max_tokens": min(sampling.max_tokens, settings.lab_visitor_tokens)})


def _user_id(scope: Scope | dict[str, Any]) -> str:
    info = (scope.get("session") or {}).get("oauth_info") or {}
    return str((info.get("userinfo") or {}).get("sub", ""))


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(settings: Settings) -> Callable[[Handler], Handler]:
    """A decorator for handlers: a LabError becomes its own toast, a bug a short one with an id and a trace logged."""

    def wrap(handler: Handler) -> Handler:
        if inspect.isgeneratorfunction(handler):

            @functools.wraps(handler)
            def stream(*values: Any) -> Iterator[Any]:
                try:
                    yield from handler(*values)
                except Exception as error:
                    raise _toast(settings, error) from None

            return stream  # type: ignore[return-value]

        @functools.wraps(handler)
        def call(*values: Any) -> Any:
            try:
                return handler(*values)
            except Exception as error:
                raise _toast(settings, error) from None

        return call  # type: ignore[return-value]

    return wrap


def _toast(settings: Settings, error: Exception) -> gr.Error:
    if isinstance(error, LabError):
        return gr.Error(str(error), print_exception=False)
    number = secrets.token_hex(4)
    formatter = logging.Formatter()
    trace = formatter.formatException((type(error), error, error.__traceback__))
    log.error("bug %s\n%s", number, redact(trace, settings.secrets()))
    return gr.Error(
        f"This is a fault of the app, not yours. Nothing you made is lost; try again. If it comes back, report the "
        f"lines of the terminal that follow “bug {number}”.",
        print_exception=False,
    )


def fetch_nothing() -> None:
    """The framework would download any address that stands where a file could, before a handler asks who wants it."""

    async def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error("This lab takes files, not addresses of files. Upload the file.", print_exception=False)

    processing_utils.async_ssrf_protected_download = refuse


class Doorman:
    """ASGI middleware: answers only to the names this app is reached by, and sends the content policy along.

    A web page elsewhere can make a browser send requests to this machine (its own name may even be made to point
    here); such requests carry that page's name in Host or Origin. Space traffic comes through Hugging Face's proxy.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        own = {"localhost", "127.0.0.1", "::1", settings.lab_host}
        self.names = own | {name.strip().lower() for name in settings.lab_hosts.split(",") if name.strip()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if not self.settings.space_id and (stranger := self._stranger(scope)):
            text = (
                f"This lab does not answer to the name {stranger!r}. Open it as http://127.0.0.1, or add the name to "
                "LAB_HOSTS in .env.\n"
            )
            await PlainTextResponse(text, status_code=403)(scope, receive, send)
            return

        if scope["path"].rstrip("/").endswith("/upload") and (refusal := self._no_upload(scope)):
            await refusal(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, with_policy)

    def _no_upload(self, scope: Scope) -> PlainTextResponse | None:
        """Why these files are not taken, if they are not: anybody could fill the disk by them."""
        if _who(self.settings, scope) is not Who.OWNER:
            return PlainTextResponse("Only the owner of this lab may upload files.\n", status_code=403)
        told = dict(scope["headers"]).get(b"content-length", b"")
        if not told.isdigit():
            return PlainTextResponse("Say how long the upload is (Content-Length).\n", status_code=411)
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if int(told) + SPARE > free:
            text = f"The upload has {int(told) / 1e6:,.0f} MB and {free / 1e6:,.0f} MB of disk are free.\n"
            return PlainTextResponse(text, status_code=413)
        return None

    def _stranger(self, scope: Scope) -> str:
        """The name in Host or Origin that is not ours; empty if all is well."""
        headers = {key: value.decode("latin-1") for key, value in scope["headers"] if key in (b"host", b"origin")}
        for address in ("//" + headers.get(b"host", ""), headers.get(b"origin", "")):
            try:
                name = urlsplit(address).hostname or ""
            except ValueError:
                name = address
            if address not in ("", "//") and name.lower() not in self.names:
                return (name or address)[:100]
        return ""
