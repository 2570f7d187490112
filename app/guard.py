"""Permissions. Every handler that changes, spends, downloads or deletes something calls this module first.

Hidden buttons and private endpoints protect nothing, because any client can post to them. On a laptop the app listens
on loopback only, and every user is the owner. On a Space every user is a visitor, except the logged-in creator.
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

VISITOR_SECONDS = 4 * 3600  # for which the conversation of an unused page is kept
VISITOR_CHARACTERS, VISITOR_MESSAGES = 40_000, 200  # limits of a visitor's conversation, with the answers


class Role(StrEnum):
    OWNER = "owner"
    VISITOR = "visitor"


def role(settings: Settings, request: gr.Request | None) -> Role:
    """The role of the user who sent a request. On a Space it depends on the login with Hugging Face."""
    return role_of(settings, request.request.scope if request and request.request else {})


def role_of(settings: Settings, scope: Scope | dict[str, Any]) -> Role:
    """As `role`, for an ASGI scope that has been through the session middleware."""
    if settings.space_id:
        configured = settings.oauth_client_secret.get_secret_value() and settings.space_creator_user_id
        return Role.OWNER if configured and _user_id(scope) == settings.space_creator_user_id else Role.VISITOR
    return Role.OWNER if settings.lab_trusted or _loopback(settings.lab_host) else Role.VISITOR


def may_change(settings: Settings, request: gr.Request | None) -> bool:
    """Whether the user is the owner, who may change, spend, download and delete."""
    return role(settings, request) is Role.OWNER


def require_owner(settings: Settings, request: gr.Request | None, what: str) -> None:
    """LabError unless the user is the owner. `what` completes the sentence: Only the owner may ..."""
    if not may_change(settings, request):
        raise LabError(
            f"Only the owner of this lab may {what}. Log in as its owner, or run your own lab: clone the repository "
            "and run `make run`."
        )


def bounded(settings: Settings, request: gr.Request | None, sampling: Sampling) -> Sampling:
    """Limit the settings of a visitor. LabError for a setting that only the owner may use."""
    if sampling.grammar:
        require_owner(settings, request, "use a grammar, because a bad one can stop the answers of all users")
    if may_change(settings, request):
        return sampling
    return sampling.model_copy(update={"max_tokens": min(sampling.max_tokens, settings.lab_visitor_tokens)})


def require_short(settings: Settings, request: gr.Request | None, texts: Iterable[str]) -> None:
    """LabError if a visitor's conversation is too long for the memory of this machine."""
    if may_change(settings, request):
        return
    lengths = [len(text) for text in texts]
    if sum(lengths) > VISITOR_CHARACTERS or len(lengths) > VISITOR_MESSAGES:
        raise LabError(
            f"This conversation has {sum(lengths):,} characters in {len(lengths):,} messages; the limit for visitors "
            f"is {VISITOR_CHARACTERS:,} in {VISITOR_MESSAGES}. Start a new one, or send a shorter message."
        )


def state_seconds(settings: Settings) -> int | None:
    """Seconds for which the conversation of an unused page is kept; None (no limit) if there are no visitors."""
    return None if role(settings, None) is Role.OWNER else VISITOR_SECONDS


def visitor(settings: Settings, request: gr.Request | None) -> tuple[str, str]:
    """Address and session of a visitor, for a fair queue; both empty for the owner."""
    if request is None or not request.request or may_change(settings, request):
        return "", ""
    return client_address(settings, request.request.scope), request.session_hash or ""


def client_address(settings: Settings, scope: Scope) -> str:
    """The network address that limits are kept for; empty if the proxy of a Space does not send it.

    Behind a proxy (a Space, or a proxy on this machine) it is the last public address of X-Forwarded-For, because
    the client can write the addresses before it.
    """
    peer = str((scope.get("client") or ("",))[0])
    if not settings.space_id and not _loopback(peer):
        return peer
    for name in reversed(",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")):
        try:
            address = _forwarded(name.strip())
        except ValueError:
            break  # the client may have written the entries before
        if address.is_global or not settings.space_id:  # requests to a Space go through private addresses
            # an IPv6 subscriber has a whole /64
            return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))
    return "" if settings.space_id else peer


def _forwarded(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An entry of X-Forwarded-For, with or without a port. ValueError if it is not an address."""
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    address = ipaddress.ip_address(name)
    return getattr(address, "ipv4_mapped", None) or address


def _user_id(scope: Scope | dict[str, Any]) -> str:
    """The Hub id of the logged-in user; empty if nobody is logged in or the login has expired."""
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
    """Decorator for handlers. Shows a LabError as a toast. Logs any other exception, and shows its number."""

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


def _toast(settings: Settings, exception: Exception) -> gr.Error:
    if isinstance(exception, LabError):
        return error(str(exception))
    number = secrets.token_hex(4)
    formatter = logging.Formatter()
    trace = formatter.formatException((type(exception), exception, exception.__traceback__))
    log.error("bug %s\n%s", number, redact(trace, settings.secrets()))
    return error(
        f"The app has a bug. Your data is not lost. Try again; if it happens again, report the lines in the terminal "
        f"that follow “bug {number}”."
    )


def error(text: str) -> gr.Error:
    """A toast to raise. It shows the text without markup, as all toasts here."""
    return gr.Error(markup.toast(text), print_exception=False)


def warning(text: str) -> None:
    """Show a toast about something that was refused."""
    gr.Warning(markup.toast(text))


def info(text: str) -> None:
    """Show a toast about something that was done."""
    gr.Info(markup.toast(text))


def fetch_nothing() -> None:
    """Stop Gradio from downloading addresses that a client sends in place of a file."""

    async def refuse(url: str, cache_dir: str) -> str:
        raise error("This lab does not download files from addresses. Upload the file.")

    processing_utils.async_ssrf_protected_download = refuse
