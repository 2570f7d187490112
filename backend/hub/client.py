"""The Hub's client for the workers: its settings, a limit of silence, retries, and which file is meant."""

import difflib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

import httpx
import huggingface_hub
from huggingface_hub import HfFileMetadata, constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from backend.core.errors import LabError
from backend.hub import errors, names
from backend.hub.errors import BUSY, Stalled, Target, chain, cut_short, explain, retry_after
from backend.hub.names import HubPath, usable_file

ATTEMPTS = 3
LONGEST_PAUSE = 30.0  # seconds; a Hub that asks for a longer pause is not asked again
Result = TypeVar("Result")
DIGEST = (40, 64)  # hexadecimal digits: git's sha1 for a small file, sha256 for a large one


def prepare() -> None:
    """Plain transfers, which can be followed and cut short, in pieces small enough to see a slow line."""
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_DISABLE_TELEMETRY = True
    constants.HF_HUB_DISABLE_PROGRESS_BARS = True
    constants.DOWNLOAD_CHUNK_SIZE = 1 << 18
    huggingface_hub.utils.logging.set_verbosity(logging.ERROR)


@contextmanager
def time_limit(patience: float) -> Iterator[None]:
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


def explained(error: BaseException, place: HubPath) -> LabError:
    """The sentence for an error about a model's repository. An unknown error is raised again."""
    return explain(
        error, Target(place.repo, place.repo, "repository", place.revision, place.file, lambda: nearest(place))
    )


def nearest(place: HubPath) -> str:
    """The file of the repository with the most similar name; empty when there is none."""
    try:
        info = huggingface_hub.HfApi().model_info(place.repo, revision=place.revision, timeout=5.0)
        paths = [one.rfilename for one in (info.siblings or [])[:1000] if usable_file(one.rfilename)]
    except Exception:  # only a hint: the sentence is complete without it
        return ""
    return next(iter(difflib.get_close_matches(place.file, paths, n=1)), "")


@dataclass(frozen=True)
class HubFile:
    """One file of the Hub at one commit. `cached` when nobody answered and the cache has it."""

    place: HubPath
    commit: str
    size: int
    digest: str
    cached: bool = False

    @property
    def name(self) -> str:
        return self.place.file.rpartition("/")[2]


def resolve_file(place: HubPath, patience: float) -> HubFile:
    """Ask the Hub what the file is. Without an answer, what the cache knows. LabError when neither helps."""
    url = hf_hub_url(place.repo, place.file, revision=place.revision)

    def ask() -> HfFileMetadata:
        with time_limit(patience):
            return get_hf_file_metadata(url)

    try:
        facts = retried(ask)
    except Exception as error:
        found = in_cache(place) if errors.no_network(error) else None
        if found is None:
            raise explained(error, place) from error
        return found
    commit, digest = facts.commit_hash or "", facts.etag or ""
    pinned = commit == place.revision or not names.COMMIT.fullmatch(place.revision)
    if not names.COMMIT.fullmatch(commit) or not pinned or len(digest) not in DIGEST or facts.size is None:
        raise LabError(
            f"What answers at {errors.address()} does not say which commit and which checksum {place.file} has, so it "
            "cannot be verified. Check HF_ENDPOINT, or whether the network asks you to sign in."
        )
    return HubFile(place, commit, facts.size, digest)


def in_cache(place: HubPath) -> HubFile | None:
    """The file by its revision's name, if the cache tells its checksum: the name of the blob it links to."""
    path = try_to_load_from_cache(place.repo, place.file, revision=place.revision)
    if not isinstance(path, str) or not os.path.islink(path):
        return None
    digest, commit = Path(os.readlink(path)).name, Path(path).parts[-1 - len(place.file.split("/"))]
    if len(digest) not in DIGEST or not names.COMMIT.fullmatch(commit):
        return None
    return HubFile(place, commit, os.stat(path).st_size, digest, cached=True)
