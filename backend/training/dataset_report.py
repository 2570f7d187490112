"""What looking at a data set told, before anything is trained on it."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from backend.core.files import read_whole

FILE = "report.json"


class Sample(BaseModel):
    """A row as the model will see it: texts in order, and whether each is learnt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    tokens: int
    learnt: int
    pieces: list[tuple[str, bool]]
    cut: str = ""
    """What is beyond the limit, and neither read nor learnt."""


class DatasetReport(BaseModel):
    """report.json of an inspect run. Lengths are in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    held: int
    dropped: int
    why_dropped: list[tuple[int, str]]
    """The first five: line number and reason."""
    columns: list[str]
    shape: str
    sha256: str
    commit: str
    limit: int
    cut: int
    longest: int
    edges: list[int]
    """Of the histogram's bins, one more than there are counts."""
    counts: list[int]
    tokens: int
    learnt: int
    duplicates: int
    in_both: list[tuple[int, int]]
    """Lines of rows that are in both splits: the first five."""
    leaks: int
    samples: list[Sample]
    foreign: bool
    """Whether an instruct model would be trained on a template that is not its own."""


def read_report(run: Path) -> DatasetReport | None:
    """None while there is none yet."""
    try:
        return DatasetReport.model_validate_json(read_whole(run / FILE))
    except (OSError, ValueError):
        return None
