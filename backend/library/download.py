"""python -m backend.library.download RUN: a file of the Hub becomes a variant, whole and verified."""

import sys
import time
from pathlib import Path

from huggingface_hub import constants

from backend.core.errors import LabError
from backend.hub import client, names
from backend.hub.names import Place
from backend.hub.resolve import Found, find
from backend.jobs.journal import Journal, work
from backend.library import weights_folder
from backend.library.adapter import base_over
from backend.library.fetch import fetch, from_cache
from backend.library.register import finish
from backend.library.requests import DownloadSpec


def get(place: Place, folder: Path, spec: DownloadSpec, journal: Journal) -> tuple[Path, Found, bool]:
    """One file, verified, as `folder`/its own name; what it is, and whether the cache had it."""
    weights = Path(spec.weights)
    found = find(place, spec.patience)
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


def download(spec: DownloadSpec, journal: Journal) -> None:
    """Everything that was asked, or a LabError and nothing."""
    client.prepare()
    begun, weights = time.monotonic(), Path(spec.weights)
    if freed := weights_folder.sweep(weights):
        journal.step(now=True, state="sweeping", note=f"{freed / 1e6:,.0f} MB of an earlier transfer removed")
    weights_folder.refuse_if_here(weights, spec.id)
    if spec.file.endswith(names.ADAPTER):
        base_over(spec.over, weights)  # before anything is fetched for nothing
    with weights_folder.arriving(weights, journal.folder.name) as folder:
        place = Place(spec.repo, spec.commit or spec.revision, spec.file)
        path, found, cached = get(place, folder / "got", spec, journal)
        if spec.sha256 and found.digest != spec.sha256:
            raise LabError(f"{found.name} is not the file that was listed: its checksum is another. List it again.")
        if found.name == names.ADAPTER:
            beside = place.file.removesuffix(names.ADAPTER) + names.SETTINGS
            get(Place(place.repo, found.commit, beside), folder / "got", spec, journal)
        source = {"repo": spec.repo, "revision": spec.revision, "commit": found.commit}
        variant = finish(path, folder / "model", spec, found.digest, **source)
        facts = variant.model_dump(include={"id", "file", "size", "sha256", "commit"})
        seconds = round(time.monotonic() - begun, 1)
        journal.result(**facts, seconds=seconds, from_cache=cached, converted=found.name == names.ADAPTER)


if __name__ == "__main__":
    sys.exit(work(DownloadSpec, download))
