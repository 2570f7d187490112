"""What a file of the Hub is, asked of the Hub or, without a network, of its client's cache."""

import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfFileMetadata, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

from backend.core.errors import LabError
from backend.hub import client, errors, names
from backend.hub.names import Place

DIGEST = (40, 64)  # hexadecimal digits: git's sha1 for a small file, sha256 for a large one


@dataclass(frozen=True)
class Found:
    """One file of the Hub at one commit. `cached` when nobody answered and the cache has it."""

    place: Place
    commit: str
    size: int
    digest: str
    cached: bool = False

    @property
    def name(self) -> str:
        return self.place.file.rpartition("/")[2]


def find(place: Place, patience: float) -> Found:
    """Ask the Hub what the file is. Without an answer, what the cache knows. LabError when neither helps."""
    url = hf_hub_url(place.repo, place.file, revision=place.revision)

    def ask() -> HfFileMetadata:
        with client.watched(patience):
            return get_hf_file_metadata(url)

    try:
        facts = client.retried(ask)
    except Exception as error:
        found = in_cache(place) if errors.no_network(error) else None
        if found is None:
            raise client.explained(error, place) from error
        return found
    commit, digest = facts.commit_hash or "", facts.etag or ""
    pinned = commit == place.revision or not names.COMMIT.fullmatch(place.revision)
    if not names.COMMIT.fullmatch(commit) or not pinned or len(digest) not in DIGEST or facts.size is None:
        raise LabError(
            f"What answers at {errors.address()} does not say which commit and which checksum {place.file} has, so it "
            "cannot be verified. Check HF_ENDPOINT, or whether the network asks you to sign in."
        )
    return Found(place, commit, facts.size, digest)


def in_cache(place: Place) -> Found | None:
    """The file by its revision's name, if the cache tells its checksum: the name of the blob it links to."""
    path = try_to_load_from_cache(place.repo, place.file, revision=place.revision)
    if not isinstance(path, str) or not os.path.islink(path):
        return None
    digest, commit = Path(os.readlink(path)).name, Path(path).parts[-1 - len(place.file.split("/"))]
    if len(digest) not in DIGEST or not names.COMMIT.fullmatch(commit):
        return None
    return Found(place, commit, os.stat(path).st_size, digest, cached=True)
