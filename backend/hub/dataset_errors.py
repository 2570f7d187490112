"""What the errors of the Hub's clients mean to a person who wants data. For workers."""

import json
import re
from collections.abc import Iterator

import httpx
from datasets.exceptions import DataFilesNotFoundError
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from backend.core.errors import LabError
from backend.data.dataset import DataSpec
from backend.data.source import shown

HUB = "https://huggingface.co"


def explained(error: BaseException, spec: DataSpec) -> LabError:
    """The sentence for what the Hub answered. What is not known is raised again, as a bug of ours."""
    for cause in chain(error):
        sentence = _sentence(cause, spec)
        if sentence:
            return LabError(sentence)
    raise error


def unreadable(error: BaseException, spec: DataSpec) -> LabError:
    """The same, where libraries read what a stranger has made: then anything may happen, and it is the data's."""
    name, said = shown(spec.source), str(error)
    for cause in chain(error):
        sentence = _sentence(cause, spec)
        if sentence:
            return LabError(sentence)
    if isinstance(error, DataFilesNotFoundError) or "doesn't contain any data files" in said:
        return LabError(f"{name} holds no files of data (Parquet, JSON or CSV). Choose another data set.")
    if "Config name is missing" in said or "BuilderConfig" in said:
        there = re.search(r"\[(.{0,300})", said)
        return LabError(
            f"{name} has several subsets{': ' + shown(there[1].rstrip(']')) if there else ''}. Write one of them under "
            "Subset."
        )
    words = shown(f"{type(error).__name__}: {said}"[:120])
    return LabError(f"{name} cannot be read as data: {words}. Look at its viewer on the Hub, or choose another.")


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it: `datasets` wraps what it cannot name."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _sentence(error: BaseException, spec: DataSpec) -> str:
    name, page = shown(spec.source), f"{HUB}/datasets/{spec.source}"
    match error:
        case LabError():
            return str(error)
        case GatedRepoError():
            return (
                f"{name} is gated: its owner wants its terms accepted first. Open {page}, accept them there, then put "
                "a token of that account into HF_TOKEN in .env (or run `hf auth login`) and try again."
            )
        case DisabledRepoError():
            return f"The Hub has switched {name} off. Choose another data set."
        case RevisionNotFoundError():
            return f"{name} has no revision {shown(spec.revision)}. Look up its branches on {page}, or leave it empty."
        case RepositoryNotFoundError():
            return (
                f"{name} is not a data set on the Hub, or it is private. Check the spelling; for a private one put a "
                "token that may read it into HF_TOKEN in .env (or run `hf auth login`)."
            )
        case EntryNotFoundError():
            return ""  # `datasets` asks for files that need not be there, and goes on
        case HfHubHTTPError():
            return _of_status(error.response.status_code, name)
        case OfflineModeIsEnabled():
            return f"HF_HUB_OFFLINE is set, so {name} cannot be read from the Hub. Unset it, or give a file."
        case httpx.ProxyError() | httpx.UnsupportedProtocol():
            return "The Hub cannot be asked through this proxy. Check HTTPS_PROXY and HF_ENDPOINT."
        case httpx.TimeoutException():
            return f"{_address()} did not answer in time. Check the network, then try again."
        case httpx.TransportError():
            return f"{_address()} cannot be reached. Check the network, then try again, or give a file."
        case json.JSONDecodeError() | httpx.DecodingError() if _is_answer(error):
            return f"What answers at {_address()} is not the Hub (a sign-in page, perhaps). Open it in a browser."
    return ""


def _is_answer(error: BaseException) -> bool:
    """Whether it comes of an answer of the Hub and not of a file of data: only answers are short of any JSON."""
    return not isinstance(error, json.JSONDecodeError) or error.doc.lstrip()[:1] == "<"


def _of_status(status: int, name: str) -> str:
    if status == 401:
        return "The Hub does not accept the token. Put a valid one into HF_TOKEN in .env, or run `hf auth login`."
    if status == 403:
        return f"The token may not read {name}. Give it read access to that data set."
    if status == 429:
        return "The Hub has had too many requests from here. Wait some minutes, or set HF_TOKEN."
    if status >= 500:
        return f"The Hub is in trouble (it answers {status}). Nothing is wrong here; try again in a while."
    return f"The Hub refused this with status {status}. See whether {name} is still there."


def _address() -> str:
    """What the Hub is called in a sentence: by its address, or by HF_ENDPOINT, whose value is private."""
    return HUB if constants.ENDPOINT == HUB else "HF_ENDPOINT"
