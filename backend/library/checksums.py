"""Checksums of files: sha256, or git's sha1 as the Hub uses it for small files."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

BLOCK = 1 << 20


class Hash(Protocol):
    """A hash object of hashlib."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def new_hash(like: str, size: int) -> Hash:
    """A hash for digests like `like`: sha256 for 64 digits, git's sha1 of a file of `size` bytes for 40 digits."""
    return hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def digest_of(path: Path, like: str = "0" * 64, progress: Callable[[int], None] = lambda done: None) -> str:
    """The digest of a file, of the kind that `like` is. Raises OSError if the file cannot be read.

    `progress` is called with the number of bytes done.
    """
    done = 0
    with path.open("rb") as file:
        hash = new_hash(like, os.fstat(file.fileno()).st_size)
        while block := file.read(BLOCK):
            hash.update(block)
            done += len(block)
            progress(done)
    return hash.hexdigest()
