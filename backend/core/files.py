"""Reading files whose content is not known: regular files alone, and never more than a limit."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from backend.core.errors import LabError

WHOLE = 16 << 20  # bytes of a file that is read at once
PARTLY = "the disk took only part of it"  # what numpy raises then has a count, but no reason


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. OSError for a folder, a pipe, a socket or a device; none of them is waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return os.fdopen(descriptor, "rb")


def read_whole(path: Path, most: int = WHOLE) -> bytes:
    """The content of a regular file. OSError if it has more than `most` bytes."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most >> 20} MB", str(path))
    return content


def need_space(out: Path, size: int) -> None:
    """Refuse before a long write that cannot end well."""
    free = shutil.disk_usage(out.parent).free
    if free < size:
        raise LabError(
            f"{out.name} needs {size / 1e6:.0f} MB and the disk has {free / 1e6:.0f} MB left. "
            "Free some space, or choose another folder."
        )


def settle(path: Path) -> None:
    """Make sure that what was written is on the disk, not only in memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def part_of(out: Path) -> Iterator[Path]:
    """A `.part` path to write to; it becomes `out` when the block ends well and vanishes when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    try:
        yield part
        settle(part)
        os.replace(part, out)
        settle(out.parent)
    except OSError as error:
        raise LabError(
            f"{out.name} could not be written: {error.strerror or PARTLY}. Check the folder and its free space."
        ) from error
    finally:
        part.unlink(missing_ok=True)
