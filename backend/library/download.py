"""python -m backend.library.download RUN: a file of the Hub becomes a variant, whole and verified."""

import errno
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import httpx
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from backend.core.errors import LabError
from backend.hub import client, errors, names
from backend.hub.client import HubFile, resolve_file
from backend.hub.names import HubPath
from backend.jobs.journal import Journal, run_worker
from backend.library import weights_folder
from backend.library.checksums import Following, digest_of
from backend.library.register import base_over, register
from backend.library.requests import DownloadRequest

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
SPEED_OVER = 5.0  # seconds
AGAIN = "starts over: the Hub client cannot resume a transfer"


class Progress:
    """What the client reports to. Every piece re-arms the alarm that tells a stalled line."""

    def __init__(self, journal: Journal, total: int, attempt: int, patience: float) -> None:
        self._journal, self._total, self._attempt, self._patience = journal, total, attempt, patience
        self._done = 0
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def __call__(self, *_: Any, **settings: Any) -> "Progress":
        """The client makes its bar by calling the class it was given."""
        self._done = int(settings.get("initial") or 0)
        return self

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def update(self, count: float = 1) -> None:
        client.keep_waiting(self._patience)
        self._done += int(count)
        now = time.monotonic()
        self._recent.append((now, self._done))
        while len(self._recent) > 2 and self._recent[0][0] < now - SPEED_OVER:
            self._recent.popleft()
        then, before = self._recent[0]
        speed = max(0.0, (self._done - before) / max(now - then, 1e-3))
        left = round((self._total - self._done) / speed) if speed else None
        note: dict[str, Any] = {"note": AGAIN} if self._attempt > 1 else {}
        facts: dict[str, Any] = {"done": self._done, "total": self._total, "speed": round(speed), "left": left}
        self._journal.step(state="downloading", attempt=self._attempt, **facts, **note)

    def close(self) -> None:
        pass


