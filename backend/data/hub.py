"""Placeholder."""

from collections.abc import Iterator

from backend.data.rows import Record


def records(source: str, revision: str, split: str, wanted: list[range]) -> tuple[str, Iterator[Record]]:
    raise NotImplementedError
