"""Reading files whose content is not known: regular files alone, and never more than a limit."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

WHOLE = 16 << 20  # bytes of a file that is read at once


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
