"""What is worth knowing before training: rows that are there twice, and held-out questions that are trained on."""

from collections.abc import Iterable

from backend.data.rows import Row


def duplicates(rows: Iterable[Row]) -> int:
    """How many rows say what an earlier one says, but for blanks and case."""
    every = [tuple((message["role"], _plain(message["content"])) for message in row.messages) for row in rows]
    return len(every) - len(set(every))


def overlap(train: Iterable[Row], held: Iterable[Row]) -> list[tuple[Row, Row]]:
    """Every held-out row whose first question is trained on, after the first row that asks it."""
    asked: dict[str, Row] = {}
    for row in train:
        asked.setdefault(_question(row), row)
    return [(asked[_question(row)], row) for row in held if _question(row) in asked]


def _question(row: Row) -> str:
    return _plain(next(message["content"] for message in row.messages if message["role"] == "user"))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
