"""Checksums: of a file on disk, and of one that is still growing."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

BLOCK = 1 << 20
SYNC_EVERY = 64 << 20  # bytes; so that the last fsync has little left to write
LOOK_EVERY = 0.1  # seconds


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def started(like: str, size: int) -> Hash:
    """A hash of the kind `like` is: 64 digits are sha256, 40 are git's sha1 of a file of `size` bytes."""
    return hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def digest_of(path: Path, like: str = "0" * 64, progress: Callable[[int], None] = lambda done: None) -> str:
    """The checksum of a whole file. `progress` is told the bytes done. OSError if it cannot be read."""
    done = 0
    with path.open("rb") as file:
        found = started(like, os.fstat(file.fileno()).st_size)
        while block := file.read(BLOCK):
            found.update(block)
            done += len(block)
            progress(done)
    return found.hexdigest()


class Following(threading.Thread):
    """Hashes the file that grows in `folder` under a name ending in .incomplete, and flushes it to the disk.

    It starts again when the file shrinks or another takes its place. A guess that saves time: whoever does not get
    the checksum he expects hashes the finished file himself.
    """

    def __init__(self, folder: Path, like: str, size: int) -> None:
        super().__init__(daemon=True)
        self._folder, self._like, self._size = folder, like, size
        self._over = threading.Event()
        self._file: BinaryIO | None = None
        self._hash, self._done, self._synced = started(like, size), 0, 0

    def run(self) -> None:
        try:
            while not self._over.wait(LOOK_EVERY):
                self._catch_up()
        except OSError:  # the file went away, or the disk is full: the transfer will say so
            self._forget()

    def stop(self) -> None:
        self._over.set()
        if self.is_alive():
            self.join()

    def digest(self, path: Path) -> str:
        """The checksum of `path`, the finished file, as far as it was followed; else empty. Call after `stop`."""
        if self._file is None or not os.path.samestat(os.fstat(self._file.fileno()), path.stat()):
            return ""
        self._read()
        return self._hash.hexdigest() if self._done == self._size else ""

    def close(self) -> None:
        self.stop()
        self._forget()

    def _catch_up(self) -> None:
        growing = next(iter(self._folder.rglob("*.incomplete")), None)
        with contextlib.suppress(FileNotFoundError):  # it was finished or given up between two lines
            if growing and self._file and not os.path.samestat(os.fstat(self._file.fileno()), growing.stat()):
                self._forget()
            if growing and self._file is None:
                self._file = growing.open("rb", buffering=0)
        if self._file:
            self._read()

    def _read(self) -> None:
        assert self._file
        if os.fstat(self._file.fileno()).st_size < self._done:
            self._file.seek(0)
            self._hash, self._done, self._synced = started(self._like, self._size), 0, 0
        while block := self._file.read(BLOCK):
            self._hash.update(block)
            self._done += len(block)
            if self._done - self._synced >= SYNC_EVERY:
                self._synced = self._done
                getattr(os, "fdatasync", os.fsync)(self._file.fileno())

    def _forget(self) -> None:
        if self._file:
            self._file.close()
        self._file, self._hash, self._done, self._synced = None, started(self._like, self._size), 0, 0
