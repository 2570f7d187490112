"""Parquet files as records, group by group: those nobody wants are not read. For workers: pyarrow is heavy."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow  # type: ignore[import-untyped]
from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

from backend.data.files import check_columns, inside
from backend.data.rows import Record
from backend.data.source import shown
from backend.errors import LabError

BATCH = 256
LARGEST_GROUP = 8_000_000_000  # bytes once unpacked


def records(path: Path, wanted: Sequence[range]) -> Iterator[Record]:
    try:
        with ParquetFile(path) as file:
            check_columns(path, file.metadata.num_columns)
            yield from _read(file, path, wanted)
    except (pyarrow.ArrowException, UnicodeError, OverflowError) as error:
        raise LabError(
            f"{shown(path.name)} is not a Parquet file, or it is damaged ({_short(error)}). Make it once more, or "
            "choose another."
        ) from error


def _read(file: ParquetFile, path: Path, wanted: Sequence[range]) -> Iterator[Record]:
    start = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if _touches(range(start, start + group.num_rows), wanted):
            if group.total_byte_size > LARGEST_GROUP:
                raise LabError(
                    f"{shown(path.name)} holds {group.total_byte_size:,} bytes in one piece. Write it in smaller row "
                    "groups, or without the columns that are not conversations."
                )
            yield from _group(file, number, start, wanted)
        start += group.num_rows


def _group(file: ParquetFile, number: int, start: int, wanted: Sequence[range]) -> Iterator[Record]:
    for batch in file.iter_batches(BATCH, row_groups=[number]):
        if start >= max(part.stop for part in wanted):
            return
        if _touches(range(start, start + batch.num_rows), wanted):
            for index, value in enumerate(batch.to_pylist(), start):
                if inside(index, wanted):
                    yield Record(index, index + 1, value)
        start += batch.num_rows


def _touches(part: range, wanted: Sequence[range]) -> bool:
    return any(part.start < other.stop and other.start < part.stop for other in wanted)


def _short(error: BaseException) -> str:
    return ascii(str(error))[1:-1][:120].rstrip(". ")
