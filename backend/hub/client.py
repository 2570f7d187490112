"""The Hub's client for the workers: what its errors mean to a person, and when asking again makes sense."""

import difflib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import httpx
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from backend.core.errors import LabError
from backend.hub.names import Place, usable_file

ATTEMPTS = 3
LONGEST_PAUSE = 30.0  # seconds; a Hub that asks for more is left alone
BUSY = 429
HUB = "https://huggingface.co"
Result = TypeVar("Result")


def prepare() -> None:
    """Plain transfers, which can be followed and cut short, in pieces small enough to see a slow line."""
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_DISABLE_TELEMETRY = True
    constants.HF_HUB_DISABLE_PROGRESS_BARS = True
    constants.DOWNLOAD_CHUNK_SIZE = 1 << 18
    huggingface_hub.utils.logging.set_verbosity(logging.ERROR)


class Stalled(Exception):
    """Nothing arrived for too long."""


@contextmanager
def watched(patience: float) -> Iterator[None]:
    """Raises Stalled when the block takes longer than `patience` seconds and nothing calls `keep_waiting`. For the main
    thread of a worker."""

    def stalled(number: int, frame: FrameType | None) -> None:
        raise Stalled(f"{patience:.0f}")

    signal.signal(signal.SIGALRM, stalled)
    try:
        keep_waiting(patience)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def keep_waiting(patience: float) -> None:
    """Something came. The alarm rings again every second, should its first ring be lost inside a library."""
    signal.setitimer(signal.ITIMER_REAL, patience, 1.0)


def retried(ask: Callable[[], Result]) -> Result:
    """Ask, and again after a pause when the line or the Hub failed; three times at most."""
    for attempt in range(1, ATTEMPTS):
        try:
            return ask()
        except Exception as error:
            pause = pause_after(error, attempt)
            if pause is None:
                raise
            time.sleep(pause)
    return ask()


def pause_after(error: Exception, attempt: int) -> float | None:
    """Seconds to wait before asking again; None when it would change nothing."""
    for cause in chain(error):
        if isinstance(cause, HfHubHTTPError):
            if cause.response.status_code == BUSY:
                pause = retry_after(cause.response, 2.0**attempt)
                return pause if pause <= LONGEST_PAUSE else None
            return float(attempt) if cause.response.status_code >= 500 else None
        if isinstance(cause, httpx.ProxyError | httpx.UnsupportedProtocol | OfflineModeIsEnabled):
            return None
        if isinstance(cause, httpx.TransportError | Stalled) or cut_short(cause):
            return float(attempt)
    return None


def cut_short(error: BaseException) -> bool:
    """The client's own word for a file that came in another length; it has no class of its own."""
    return type(error) is OSError and error.errno is None and "Consistency check failed" in str(error)


def retry_after(response: httpx.Response, default: float) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else default


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it: the client wraps what it cannot name."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def no_network(error: BaseException) -> bool:
    """Whether nobody answered, so that only what is on disk can help; a Hub that fails counts as none."""
    return any(
        isinstance(cause, httpx.TransportError | OfflineModeIsEnabled | Stalled)
        or (isinstance(cause, HfHubHTTPError) and cause.response.status_code >= 500)
        for cause in chain(error)
    )


def address() -> str:
    """What the Hub is called in a sentence: by its address, or by HF_ENDPOINT, whose value is private."""
    return HUB if constants.ENDPOINT == HUB else "HF_ENDPOINT"


def explained(error: BaseException, place: Place) -> LabError:
    """The sentence for what the client raised. What it does not know is raised again, as a bug of ours."""
    for cause in chain(error):
        sentence = _sentence(cause, place)
        if sentence:
            return LabError(sentence)
    raise error


