"""Parquet files as records, group by group: those nobody wants are not read. For workers: pyarrow is heavy.

`datasets` streams Parquet with threads of its own: for two rows it reads 30 MB, and a process that ends before the
stream does can hang. Here one thread reads what is wanted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow.parquet import ParquetFile

from backend.core.errors import LabError
from backend.data.dataset import shown
from backend.data.formats import check_columns, is_wanted
from backend.data.rows import Record

BATCH = 256
LARGEST_GROUP = 8_000_000_000  # bytes once unpacked


def records(path: Path, wanted: Sequence[range]) -> Iterator[Record]:
    yield from read([(path.name, lambda: path.open("rb"))], wanted)


def read(files: Iterable[tuple[str, Callable[[], Any]]], wanted: Sequence[range]) -> Iterator[Record]:
    """One file after the other, counted through. Each is a name and what opens it."""
    start, end = 0, max(part.stop for part in wanted)
    for name, opened in files:
        if start >= end:
            return
        try:
            with opened() as source, ParquetFile(source) as file:
                check_columns(name, file.metadata.num_columns)
                yield from _groups(file, name, start, wanted)
                start += file.metadata.num_rows
        except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
            if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
                raise  # the disk's or the Hub's; that of Parquet has neither number nor class
            raise LabError(
                f"{shown(name)} is not a Parquet file, or it is damaged ({_short(error)}). Make it once more, or "
                "choose another."
            ) from error


def _groups(file: ParquetFile, name: str, start: int, wanted: Sequence[range]) -> Iterator[Record]:
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if _touches(range(start, start + group.num_rows), wanted):
            if group.total_byte_size > LARGEST_GROUP:
                raise LabError(
                    f"{shown(name)} holds {group.total_byte_size:,} bytes in one piece. Write it in smaller row "
                    "groups, or without the columns that are not conversations."
                )
            yield from _group(file, number, start, wanted)
        start += group.num_rows


def _group(file: ParquetFile, number: int, start: int, wanted: Sequence[range]) -> Iterator[Record]:
    end = max(part.stop for part in wanted)
    for batch in file.iter_batches(BATCH, row_groups=[number], use_threads=False):
        if start >= end:
            return
        if _touches(range(start, start + batch.num_rows), wanted):
            for index, value in enumerate(batch.to_pylist(), start):
                if is_wanted(index, wanted):
                    yield Record(index, index + 1, value)
        start += batch.num_rows


def _touches(part: range, wanted: Sequence[range]) -> bool:
    return any(part.start < other.stop and other.start < part.stop for other in wanted)


def _short(error: BaseException) -> str:
    return ascii(str(error))[1:-1][:120].rstrip(". ")
