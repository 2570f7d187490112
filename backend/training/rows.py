"""Rows of a data set as a trainer takes them, and what became of those it cannot take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from backend.core.errors import LabError
from backend.data.rows import Dropped, Row
from backend.training.encode import Encoded, Encoder
from backend.training.request import TrainSpec


@dataclass(frozen=True)
class Tokenised:
    """`rows` and `kept` go together: the tokens of a row, and the row."""

    rows: list[Encoded]
    kept: list[Row]
    dropped: list[Dropped] = field(default_factory=list)

    @property
    def cut(self) -> int:
        """Rows that are longer than the limit."""
        return sum(row.length > len(row.ids) for row in self.rows)


def tokenised(
    rows: Sequence[Row], encoder: Encoder, spec: TrainSpec, say: Callable[[int], object] = lambda done: None
) -> Tokenised:
    """Every row that has something to learn within the limit; the others with the reason. Main thread only."""
    done, kept, dropped = [], [], []
    for number, row in enumerate(rows):
        try:
            found = encoder.row(row.messages, spec.learn, spec.max_length)
        except LabError as error:
            dropped.append(Dropped(row.line, str(error)))
            continue
        if found.trained:
            done.append(found)
            kept.append(row)
        else:
            dropped.append(Dropped(row.line, f"nothing of its answers is within {spec.max_length:,} tokens"))
        say(number)
    return Tokenised(done, kept, dropped)


def checked(found: Tokenised, spec: TrainSpec, what: str) -> Tokenised:
    """LabError if no row is left: all of it would be masked."""
    if not found.rows:
        why = found.dropped[0] if found.dropped else None
        reason = f" The first: line {why.line}, {why.why}." if why else ""
        raise LabError(
            f"None of the {len(found.dropped):,} {what} has anything to learn with the template {spec.template!r} and "
            f"{spec.max_length:,} tokens.{reason} Raise the limit, or choose another template or data."
        )
    return found
