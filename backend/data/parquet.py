"""Reads Parquet files by row groups; groups outside the splits are not read. Imports pyarrow: for workers only.

This module is used instead of streaming by `datasets`, which reads 30 MB for two rows, and whose threads can hang a
process that ends before the stream does. Here one thread reads.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow.parquet import ParquetFile

from backend.core.errors import LabError
from backend.data.dataset import shown
from backend.data.formats import check_columns, in_ranges
from backend.data.rows import Record

BATCH = 256  # rows
LARGEST_GROUP = 8_000_000_000  # bytes after decompression


def records(path: Path, ranges: Sequence[range]) -> Iterator[Record]:
    """Read the records of one local file whose index is in `ranges`."""
    yield from read([(path.name, lambda: path.open("rb"))], ranges)


def read(files: Iterable[tuple[str, Callable[[], Any]]], ranges: Sequence[range]) -> Iterator[Record]:
    """Read files one after the other; the index continues across them. A file is its name and a function to open it.

    Raises LabError for a damaged file.
    """
    start, end = 0, max(part.stop for part in ranges)
    for name, open_file in files:
        if start >= end:
            return
        try:
            with open_file() as source, ParquetFile(source) as file:
                check_columns(name, file.metadata.num_columns)
                yield from _read_groups(file, name, start, ranges)
                start += file.metadata.num_rows
        except pyarrow.ArrowMemoryError as error:
            raise MemoryError from error
        except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
            if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
                raise  # an error of the disk or the Hub: pyarrow's own OSError has no subclass and no errno
            raise LabError(
                f"{shown(name)} is not a Parquet file, or it is damaged ({_short(error)}). Write it again, or choose "
                "another file."
            ) from error


def _read_groups(file: ParquetFile, name: str, start: int, ranges: Sequence[range]) -> Iterator[Record]:
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if _overlaps(range(start, start + group.num_rows), ranges):
            if group.total_byte_size > LARGEST_GROUP:
                raise LabError(
                    f"{shown(name)} has a row group of {group.total_byte_size:,} bytes; {LARGEST_GROUP:,} is the "
                    "limit. Write it in smaller row groups, or with the columns of the conversations only."
                )
            yield from _read_group(file, number, start, ranges)
        start += group.num_rows


def _read_group(file: ParquetFile, number: int, start: int, ranges: Sequence[range]) -> Iterator[Record]:
    end = max(part.stop for part in ranges)
    for batch in file.iter_batches(BATCH, row_groups=[number], use_threads=False):
        if start >= end:
            return
        if _overlaps(range(start, start + batch.num_rows), ranges):
            for index, value in enumerate(batch.to_pylist(), start):
                if in_ranges(index, ranges):
                    yield Record(index, index + 1, value)
        start += batch.num_rows


def _overlaps(rows: range, ranges: Sequence[range]) -> bool:
    return any(rows.start < part.stop and part.start < rows.stop for part in ranges)


def _short(error: BaseException) -> str:
    return ascii(str(error))[1:-1][:120].rstrip(". ")