def nearest(place: Place) -> str:
    """The file of the repository whose name is most like the one asked for; empty when none is."""
    try:
        info = huggingface_hub.HfApi().model_info(place.repo, revision=place.revision, timeout=5.0)
        paths = [one.rfilename for one in (info.siblings or [])[:1000] if usable_file(one.rfilename)]
    except Exception:  # it was an extra
        return ""
    return next(iter(difflib.get_close_matches(place.file, paths, n=1)), "")


def _sentence(error: BaseException, place: Place) -> str:
    repo, page = place.repo, f"{HUB}/{place.repo}"
    match error:
        case LabError():
            return str(error)
        case GatedRepoError():
            return (
                f"{repo} is gated: its owner wants its licence accepted first. Open {page}, accept it there, then put "
                "a token of that account into HF_TOKEN in .env (or run `hf auth login`) and try again."
            )
        case DisabledRepoError():
            return f"The Hub has switched {repo} off. Choose another repository."
        case RevisionNotFoundError():
            return f"{repo} has no revision {place.revision}. Look up its branches on {page}."
        case RemoteEntryNotFoundError():
            near = nearest(place)
            choose = f"Did you mean {near}?" if near else "Choose one from its list."
            return f"{repo} has no file {place.file or 'of that name'} at {place.revision}. {choose}"
        case RepositoryNotFoundError():
            return (
                f"{repo} is not on the Hub, or it is private. Check the spelling; for a private one put a token that "
                "may read it into HF_TOKEN in .env (or run `hf auth login`)."
            )
        case HfHubHTTPError():
            return _of_status(error.response, repo, page)
        case OfflineModeIsEnabled():
            return f"HF_HUB_OFFLINE is set, so nothing is asked of the Hub, and {repo} is not in its cache. Unset it."
        case _:
            return _of_line(error)


def _of_status(response: httpx.Response, repo: str, page: str) -> str:
    status = response.status_code
    if status == 401:
        return "The Hub does not accept the token. Put a valid one into HF_TOKEN in .env, or run `hf auth login`."
    if status == 403:
        return f"The token may not read {repo}. Give it read access to that repository, or accept its terms on {page}."
    if status == BUSY:
        wait = retry_after(response, 300)
        return f"The Hub has had too many requests from here. Wait {wait:.0f} seconds, or set HF_TOKEN."
    if status >= 500:
        return f"The Hub is in trouble (it answers {status}). Nothing is wrong here; try again in a while."
    return f"The Hub refused this with status {status}. Open {page} and see whether the repository is still there."


def _of_line(error: BaseException) -> str:
    proxies = [name for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY") if os.environ.get(name)]
    through = f" through the proxy in {proxies[0]}" if proxies else ""
    match error:
        case httpx.TooManyRedirects():
            return f"{address()} sends every request in a circle. Check HF_ENDPOINT and the proxy settings."
        case httpx.ProxyError():
            return "The proxy did not let the request pass. Check HTTPS_PROXY, or unset it."
        case Stalled():
            return f"Nothing more arrived from the Hub for {error} seconds, three times over. Try again later."
        case httpx.TimeoutException():
            return f"{address()} did not answer in time{through}. Check the network, then try again."
        case httpx.NetworkError() | httpx.RemoteProtocolError() if not isinstance(error, httpx.ConnectError):
            return f"The connection to {address()} broke off{through}, three times over. Try again later."
        case httpx.TransportError():
            return f"{address()} cannot be reached{through}. Check the network, then try again."
        case FileMetadataError() | json.JSONDecodeError() | httpx.DecodingError():
            return (
                f"What answers at {address()} is not the Hub (a sign-in page of the network, perhaps). Open "
                "that address in a browser, then try again."
            )
        case OSError() if error.errno is not None and error.filename:
            return (
                f"{os.path.basename(error.filename)} cannot be used by the Hub's client: {error.strerror}. Free space "
                "or allow writing there, or set HF_HOME to another folder."
            )
        case OSError() if cut_short(error):
            return "The file arrived in another length than the Hub says, three times over. Try again later."
    return ""
