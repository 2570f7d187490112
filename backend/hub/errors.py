"""Converts errors of the Hub's client, about models and datasets, to sentences for people. For workers only."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from backend.core.errors import LabError

BUSY = 429
HUB = "https://huggingface.co"


class Stalled(Exception):
    """Nothing arrived for too long. Its text is the number of seconds."""


@dataclass(frozen=True)
class Target:
    """The repository, dataset or file of a request, as a sentence names it.

    `kind` is "repository" or "dataset"; `path` is its path on the Hub; `file` and `revision` may be empty.
    `nearest` returns the file of the repository with the most similar name.
    """

    name: str
    path: str
    kind: str = "repository"
    revision: str = ""
    file: str = ""
    nearest: Callable[[], str] = lambda: ""

    @property
    def page(self) -> str:
        return f"{HUB}/{self.path}"

    @property
    def is_dataset(self) -> bool:
        return self.kind == "dataset"


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, at most ten: the clients wrap errors that they have no class for."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def explain(error: BaseException, target: Target) -> LabError:
    """The sentence for an error of the client. An unknown error is raised again: it is a bug of this program."""
    for cause in chain(error):
        sentence = _sentence(cause, target)
        if sentence:
            return LabError(sentence)
    raise error


def cut_short(error: BaseException) -> bool:
    """Whether the file arrived with another length than announced. The client has no class for this error."""
    return type(error) is OSError and error.errno is None and "Consistency check failed" in str(error)


def no_network(error: BaseException) -> bool:
    """Whether the Hub did not answer, so that only files on disk can help. A status of 500 or more counts, too."""
    return any(
        isinstance(cause, httpx.TransportError | OfflineModeIsEnabled | Stalled)
        or (isinstance(cause, HfHubHTTPError) and cause.response.status_code >= 500)
        for cause in chain(error)
    )


def retry_after(response: httpx.Response, default: float) -> float:
    """Seconds that the header Retry-After asks for."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else default


def address() -> str:
    """The Hub's address for a sentence; "HF_ENDPOINT" where that is set, because its value is private."""
    return HUB if constants.ENDPOINT == HUB else "HF_ENDPOINT"


def _sentence(error: BaseException, target: Target) -> str:
    name, page = target.name, target.page
    match error:
        case LabError():
            return str(error)
        case GatedRepoError():
            terms, them = ("terms", "them") if target.is_dataset else ("licence", "it")
            return (
                f"{name} is gated: you must accept its {terms} first. Open {page}, accept {them} there, then "
                "put a token of that account into HF_TOKEN in .env (or run `hf auth login`) and try again."
            )
        case DisabledRepoError():
            return f"The Hub has disabled {name}. Choose another {target.kind}."
        case RevisionNotFoundError():
            return f"{name} has no revision {target.revision}. See its branches on {page}."
        case EntryNotFoundError() if target.is_dataset:
            return ""  # `datasets` requests files that need not exist, and continues
        case RemoteEntryNotFoundError():
            near = target.nearest()
            choose = f"Did you mean {near}?" if near else "Choose a file from its list."
            return f"{name} has no file {target.file or 'of that name'} at {target.revision}. {choose}"
        case RepositoryNotFoundError():
            what = "is not a dataset on the Hub" if target.is_dataset else "is not on the Hub"
            return (
                f"{name} {what}, or it is private. Check the spelling; for a private one put a token that "
                "may read it into HF_TOKEN in .env (or run `hf auth login`)."
            )
        case HfHubHTTPError():
            return _status_sentence(error.response, target)
        case OfflineModeIsEnabled():
            missing = "cannot be read" if target.is_dataset else "is not in its cache"
            return f"HF_HUB_OFFLINE is set, so the Hub is not contacted, and {name} {missing}. Unset HF_HUB_OFFLINE."
        case _:
            return _network_sentence(error, target)


def _status_sentence(response: httpx.Response, target: Target) -> str:
    status = response.status_code
    if status == 401:
        return "The Hub does not accept the token. Put a valid one into HF_TOKEN in .env, or run `hf auth login`."
    if status == 403:
        return (
            f"The token may not read {target.name}. Give it read access to that {target.kind}, or accept its terms on "
            f"{target.page}."
        )
    if status == BUSY:
        wait = retry_after(response, 300)
        return f"The Hub limits the rate of requests from this machine. Wait {wait:.0f} seconds, or set HF_TOKEN."
    if status >= 500:
        return f"The Hub has an error of its own (status {status}). Try again in a few minutes."
    return f"The Hub refused this with status {status}. Open {target.page} and check that it still exists."


def _network_sentence(error: BaseException, target: Target) -> str:
    proxies = [name for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY") if os.environ.get(name)]
    through = f" through the proxy in {proxies[0]}" if proxies else ""
    again = "then try again, or use a file" if target.is_dataset else "then try again"
    match error:
        case httpx.TooManyRedirects():
            return f"{address()} redirects requests in a loop. Check HF_ENDPOINT and the proxy settings."
        case httpx.ProxyError() | httpx.UnsupportedProtocol():
            return "The proxy did not let the request pass. Check HTTPS_PROXY and HF_ENDPOINT, or unset them."
        case Stalled():
            return f"No data arrived from the Hub for {error} seconds, in three attempts. Try again later."
        case httpx.TimeoutException():
            return f"{address()} did not answer in time{through}. Check the network, {again}."
        case httpx.NetworkError() | httpx.RemoteProtocolError() if not isinstance(error, httpx.ConnectError):
            return f"The connection to {address()} broke off{through}, in three attempts. Try again later."
        case httpx.TransportError():
            return f"{address()} cannot be reached{through}. Check the network, {again}."
        case FileMetadataError() | json.JSONDecodeError() | httpx.DecodingError() if _is_answer(error, target):
            return (
                f"The server at {address()} is not the Hub; it may be a sign-in page of your network. Open that "
                "address in a browser, then try again."
            )
        case OSError() if error.errno is not None and error.filename and not target.is_dataset:
            return (
                f"{os.path.basename(error.filename)} cannot be used by the Hub's client: {error.strerror}. Free space "
                "or allow writing there, or set HF_HOME to another folder."
            )
        case OSError() if cut_short(error):
            return "The file arrived with another length than the Hub states, in three attempts. Try again later."
    return ""


def _is_answer(error: BaseException, target: Target) -> bool:
    """Whether the error comes from a response of the Hub: for datasets, a data file that is not JSON raises it, too."""
    return not target.is_dataset or not isinstance(error, json.JSONDecodeError) or error.doc.lstrip()[:1] == "<"
