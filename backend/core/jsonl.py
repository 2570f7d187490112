"""Records as lines of JSON: appended whole, read past a torn last line."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import from_json

from backend.core.files import open_regular

LARGEST = 2 << 30  # bytes of a file that is read
LONGEST = 64 << 20  # bytes of a line; a longer one is passed over


def append(path: Path, record: dict[str, Any]) -> None:
    """Add one record and fsync it. OSError (a full disk) leaves the file as it was, for all who read it.

    The lock keeps two processes from joining their lines; a torn line left by a killed writer is closed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
    with path.open("ab+", buffering=0) as file:  # a buffer would still hold the line when the disk has refused it
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        if size and _last_byte(file.fileno(), size) != b"\n":
            line = b"\n" + line
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def _last_byte(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, 1, size - 1)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole record, oldest first; a missing file holds none and a damaged line is passed over.

    OSError if it is no regular file, cannot be opened, or has more than LARGEST bytes.
    """
    for line in lines(path):
        try:
            record = from_json(line.decode("utf-8", "replace"))
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def lines(path: Path, newest: int = 0) -> Iterator[bytes]:
    """The lines of a file, without those longer than LONGEST; only those in its `newest` bytes, where that is not 0.

    OSError as for `read`.
    """
    try:
        file = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        size = file.seek(0, os.SEEK_END)
        if not newest and size > LARGEST:
            raise OSError(errno.EFBIG, f"it has more than {LARGEST >> 30} GB", str(path))
        file.seek(max(0, size - newest) if newest else 0)
        if newest and size > newest:
            _skip_line(file)  # the first line is cut
        while line := file.readline(LONGEST):
            if line.endswith(b"\n") or len(line) < LONGEST:
                yield line
            else:
                _skip_line(file)


def _skip_line(file: BinaryIO) -> None:
    while (part := file.readline(LONGEST)) and not part.endswith(b"\n"):
        pass
