"""Reads JSON lines, JSON and CSV files as records; detects their encoding; limits their size.

A record that cannot be parsed becomes a Record with an `error`. A file that cannot be read at all raises LabError.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from backend.core.errors import LabError
from backend.data.dataset import shown
from backend.data.rows import Record

MOST_COLUMNS = 1000
LARGEST_JSON = 1_000_000_000  # bytes
LONGEST_LINE = 16_000_000  # characters
TOO_LONG = f"its line is longer than {LONGEST_LINE:,} characters"
NOT_UTF8 = "it is not UTF-8"
BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a database",
}


def in_ranges(index: int, ranges: Sequence[range]) -> bool:
    return any(index in part for part in ranges)


def read_json_lines(path: Path, ranges: Sequence[range]) -> Iterator[Record]:
    """Read JSON lines: one value per line. Empty lines are not counted as records."""
    index, end = 0, max(part.stop for part in ranges)
    with open_text(path) as file:
        for number, line in enumerate(read_lines(file), 1):
            if line is not None and not line.strip():
                continue
            if in_ranges(index, ranges):
                yield _parse_line(index, number, line)
            index += 1
            if index >= end:
                return


def _parse_line(index: int, number: int, line: str | None) -> Record:
    if line is None:
        return Record(index, number, error=TOO_LONG)
    if not is_text(line):
        return Record(index, number, error=NOT_UTF8)
    try:
        return Record(index, number, json.loads(line))
    except RecursionError:
        return Record(index, number, error="it is nested too deeply")
    except json.JSONDecodeError as error:
        return Record(index, number, error=f"it is not JSON ({error.msg})")
    except ValueError:
        return Record(index, number, error="it has a number with too many digits")


def read_json(path: Path, ranges: Sequence[range]) -> Iterator[Record]:
    """Read a JSON file: a list of rows, an object with one list, or one row. Also reads JSON lines."""
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise LabError(
            f"{shown(path.name)} has {size:,} bytes, and {LARGEST_JSON:,} is the limit for JSON, which must be read at "
            "once. Save it as JSON lines (.jsonl) or Parquet."
        )
    try:
        with open_text(path) as file:
            rows = _list_of_rows(path, json.loads(read_text(file)))
    except RecursionError:
        raise LabError(
            f"{shown(path.name)} is nested too deeply. Save it as JSON lines, where only such rows are dropped."
        ) from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from read_json_lines(path, ranges)
            return
        position = f"line {error.lineno:,}, column {error.colno:,}"
        raise LabError(
            f"{shown(path.name)} is not JSON: {error.msg} at {position}. Correct it there, then try again."
        ) from None
    except ValueError:
        raise LabError(
            f"{shown(path.name)} has a number with too many digits. Remove the number, then try again."
        ) from None
    for part in ranges:
        for index in range(part.start, min(part.stop, len(rows))):
            yield Record(index, index + 1, rows[index])


def _list_of_rows(path: Path, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    lists = [item for item in value.values() if isinstance(item, list)] if isinstance(value, dict) else []
    if len(lists) == 1:
        return lists[0]
    if isinstance(value, dict) and not lists:
        return [value]
    raise LabError(
        f"{shown(path.name)} is neither a list of rows nor an object with exactly one list. Save it as a list."
    )


def read_csv(path: Path, ranges: Sequence[range]) -> Iterator[Record]:
    """Read CSV. The first line has the names of the columns; its most frequent of `,` `;` and tab is the separator."""
    csv.field_size_limit(LONGEST_LINE)
    end = max(part.stop for part in ranges)
    with open_text(path) as file:
        lines = _require_short_lines(path, read_lines(file))
        above, header = next(((n, line) for n, line in enumerate(lines, 1) if line.strip()), (0, ""))
        separator = max(",;\t", key=header.count)
        names = next(csv.reader([header], delimiter=separator), [])
        check_columns(path.name, len(names))
        reader = csv.reader(lines, delimiter=separator, strict=True)
        index, line = 0, above + 1
        while index < end:
            fields = _next_fields(reader)
            if fields is None:
                return
            if fields != [] and "".join(fields).strip():
                if in_ranges(index, ranges):
                    yield _to_record(index, line, names, fields)
                index += 1
            line = above + 1 + reader.line_num


def _require_short_lines(path: Path, lines: Iterable[str | None]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if line is None:
            raise LabError(
                f"Line {number:,} of {shown(path.name)} is longer than {LONGEST_LINE:,} characters, and CSV cannot be "
                "read beyond it. Remove that line, then try again."
            )
        yield line


def check_columns(name: str, columns: int) -> None:
    """Raise LabError if a file has too many columns."""
    if columns > MOST_COLUMNS:
        raise LabError(
            f"{shown(name)} has {columns:,} columns, and {MOST_COLUMNS:,} is the limit. Save it with the columns of "
            "the conversations only."
        )


def _next_fields(reader: Any) -> list[str] | str | None:
    """The fields of the next record; an error text if it is not CSV; None at the end of the file."""
    try:
        return next(reader, None)
    except csv.Error as error:
        return f"it is not CSV ({error})"


def _to_record(index: int, line: int, names: list[str], fields: list[str] | str) -> Record:
    if isinstance(fields, str):
        return Record(index, line, error=fields)
    if len(fields) != len(names):
        return Record(index, line, error=f"it has {len(fields):,} fields, and the first line has {len(names):,}")
    if not all(is_text(field) for field in fields):
        return Record(index, line, error=NOT_UTF8)
    return Record(index, line, dict(zip(names, fields, strict=True)))


def open_text(path: Path) -> TextIO:
    """Open a text file as UTF-8, or in the encoding of its byte order mark.

    Bytes that are not UTF-8 become lone surrogates, so that only their rows are dropped (see `is_text`). Raises
    LabError for other formats and for UTF-16 without a byte order mark.
    """
    with path.open("rb") as file:
        head = file.read(16)
    for mark, what in OTHER_FORMATS.items():
        if head.startswith(mark):
            raise LabError(
                f"{shown(path.name)} is {what}, although its name says otherwise. Unpack or rename it, then try again."
            )
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return path.open(encoding=encoding)
    if b"\0" in head[:2]:
        raise LabError(
            f"{shown(path.name)} is not UTF-8: it looks like UTF-16 without a byte order mark. Save it as UTF-8."
        )
    return path.open(encoding="utf-8-sig", errors="surrogateescape")


def read_lines(file: TextIO) -> Iterator[str | None]:
    """Read line by line. Yields None for a line longer than LONGEST_LINE, which is skipped in little memory."""
    number = 0
    try:
        while line := file.readline(LONGEST_LINE):
            number += 1
            complete = len(line) < LONGEST_LINE or line.endswith("\n")
            yield line if complete else None
            while not complete and (line := file.readline(LONGEST_LINE)):
                complete = line.endswith("\n")
    except UnicodeError as error:
        raise _invalid_encoding(file, number + 1) from error


def read_text(file: TextIO) -> str:
    """Read the whole file. Raises LabError if its encoding is not valid."""
    try:
        return file.read()
    except UnicodeError as error:
        raise _invalid_encoding(file, 1) from error


def _invalid_encoding(file: TextIO, line: int) -> LabError:
    name = shown(Path(file.name).name)
    return LabError(f"{name} is not valid {file.encoding.upper()} at or after line {line:,}. Save it as UTF-8.")


def is_text(text: str) -> bool:
    """Whether the text can be encoded as UTF-8, so has no lone surrogate (see `open_text`)."""
    try:
        text.encode()
    except UnicodeError:
        return False
    return True
