"""Text files of strangers: their encoding from their first bytes, and lines that do not fill the memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from backend.core.errors import LabError
from backend.data.source import shown

LONGEST_LINE = 16_000_000
MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
OTHERS = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a database",
}


def opened(path: Path) -> TextIO:
    """UTF-8, or what a byte order mark says. Bytes that are not UTF-8 become lone surrogates, so that only their rows
    are lost; see `is_text`."""
    with path.open("rb") as file:
        head = file.read(16)
    for mark, what in OTHERS.items():
        if head.startswith(mark):
            raise LabError(
                f"{shown(path.name)} is {what}, whatever its name says. Unpack it, or give it its own ending."
            )
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return path.open(encoding=encoding)
    if b"\0" in head[:2]:
        raise LabError(
            f"{shown(path.name)} is not UTF-8: it looks like UTF-16 without a byte order mark. Save it as UTF-8."
        )
    return path.open(encoding="utf-8-sig", errors="surrogateescape")


def lines(file: TextIO) -> Iterator[str | None]:
    """Line after line; None stands for one that is longer than LONGEST_LINE."""
    number = 0
    try:
        while line := file.readline(LONGEST_LINE):
            number += 1
            whole = len(line) < LONGEST_LINE or line.endswith("\n")
            yield line if whole else None
            while not whole and (line := file.readline(LONGEST_LINE)):
                whole = line.endswith("\n")
    except UnicodeError as error:
        raise _damaged(file, number + 1) from error


def everything(file: TextIO) -> str:
    try:
        return file.read()
    except UnicodeError as error:
        raise _damaged(file, 1) from error


def _damaged(file: TextIO, line: int) -> LabError:
    name = shown(Path(file.name).name)
    return LabError(f"{name} is not valid {file.encoding.upper()} somewhere after line {line:,}. Save it as UTF-8.")


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: it holds no lone surrogate, and so no byte that was no text."""
    try:
        text.encode()
    except UnicodeError:
        return False
    return True
