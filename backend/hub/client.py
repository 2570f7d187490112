"""The Hub's client for workers: its settings, timeouts, retries, and the lookup of a file's commit and checksum."""

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
LONGEST_PAUSE = 30.0  # seconds; no retry if the Hub requires a longer pause
Result = TypeVar("Result")
DIGEST = (40, 64)  # hexadecimal digits: git's sha1 for a small file, sha256 for a large one


def prepare() -> None:
    """Configure the client: plain HTTP downloads without Xet, in pieces that are small enough to show progress."""
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_DISABLE_TELEMETRY = True
    constants.HF_HUB_DISABLE_PROGRESS_BARS = True
    constants.DOWNLOAD_CHUNK_SIZE = 1 << 18
    huggingface_hub.utils.logging.set_verbosity(logging.ERROR)


@contextmanager
def time_limit(timeout: float) -> Iterator[None]:
    """Raise Stalled if the block runs for `timeout` seconds without a call of `restart_timer`.

    Works by a signal, so it is for the main thread of a worker.
    """

    def stalled(number: int, frame: FrameType | None) -> None:
        raise Stalled(f"{timeout:.0f}")

    signal.signal(signal.SIGALRM, stalled)
    try:
        restart_timer(timeout)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def restart_timer(timeout: float) -> None:
    """Restart the timer of `time_limit`, because data arrived.

    After the timeout, the signal repeats every second: a library may swallow the first exception.
    """
    signal.setitimer(signal.ITIMER_REAL, timeout, 1.0)


def with_retries(request: Callable[[], Result]) -> Result:
    """Call `request`, and repeat it after a temporary error of the network or the Hub, up to ATTEMPTS times."""
    for attempt in range(1, ATTEMPTS):
        try:
            return request()
        except Exception as error:
            pause = pause_after(error, attempt)
            if pause is None:
                raise
            time.sleep(pause)
    return request()


def pause_after(error: Exception, attempt: int) -> float | None:
    """Seconds to wait before the next attempt; None if a retry cannot help."""
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


def lab_error(error: BaseException, path: HubPath) -> LabError:
    """Convert an error about a model's repository. An unknown error is raised again."""
    return explain(error, Target(path.repo, path.repo, "repository", path.revision, path.file, lambda: nearest(path)))


def nearest(path: HubPath) -> str:
    """The file of the repository with the most similar name; empty if there is none."""
    try:
        info = huggingface_hub.HfApi().model_info(path.repo, revision=path.revision, timeout=5.0)
        files = [sibling.rfilename for sibling in (info.siblings or [])[:1000] if usable_file(sibling.rfilename)]
    except Exception:  # only a hint: the sentence is complete without it
        return ""
    return next(iter(difflib.get_close_matches(path.file, files, n=1)), "")


@dataclass(frozen=True)
class HubFile:
    """One file of the Hub at one commit. `size` in bytes. `cached`: the Hub did not answer, and the cache has it."""

    path: HubPath
    commit: str
    size: int
    digest: str
    cached: bool = False

    @property
    def name(self) -> str:
        return self.path.file.rpartition("/")[2]


def resolve_file(path: HubPath, timeout: float) -> HubFile:
    """Get the file's commit, size and checksum from the Hub, or from the local cache if the Hub does not answer.

    Raises LabError if neither has them.
    """
    url = hf_hub_url(path.repo, path.file, revision=path.revision)

    def request() -> HfFileMetadata:
        with time_limit(timeout):
            return get_hf_file_metadata(url)

    try:
        metadata = with_retries(request)
    except Exception as error:
        file = cached_file(path) if errors.no_network(error) else None
        if file is None:
            raise lab_error(error, path) from error
        return file
    commit, digest = metadata.commit_hash or "", metadata.etag or ""
    pinned = commit == path.revision or not names.COMMIT.fullmatch(path.revision)
    if not names.COMMIT.fullmatch(commit) or not pinned or len(digest) not in DIGEST or metadata.size is None:
        raise LabError(
            f"The server at {errors.address()} does not state the commit and the checksum of {path.file}, so the file "
            "cannot be verified. Check HF_ENDPOINT, and whether the network requires a sign-in."
        )
    return HubFile(path, commit, metadata.size, digest)


def cached_file(path: HubPath) -> HubFile | None:
    """The file in the local cache at this revision; None if the cache does not have it with its checksum.

    The checksum is the name of the blob that the cached file links to.
    """
    link = try_to_load_from_cache(path.repo, path.file, revision=path.revision)
    if not isinstance(link, str) or not os.path.islink(link):
        return None
    digest, commit = Path(os.readlink(link)).name, Path(link).parts[-1 - len(path.file.split("/"))]
    if len(digest) not in DIGEST or not names.COMMIT.fullmatch(commit):
        return None
    return HubFile(path, commit, os.stat(link).st_size, digest, cached=True)
