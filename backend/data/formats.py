"""JSON, JSON lines and CSV as records. A row that cannot be read is a record that says so."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from backend.core.errors import LabError
from backend.data.dataset import shown
from backend.data.rows import Record

MOST_COLUMNS = 1000
LARGEST_JSON = 1_000_000_000
LONGEST_LINE = 16_000_000
TOO_LONG = f"its line is longer than {LONGEST_LINE:,} characters"
NOT_TEXT = "it is not UTF-8"
MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
OTHERS = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a database",
}


def is_wanted(index: int, wanted: Sequence[range]) -> bool:
    return any(index in part for part in wanted)


def json_lines(path: Path, wanted: Sequence[range]) -> Iterator[Record]:
    """One object a line; empty lines are no rows."""
    index, end = 0, max(part.stop for part in wanted)
    with open_text(path) as file:
        for number, line in enumerate(read_lines(file), 1):
            if line is not None and not line.strip():
                continue
            if is_wanted(index, wanted):
                yield _of_line(index, number, line)
            index += 1
            if index >= end:
                return


def _of_line(index: int, number: int, line: str | None) -> Record:
    if line is None:
        return Record(index, number, wrong=TOO_LONG)
    if not is_text(line):
        return Record(index, number, wrong=NOT_TEXT)
    try:
        return Record(index, number, json.loads(line))
    except RecursionError:
        return Record(index, number, wrong="it is nested too deep")
    except json.JSONDecodeError as error:
        return Record(index, number, wrong=f"it is not JSON ({error.msg})")
    except ValueError:
        return Record(index, number, wrong="it has a number nobody can read")


def json_whole(path: Path, wanted: Sequence[range]) -> Iterator[Record]:
    """A list of rows, or an object with one list in it. JSON lines under this name are read as such."""
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise LabError(
            f"{shown(path.name)} has {size:,} bytes, and JSON has to be read at once. Save it as JSON lines (.jsonl) "
            "or Parquet, which can be read in parts."
        )
    try:
        with open_text(path) as file:
            rows = _rows(path, json.loads(read_text(file)))
    except RecursionError:
        raise LabError(
            f"{shown(path.name)} is nested too deep to be read. Save it as JSON lines, where one such row is dropped."
        ) from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from json_lines(path, wanted)
            return
        at = f"line {error.lineno:,}, column {error.colno:,}"
        raise LabError(f"{shown(path.name)} is not JSON: {error.msg} at {at}. Mend it there, then try again.") from None
    except ValueError:
        raise LabError(f"{shown(path.name)} has a number nobody can read. Take it out, then try again.") from None
    for part in wanted:
        for index in range(part.start, min(part.stop, len(rows))):
            yield Record(index, index + 1, rows[index])


def _rows(path: Path, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    lists = {key: found for key, found in value.items() if isinstance(found, list)} if isinstance(value, dict) else {}
    if len(lists) == 1:
        return next(iter(lists.values()))
    if isinstance(value, dict) and not lists:
        return [value]
    raise LabError(
        f"{shown(path.name)} is neither a list of rows nor an object with one such list in it. Save it as a list."
    )


def table(path: Path, wanted: Sequence[range]) -> Iterator[Record]:
    """CSV: the first line names the columns, and the separator is the one it has most of."""
    csv.field_size_limit(LONGEST_LINE)
    end = max(part.stop for part in wanted)
    with open_text(path) as file:
        given = _whole(path, read_lines(file))
        above, header = next(((n, line) for n, line in enumerate(given, 1) if line.strip()), (0, ""))
        separator = max(",;\t", key=header.count)
        names = next(csv.reader([header], delimiter=separator), [])
        check_columns(path.name, len(names))
        reader = csv.reader(given, delimiter=separator, strict=True)
        index, line = 0, above + 1
        while index < end:
            fields = _next(reader)
            if fields is None:
                return
            if fields != [] and "".join(fields).strip():
                if is_wanted(index, wanted):
                    yield _of_fields(index, line, names, fields)
                index += 1
            line = above + 1 + reader.line_num


def _whole(path: Path, given: Iterable[str | None]) -> Iterator[str]:
    for number, line in enumerate(given, 1):
        if line is None:
            raise LabError(
                f"Line {number:,} of {shown(path.name)} is longer than {LONGEST_LINE:,} characters, and a table cannot "
                "be read past it. Take it out, then try again."
            )
        yield line


def check_columns(name: str, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise LabError(
            f"{shown(name)} has {columns:,} columns, and {MOST_COLUMNS:,} is the limit. Keep those that hold the "
            "conversations."
        )


def _next(reader: Any) -> list[str] | str | None:
    """The fields of the next record, a sentence when it has none, None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        return f"it is not CSV ({error})"


def _of_fields(index: int, line: int, names: list[str], fields: list[str] | str) -> Record:
    if isinstance(fields, str):
        return Record(index, line, wrong=fields)
    if len(fields) != len(names):
        return Record(index, line, wrong=f"it has {len(fields):,} fields, and the first line has {len(names):,}")
    if not all(is_text(field) for field in fields):
        return Record(index, line, wrong=NOT_TEXT)
    return Record(index, line, dict(zip(names, fields, strict=True)))


def open_text(path: Path) -> TextIO:
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


def read_lines(file: TextIO) -> Iterator[str | None]:
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


def read_text(file: TextIO) -> str:
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
