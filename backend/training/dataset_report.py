"""The report on a dataset, made before a training."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from backend.core.files import read_whole

FILE = "report.json"


class Sample(BaseModel):
    """A row as the model sees it. `pieces` are texts in order, each with whether it is trained on.

    `tokens` counts the whole row, `learnt` the tokens that are trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    tokens: int
    learnt: int
    pieces: list[tuple[str, bool]]
    cut: str = ""
    """The text after the maximum length, which is not used."""


class DatasetReport(BaseModel):
    """report.json of an inspect run. Lengths are in tokens; `learnt` counts the tokens that are trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    held: int
    dropped: int
    why_dropped: list[tuple[int, str, str]]
    """The first five: line number, reason, and what is there if it could not be parsed."""
    reasons: dict[str, int] = {}
    """Number of dropped rows by reason."""
    notes: list[str] = []
    """Sentences on what was assumed and what is not used."""
    columns: list[str]
    shape: str
    sha256: str
    commit: str
    limit: int
    cut: int
    longest: int
    edges: list[int]
    """Edges of the histogram's bins, one more than `counts`."""
    counts: list[int]
    tokens: int
    learnt: int
    duplicates: int
    in_both: list[tuple[int, int]]
    """Lines of rows that are in both splits: the first five."""
    leaks: int
    samples: list[Sample]
    foreign: bool
    """Whether an instruct model would be trained with another chat template than its own."""


def read_report(run: Path) -> DatasetReport | None:
    """None if there is none yet."""
    try:
        return DatasetReport.model_validate_json(read_whole(run / FILE))
    except (OSError, ValueError):
        return None
