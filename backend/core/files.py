"""Files: reading them within limits, their checksums, writing them whole or not at all, and locks between processes."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from filelock import FileLock, Timeout

from backend.core.errors import LabError

LARGEST = 16 << 20  # bytes of a file that is read as a whole
BLOCK = 1 << 20  # bytes that are hashed or copied at a time
PARTLY = "the disk took only part of it"  # the error of numpy has a count, but no reason


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. OSError for a folder, a pipe, a socket or a device, without waiting for it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return os.fdopen(descriptor, "rb")


def read_whole(path: Path, limit: int = LARGEST) -> bytes:
    """The content of a regular file. OSError if it has more than `limit` bytes."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit >> 20} MB", str(path))
    return content


def version(path: Path) -> str:
    """Size and modification time: changes when the file does. Empty if there is no file of that name."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


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


def check_free_space(out: Path, size: int) -> None:
    """LabError if the disk of `out` has less than `size` bytes free: called before a long write."""
    free = shutil.disk_usage(out.parent).free
    if free < size:
        raise LabError(
            f"{out.name} needs {size / 1e6:.0f} MB and the disk has {free / 1e6:.0f} MB left. "
            "Free some space, or choose another folder."
        )


def sync(path: Path) -> None:
    """fsync a file or a folder: what was written is on the disk, not only in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, text: str) -> None:
    """Write a file that has its old content or its new one, and never half of it. OSError if the disk refuses."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", errors="replace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def complete_file(out: Path) -> Iterator[Path]:
    """A `.part` path to write to. It becomes `out` when the block ends well and is removed when it does not. LabError
    for an OSError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    try:
        yield part
        sync(part)
        os.replace(part, out)
        sync(out.parent)
    except OSError as error:
        raise LabError(
            f"{out.name} could not be written: {error.strerror or PARTLY}. Check the folder and its free space."
        ) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold a lock between processes. LabError if another process holds it for longer than `timeout` seconds, OSError if
    the file cannot be made."""
    lock = FileLock(path, timeout=timeout, poll_interval=0.02)
    try:
        lock.acquire()
    except Timeout:
        place = f"{path.parent.name}/{path.name}"
        raise LabError(f"Another process holds {place}. End it, or remove that file, then try again.", "busy") from None
    try:
        yield
    finally:
        lock.release()
