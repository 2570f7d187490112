"""Reads text files as records: JSON lines, JSON and CSV. The content decides which, not the ending of the name.

A record that cannot be parsed becomes a Record with an `error`, where the next one can still be found. Otherwise the
reader raises LabError with the line and what is there.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TextIO

from backend.core.errors import LabError
from backend.data.dataset import shown
from backend.data.rows import Record
from backend.data.text_files import (
    LONGEST_LINE,
    TextFile,
    as_windows_1252,
    excerpt,
    invalid_encoding,
    is_text,
    read_lines,
)

Kind = Literal["JSON lines", "JSON", "CSV"]
MOST_COLUMNS = 1000
LARGEST_VALUE = 200_000_000  # characters of an object that contains all rows, which must be read at once
TOO_LONG = f"its line is longer than {LONGEST_LINE:,} characters"
NOT_UTF8 = "it is not UTF-8"
SEPARATORS = ",;\t|"
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "|"}
DECODER = json.JSONDecoder()
BLANK = re.compile(r"\s*")


@dataclass(frozen=True)
class Table:
    """The header of a CSV file."""

    separator: str
    names: list[str]
    above: int
    """Lines above the first row."""


def in_ranges(index: int, ranges: Sequence[range]) -> bool:
    return any(index in part for part in ranges)


def kind_of(file: TextFile) -> Kind:
    """JSON lines: each line is a value. JSON: one list, or values that continue over several lines. Otherwise CSV."""
    lines = [line for line in file.sample.split("\n") if line.strip()]
    first = lines[0].strip() if lines else ""
    objects = sum(line.startswith("{") and _is_json(line) for line in lines)
    name = file.path.name.lower().removesuffix(".gz").removesuffix(".zip")
    of_lines = name.endswith((".jsonl", ".ndjson"))
    of_json = of_lines or name.endswith(".json")
    if first.startswith(("[", "{")):
        if len(lines) == 1 and not file.complete and of_lines:
            return "JSON lines"  # the sample ends within the first line
        several = len(lines) > 1 or not file.complete
        if several and _is_json(first) and (len(lines) == 1 or lines[1].strip()[:1] in ("{", "[")):
            return "JSON lines"
        return "JSON lines" if first.startswith("{") and objects * 2 > len(lines) and several else "JSON"
    if objects:
        return "JSON lines"  # its first lines are damaged
    table = len(lines) > 1 and any(separator in first for separator in SEPARATORS)
    if not of_json or table:
        return "CSV"
    return "JSON lines" if len(lines) != 1 or not _is_json(first) else "JSON"


def _is_json(line: str) -> bool:
    with suppress(ValueError, RecursionError):
        json.loads(line)
        return True
    return False


def read_format(file: TextFile) -> str:
    """How the file is read, for people, such as `CSV separated by semicolons, UTF-16`."""
    kind = kind_of(file)
    separated = ""
    if kind == "CSV":
        with file.open() as text:
            separated = f" separated by {NAMES.get(separator := _table(file, text)[0].separator, separator)}"
    return f"{kind}{separated}, {file.described}"


def read_records(file: TextFile, ranges: Sequence[range]) -> Iterator[Record]:
    """Read the records whose number is in `ranges`, in order. LabError where nothing more can be read."""
    reader = {"JSON lines": read_json_lines, "JSON": read_json, "CSV": read_csv}[kind_of(file)]
    end = max(part.stop for part in ranges)
    with file.open() as text:
        for record in reader(file, text):
            if record.index >= end:
                return
            if in_ranges(record.index, ranges):
                yield record


def read_json_lines(file: TextFile, text: TextIO) -> Iterator[Record]:
    """Read JSON lines: one value per line. Empty lines are not counted as records."""
    index = 0
    for number, line in enumerate(read_lines(text, file.name), 1):
        if line is None or line.strip():
            yield _parse_line(index, number, line)
            index += 1


def _parse_line(index: int, number: int, line: str | None) -> Record:
    if line is None:
        return Record(index, number, error=TOO_LONG)
    if not is_text(line):
        return _not_utf8(index, number, line)
    try:
        return Record(index, number, _as_row(json.loads(line)))
    except RecursionError:
        return Record(index, number, error="it is nested too deeply", text=excerpt(line))
    except json.JSONDecodeError as error:
        return Record(index, number, error=f"it is not JSON ({error.msg})", text=excerpt(line, error.pos))
    except ValueError:
        return Record(index, number, error="it has a number with too many digits")


def _as_row(value: Any) -> Any:
    """The value; a list of turns becomes a row with the column `messages`."""
    is_conversation = isinstance(value, list) and value and all(_is_turn(item) for item in value)
    return {"messages": value} if is_conversation else value


def _is_turn(item: Any) -> bool:
    return isinstance(item, Mapping) and ("role" in item or "from" in item)


def _not_utf8(index: int, number: int, text: str) -> Record:
    return Record(index, number, error=NOT_UTF8, text=f"{as_windows_1252(text)} (if it is Windows-1252)")


def read_json(file: TextFile, text: TextIO) -> Iterator[Record]:
    """Read a list of rows, rows one after another, or one object with one list of rows.

    Rows are read one by one, so a large list does not have to fit into memory.
    """
    values = _Values(file, text)
    first = values.next()
    if first == "[":
        yield from values.items()
        return
    index = 0
    while values.next():
        record = values.record(index, LONGEST_LINE if index else LARGEST_VALUE)
        if not index and not values.next() and not record.error:
            rows = _rows_of(file, record.value)
            inside = [record] if rows is None else [Record(number, number + 1, row) for number, row in enumerate(rows)]
            yield from inside
            return
        yield record
        index += 1
        values.skip(",")


def _rows_of(file: TextFile, value: Any) -> list[Any] | None:
    """The rows of a file that is one object, such as {"version": 1, "data": [...]}; None if the object is a row."""
    if not isinstance(value, Mapping):
        raise LabError(f"{file.name} is neither a list of rows nor an object. Save it as a list.")
    lists = [item for item in value.values() if isinstance(item, list) and _has_rows(item)]
    return lists[0] if len(lists) == 1 else None


def _has_rows(items: list[Any]) -> bool:
    """Whether the items are rows: objects that are not turns of a conversation."""
    return bool(items) and all(isinstance(item, Mapping) and not _is_turn(item) for item in items[:10])


class _Values:
    """Reads JSON values one after another from a text, of which only a part is in memory."""

    def __init__(self, file: TextFile, source: TextIO) -> None:
        self._name, self._source = file.name, source
        self._text, self._at, self._ended = "", 0, False
        self._line, self._before = 1, 0
        """The line at `_at`, and how many characters of the first line in `_text` were dropped."""

    def next(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            self._go_to(BLANK.match(self._text, self._at).end())  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def skip(self, character: str) -> bool:
        """Go on after the next character, if it is this one."""
        if found := self.next() == character:
            self._go_to(self._at + 1)
        return found

    def items(self) -> Iterator[Record]:
        """The items of a list that begins here."""
        self.skip("[")
        index = 0
        while not self.skip("]"):
            if index and not self.skip(","):
                raise self._error("Expecting ',' delimiter", self._at)
            yield self.record(index, LONGEST_LINE)
            index += 1
        if self.next():
            raise self._error("Extra data", self._at)

    def record(self, index: int, limit: int) -> Record:
        """Read the value that begins at the next character, of at most `limit` characters."""
        self.next()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:
                    break
            except json.JSONDecodeError as error:
                if self._ended or len(self._text) - self._at > limit:
                    raise self._error(error.msg, error.pos) from None
            except RecursionError:
                raise LabError(
                    f"{self._name} is nested too deeply. Save it as JSON lines, where only such rows are dropped."
                ) from None
            except ValueError:
                raise LabError(
                    f"{self._name} has a number with too many digits at or after line {self._line:,}. "
                    "Remove the number, then try again."
                ) from None
            self._more()
        line, text = self._line, self._text[self._at : end]
        self._go_to(end)
        return Record(index, line, _as_row(value)) if is_text(text) else _not_utf8(index, line, text)

    def _more(self) -> None:
        """Read at least as much as there is, so that a long value is not parsed many times. Drop what was parsed."""
        line_end = self._text.rfind("\n", 0, self._at)
        self._before = self._at - line_end - 1 if line_end >= 0 else self._before + self._at
        try:
            new = self._source.read(max(1 << 20, len(self._text) - self._at))
        except UnicodeError as error:
            raise invalid_encoding(self._source, self._name, self._line) from error
        self._ended = not new
        self._text, self._at = self._text[self._at :] + new, 0

    def _go_to(self, at: int) -> None:
        self._line += self._text.count("\n", self._at, at)
        self._at = at

    def _error(self, message: str, at: int) -> LabError:
        line = self._line + self._text.count("\n", self._at, at)
        start, end = self._text.rfind("\n", 0, at) + 1, self._text.find("\n", at)
        column = at - start + 1 + (0 if start else self._before)
        there = excerpt(self._text[start : end if end >= 0 else None], at - start)
        return LabError(
            f"{self._name} is not JSON: {message} at line {line:,}, column {column:,}"
            f"{f', where it has: {there}' if there else ', where it ends'}. Correct it there, then try again."
        )


def read_csv(file: TextFile, text: TextIO) -> Iterator[Record]:
    """Read CSV. The first line names the columns; a line `sep=;` before it names the separator."""
    csv.field_size_limit(LONGEST_LINE)
    table, lines = _table(file, text)
    if not table.names:
        return
    reader = csv.reader(lines, delimiter=table.separator, strict=True)
    index, line = 0, table.above + 1
    while (fields := _next_fields(reader)) is not None:
        if fields != [] and "".join(fields).strip():
            yield _to_record(index, line, table.names, fields)
            index += 1
        line = table.above + 1 + reader.line_num


def _table(file: TextFile, text: TextIO) -> tuple[Table, Iterator[str]]:
    """Read the header. Returns it, and the lines below. The separator is the most frequent one outside quotes."""
    lines = _require_short_lines(file, read_lines(text, file.name))
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    above, header = next(numbered, (0, ""))
    named = re.fullmatch(r"sep=(.)\s*", header, re.IGNORECASE)
    if named:
        above, header = next(numbered, (0, ""))
    unquoted = re.sub(r'"[^"]*"', "", header)
    separator = named[1] if named else max(SEPARATORS, key=unquoted.count)
    whole = csv.reader(chain([header], lines), delimiter=separator, strict=True)  # a name may have a line break
    try:
        names = [name.strip() for name in next(whole, [])]
    except csv.Error as error:
        raise LabError(
            f"The header of {file.name}, line {above:,}, is not CSV ({error}): {excerpt(header)}. Correct it."
        ) from None
    while names and not names[-1]:
        names.pop()  # a separator at the end of the header
    check_columns(file.path.name, len(names))
    names = [name or f"column {number}" for number, name in enumerate(names, 1)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LabError(
            f"{file.name} has several columns named {shown(twice[0])}. Rename all but one of them, then try again."
        )
    return Table(separator, names, above + max(0, whole.line_num - 1)), lines


def _require_short_lines(file: TextFile, lines: Iterable[str | None]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if line is None:
            raise LabError(
                f"Line {number:,} of {file.name} is longer than {LONGEST_LINE:,} characters, and CSV cannot be read "
                "beyond it. Remove that line, then try again."
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
    text = " | ".join(fields)
    while len(fields) > len(names) and not fields[-1]:
        fields.pop()  # separators at the end of the line
    if len(fields) != len(names):
        error = f"it has {len(fields):,} fields, and the first line has {len(names):,}"
        return Record(index, line, error=error, text=excerpt(text))
    if not is_text(text):
        return _not_utf8(index, line, text)
    return Record(index, line, dict(zip(names, fields, strict=True)))
