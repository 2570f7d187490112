"""python -m backend.library.download RUN: downloads a file of the Hub, verifies it and registers it as a variant."""

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
from backend.core.files import digest_of
from backend.hub import client, errors, names
from backend.hub.client import HubFile, resolve_file
from backend.hub.names import HubPath
from backend.jobs.events import DownloadResult, TransferStep
from backend.jobs.journal import Journal, run_worker
from backend.library import weights_folder
from backend.library.register import base_over, register
from backend.library.requests import DownloadRequest

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
SPEED_OVER = 5.0  # seconds over which the speed is averaged
AGAIN = "restarts from the beginning: the Hub's client cannot resume a download"


class Progress:
    """Reports the progress of the Hub's client, in place of its progress bar, and restarts the stall timer."""

    def __init__(self, journal: Journal, total: int, attempt: int, timeout: float) -> None:
        self._journal, self._total, self._attempt, self._timeout = journal, total, attempt, timeout
        self._done = 0
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def __call__(self, *_: Any, **settings: Any) -> "Progress":
        """The client creates its progress bar by calling the class that it is passed."""
        self._done = int(settings.get("initial") or 0)
        return self

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def update(self, count: float = 1) -> None:
        client.restart_timer(self._timeout)
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
        self._journal.step(TransferStep(state="downloading", attempt=self._attempt, **facts, **note))

    def close(self) -> None:
        pass


def transfer(file: HubFile, folder: Path, progress: Progress, timeout: float) -> Path:
    """Download a file once, into an empty `folder`. Raises the errors of the client, and Stalled."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with client.time_limit(timeout):
        path = hf_hub_download(
            file.path.repo,
            file.path.file,
            revision=file.commit,
            local_dir=folder,
            cache_dir=folder / "no cache",  # the real cache was checked before, and has no usable copy
            tqdm_class=cast(Any, progress),
        )
    return Path(path)


def report_check(journal: Journal, size: int) -> Callable[[int], None]:
    return lambda done: journal.step(TransferStep(state="checking", done=done, total=size))


def fetch(file: HubFile, folder: Path, timeout: float, journal: Journal) -> Path:
    """Download and verify a file. It is tried client.ATTEMPTS times, but only twice if the content is wrong."""
    wrong = False
    for attempt in range(1, client.ATTEMPTS + 1):
        progress = Progress(journal, file.size, attempt, timeout)
        note: dict[str, Any] = {"note": AGAIN} if attempt > 1 else {}
        journal.step(TransferStep(state="downloading", done=0, total=file.size, attempt=attempt, **note), now=True)
        try:
            path = transfer(file, folder / "transfer", progress, timeout)
        except Exception as error:
            pause = client.pause_after(error, attempt)
            if pause is None or attempt == client.ATTEMPTS:
                raise transfer_error(error, file) from error
            time.sleep(pause)
            continue
        journal.step(TransferStep(state="checking", done=0, total=file.size), now=True)
        if digest_of(path, file.digest, report_check(journal, file.size)) == file.digest:
            return path
        path.unlink()
        if wrong:
            break
        wrong = True
    raise LabError(
        f"{file.name} arrived twice with content that does not match the Hub's checksum. It was removed. Try again "
        "later or on another network. If that does not help, tell the owner of the repository."
    )


def transfer_error(error: Exception, file: HubFile) -> LabError:
    """The sentence for an error that ended a download, for example a full disk."""
    for cause in errors.chain(error):
        if isinstance(cause, httpx.HTTPError):
            break  # its causes are errors of the network: a firewall's refusal has the same errno as a folder's
        if isinstance(cause, OSError) and cause.errno in DISK:
            return LabError(
                f"{file.name} could not be written: {cause.strerror}. The incomplete file was removed. Free "
                f"{file.size / 1e6:,.0f} MB or allow writing in the weights folder, then try again."
            )
    return client.lab_error(error, file.path)


def from_cache(file: HubFile, folder: Path, weights: Path, journal: Journal) -> Path | None:
    """Link or copy the file from the Hugging Face cache, and verify it. None if the cache has no correct copy."""
    cached = try_to_load_from_cache(file.path.repo, file.path.file, revision=file.commit)
    if not isinstance(cached, str):
        return None
    journal.step(
        TransferStep(state="checking", done=0, total=file.size, note="it is already in the Hugging Face cache"),
        now=True,
    )
    path, source = folder / "cached", os.path.realpath(cached)
    try:
        os.link(source, path)
    except OSError:  # another disk
        weights_folder.check_space(weights, file.size)
        shutil.copyfile(source, path)
    if (
        path.stat().st_size == file.size
        and digest_of(path, file.digest, report_check(journal, file.size)) == file.digest
    ):
        return path
    path.unlink()
    return None


def get_file(path: HubPath, folder: Path, spec: DownloadRequest, journal: Journal) -> tuple[Path, HubFile, bool]:
    """Get one file, verified, into `folder`. Returns its path, its metadata, and whether it came from the cache."""
    weights = Path(spec.weights)
    file = resolve_file(path, spec.timeout)
    folder.mkdir(exist_ok=True)
    cached = from_cache(file, folder, weights, journal)
    if cached is None:
        if file.cached:
            raise LabError(
                f"The Hub cannot be reached, and the copy of {file.name} in the Hugging Face cache is damaged. Try "
                "again when the network works."
            )
        if file.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
            raise LabError(
                f"{file.name} has {file.size / 1e9:.0f} GB, and the Hub's plain download is limited to 50 GB. Choose "
                "a smaller file."
            )
        weights_folder.check_space(weights, file.size)
    local = cached or fetch(file, folder, spec.timeout, journal)
    return local.rename(folder / file.name), file, cached is not None


def download(spec: DownloadRequest, journal: Journal) -> None:
    """Download, verify and register the file. A LabError leaves the weights folder as it was."""
    client.prepare()
    start, weights, requested = time.monotonic(), spec.folder, spec.variant
    if freed := weights_folder.remove_leftovers(weights):
        journal.step(
            TransferStep(state="sweeping", note=f"removed {freed / 1e6:,.0f} MB of an earlier download"), now=True
        )
    weights_folder.refuse_if_exists(weights, requested.id)
    if requested.file.endswith(names.ADAPTER):
        base_over(requested.over, weights)  # before the download, which is useless without a base
    with weights_folder.staging(weights, journal.folder.name) as folder:
        source = HubPath(requested.repo, requested.commit or requested.revision, requested.file)
        path, file, cached = get_file(source, folder / "got", spec, journal)
        if requested.sha256 and file.digest != requested.sha256:
            raise LabError(
                f"{file.name} has another checksum than when it was listed. List the repository's files again."
            )
        if file.name == names.ADAPTER:
            settings = source.file.removesuffix(names.ADAPTER) + names.SETTINGS
            get_file(HubPath(source.repo, file.commit, settings), folder / "got", spec, journal)
        variant = register(path, folder / "model", spec, file.digest, file.commit)
        journal.result(
            DownloadResult(
                **variant.model_dump(include={"id", "file", "size", "sha256", "commit"}),
                seconds=round(time.monotonic() - start, 1),
                from_cache=cached,
                converted=file.name == names.ADAPTER,
            )
        )


if __name__ == "__main__":
    sys.exit(run_worker(DownloadRequest, download))