def transfer(found: HubFile, folder: Path, progress: Progress, patience: float) -> tuple[Path, str]:
    """One transfer by the client: where the file is, and its checksum as far as it was followed. Raises what the client
    raises, and Stalled."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    following = Following(folder, found.digest, found.size)
    following.start()
    try:
        with client.time_limit(patience):
            path = hf_hub_download(
                found.place.repo,
                found.place.file,
                revision=found.commit,
                local_dir=folder,
                cache_dir=folder / "no cache",  # the cache was looked at before; what it has was not what is wanted
                tqdm_class=cast(Any, progress),
            )
        following.stop()
        return Path(path), following.digest(Path(path))
    finally:
        following.close()


def checking(journal: Journal, size: int) -> Callable[[int], None]:
    return lambda done: journal.step(state="checking", done=done, total=size)


def fetch(found: HubFile, folder: Path, patience: float, journal: Journal) -> Path:
    """The file in `folder`, verified. Wrong content is fetched once more, a bad line tried three times."""
    wrong = False
    for attempt in range(1, client.ATTEMPTS + 1):
        progress = Progress(journal, found.size, attempt, patience)
        note: dict[str, Any] = {"note": AGAIN} if attempt > 1 else {}
        journal.step(now=True, state="downloading", done=0, total=found.size, attempt=attempt, **note)
        try:
            path, digest = transfer(found, folder / "transfer", progress, patience)
        except Exception as error:
            pause = client.pause_after(error, attempt)
            if pause is None or attempt == client.ATTEMPTS:
                raise refused(error, found) from error
            time.sleep(pause)
            continue
        journal.step(now=True, state="checking", done=found.size, total=found.size)
        if digest != found.digest:
            digest = digest_of(path, found.digest, checking(journal, found.size))
        if digest == found.digest:
            return path
        path.unlink()
        if wrong:
            break
        wrong = True
    raise LabError(
        f"{found.name} arrived with content that is not what the Hub says it is, more than once. It was removed. Try "
        "again later, or on another network; if it stays so, tell the owner of the repository."
    )


def refused(error: Exception, found: HubFile) -> LabError:
    """A sentence for what ended a transfer. A full disk has a sentence of its own."""
    for cause in errors.chain(error):
        if isinstance(cause, httpx.HTTPError):
            break  # what lies below is the line's: a firewall refuses with the same number as a folder
        if isinstance(cause, OSError) and cause.errno in DISK:
            return LabError(
                f"{found.name} could not be written: {cause.strerror}. What had arrived was removed. Free some space "
                "or allow writing in its folder, then try again."
            )
    return client.explained(error, found.place)


def from_cache(found: HubFile, folder: Path, weights: Path, journal: Journal) -> Path | None:
    """The file as the Hugging Face cache has it, linked or copied, if it is there and is what it should be."""
    cached = try_to_load_from_cache(found.place.repo, found.place.file, revision=found.commit)
    if not isinstance(cached, str):
        return None
    journal.step(now=True, state="checking", done=0, total=found.size, note="it is in the Hugging Face cache already")
    path, source = folder / "cached", os.path.realpath(cached)
    try:
        os.link(source, path)
    except OSError:  # another disk
        weights_folder.room(weights, found.size)
        shutil.copyfile(source, path)
    if (
        path.stat().st_size == found.size
        and digest_of(path, found.digest, checking(journal, found.size)) == found.digest
    ):
        return path
    path.unlink()
    return None


def get(place: HubPath, folder: Path, spec: DownloadRequest, journal: Journal) -> tuple[Path, HubFile, bool]:
    """One file, verified, as `folder`/its own name; what it is, and whether the cache had it."""
    weights = Path(spec.weights)
    found = resolve_file(place, spec.patience)
    folder.mkdir(exist_ok=True)
    cached = from_cache(found, folder, weights, journal)
    if cached is None:
        if found.cached:
            raise LabError(
                f"The Hub cannot be reached, and what the Hugging Face cache holds of {found.name} is damaged. Try "
                "again when there is a network."
            )
        if found.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
            raise LabError(
                f"{found.name} has {found.size / 1e9:.0f} GB, and the Hub gives this kind of client 50 GB at most. "
                "Choose a smaller one."
            )
        weights_folder.room(weights, found.size)
    path = cached or fetch(found, folder, spec.patience, journal)
    return path.rename(folder / found.name), found, cached is not None


def download(spec: DownloadRequest, journal: Journal) -> None:
    """Everything that was asked, or a LabError and nothing."""
    client.prepare()
    begun, weights = time.monotonic(), Path(spec.weights)
    if freed := weights_folder.sweep(weights):
        journal.step(now=True, state="sweeping", note=f"{freed / 1e6:,.0f} MB of an earlier transfer removed")
    weights_folder.refuse_if_here(weights, spec.id)
    if spec.file.endswith(names.ADAPTER):
        base_over(spec.over, weights)  # before anything is fetched for nothing
    with weights_folder.arriving(weights, journal.folder.name) as folder:
        place = HubPath(spec.repo, spec.commit or spec.revision, spec.file)
        path, found, cached = get(place, folder / "got", spec, journal)
        if spec.sha256 and found.digest != spec.sha256:
            raise LabError(f"{found.name} is not the file that was listed: its checksum is another. List it again.")
        if found.name == names.ADAPTER:
            beside = place.file.removesuffix(names.ADAPTER) + names.SETTINGS
            get(HubPath(place.repo, found.commit, beside), folder / "got", spec, journal)
        source = {"repo": spec.repo, "revision": spec.revision, "commit": found.commit}
        variant = register(path, folder / "model", spec, found.digest, **source)
        facts = variant.model_dump(include={"id", "file", "size", "sha256", "commit"})
        seconds = round(time.monotonic() - begun, 1)
        journal.result(**facts, seconds=seconds, from_cache=cached, converted=found.name == names.ADAPTER)


if __name__ == "__main__":
    sys.exit(run_worker(DownloadRequest, download))
