"""Who may do what. Every handler that changes, spends, downloads or deletes asks here first.

Hidden buttons and private endpoints protect nothing: anyone can post to them. On a laptop the app listens to this
machine only and whoever reaches it is its owner; on a Space everybody is a visitor except the logged-in creator.
"""

import functools
import inspect
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, TypeVar

import gradio as gr
from gradio import processing_utils
from starlette.datastructures import Headers
from starlette.types import Scope

from app import markup
from backend.core.errors import LabError, redact
from backend.core.settings import Settings
from backend.inference.sampling import Sampling

log = logging.getLogger("peft-lab")
Handler = TypeVar("Handler", bound=Callable[..., Any])

VISITOR_SECONDS = 4 * 3600  # that the conversation of an unused page is kept
VISITOR_CHARACTERS, VISITOR_MESSAGES = 40_000, 200  # of a visitor's conversation, answers included


class Role(StrEnum):
    OWNER = "owner"
    VISITOR = "visitor"


def role(settings: Settings, request: gr.Request | None) -> Role:
    """The person behind a request. An identity counts only where Hugging Face vouches for it."""
    return role_of(settings, request.request.scope if request and request.request else {})


def role_of(settings: Settings, scope: Scope | dict[str, Any]) -> Role:
    """The same for a request that Gradio has not wrapped; its session must have been read from the cookie."""
    if settings.space_id:
        vouched = settings.oauth_client_secret.get_secret_value() and settings.space_creator_user_id
        return Role.OWNER if vouched and _user_id(scope) == settings.space_creator_user_id else Role.VISITOR
    return Role.OWNER if settings.lab_trusted or _loopback(settings.lab_host) else Role.VISITOR


def may_change(settings: Settings, request: gr.Request | None) -> bool:
    """Whether this person may change, spend, download or delete what is kept here."""
    return role(settings, request) is Role.OWNER


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


def require_short(settings: Settings, request: gr.Request | None, texts: Iterable[str]) -> None:
    """LabError if a visitor's conversation has grown so long that it would fill the memory of this machine."""
    if may_change(settings, request):
        return
    lengths = [len(text) for text in texts]
    if sum(lengths) > VISITOR_CHARACTERS or len(lengths) > VISITOR_MESSAGES:
        raise LabError(
            f"This conversation has {sum(lengths):,} characters in {len(lengths):,} messages; a visitor's may have "
            f"{VISITOR_CHARACTERS:,} in {VISITOR_MESSAGES}. Start a new one, or send a shorter message."
        )


def state_seconds(settings: Settings) -> int | None:
    """How long the conversation of a page is kept that nothing is sent from; for ever where there are no visitors."""
    return None if role(settings, None) is Role.OWNER else VISITOR_SECONDS


def visitor(settings: Settings, request: gr.Request | None) -> tuple[str, str]:
    """Address and session of a visitor, between whom the line is fair; both empty for the owner."""
    if request is None or not request.request or may_change(settings, request):
        return "", ""
    return client_address(settings, request.request.scope), request.session_hash or ""


def client_address(settings: Settings, scope: Scope) -> str:
    """The address that a limit per address is kept for; empty where the proxy of a Space does not tell it.

    Behind a proxy (a Space, or a proxy on this machine) it is the last public address of X-Forwarded-For: what the
    client wrote itself comes before it.
    """
    peer = str((scope.get("client") or ("",))[0])
    if not settings.space_id and not _loopback(peer):
        return peer
    for name in reversed(",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")):
        try:
            address = _forwarded(name.strip())
        except ValueError:
            break  # what comes before it may be written by the client
        if address.is_global or not settings.space_id:  # a Space's requests pass private hops
            # of IPv6, a subscriber has a whole /64
            return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))
    return "" if settings.space_id else peer


def _forwarded(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An entry of X-Forwarded-For, with or without a port. ValueError if it is no address."""
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    address = ipaddress.ip_address(name)
    return getattr(address, "ipv4_mapped", None) or address


def _user_id(scope: Scope | dict[str, Any]) -> str:
    """The Hub's id of the logged-in user; empty when there is none or the login has expired."""
    info = (scope.get("session") or {}).get("oauth_info") or {}
    expires = info.get("expires_at")
    if expires is not None and not (isinstance(expires, int | float) and expires > time.time()):
        return ""
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
            def stream(*values: Any, **named: Any) -> Iterator[Any]:
                try:
                    yield from handler(*values, **named)
                except Exception as error:
                    raise _toast(settings, error) from None

            return stream  # type: ignore[return-value]

        @functools.wraps(handler)
        def call(*values: Any, **named: Any) -> Any:
            try:
                return handler(*values, **named)
            except Exception as error:
                raise _toast(settings, error) from None

        return call  # type: ignore[return-value]

    return wrap


def _toast(settings: Settings, caught: Exception) -> gr.Error:
    if isinstance(caught, LabError):
        return error(str(caught))
    number = secrets.token_hex(4)
    formatter = logging.Formatter()
    trace = formatter.formatException((type(caught), caught, caught.__traceback__))
    log.error("bug %s\n%s", number, redact(trace, settings.secrets()))
    return error(
        f"This is a fault of the app, not yours. Nothing you made is lost; try again. If it comes back, report the "
        f"lines of the terminal that follow “bug {number}”."
    )


def error(text: str) -> gr.Error:
    """A toast to be raised. Like every toast of the app it shows this text and no markup."""
    return gr.Error(markup.toast(text), print_exception=False)


def warning(text: str) -> None:
    """Show a toast of something refused."""
    gr.Warning(markup.toast(text))


def info(text: str) -> None:
    """Show a toast of something done."""
    gr.Info(markup.toast(text))


def fetch_nothing() -> None:
    """The framework would download any address that stands where a file could, before a handler asks who wants it."""

    async def refuse(url: str, cache_dir: str) -> str:
        raise error("This lab takes files, not addresses of files. Upload the file.")

    processing_utils.async_ssrf_protected_download = refuse
