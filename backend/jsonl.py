"""Records as lines of JSON: appended whole, read past a torn last line."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
    """Every whole record, oldest first; a missing file holds none and a damaged line is passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield record
