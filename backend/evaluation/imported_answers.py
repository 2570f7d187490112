"""Imported answers: a CSV or JSON Lines file with the columns model, id, instruction, reference and candidate, or the
answers of a comparison. A file with the columns score and explanation needs no judge."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from backend.core import jsonl
from backend.core.errors import LabError
from backend.core.files import write_atomic
from backend.core.messages import Message, plain
from backend.data import formats, text_files
from backend.data.dataset import ENDINGS as DATA_ENDINGS
from backend.data.dataset import shown
from backend.evaluation.records import Answer, Question, cluster
from backend.inference.sampling import End, Generation

MOST = 100_000  # rows of a file
ENDINGS = tuple(ending for ending in DATA_ENDINGS if ending != ".parquet")
NEEDED = ("model", "id", "instruction", "candidate")
SCALES = ((1.0, 5.0), (0.0, 1.0), (0.0, 10.0), (0.0, 100.0))
SHOWN = 5  # faults that an error names


class ImportedAnswer(BaseModel):
    """One answer of a model to a conversation, with its score if the file has scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, max_length=100)
    id: str = Field(min_length=1, max_length=200)
    messages: list[Message] = Field(min_length=1)
    reference: str | None = None
    candidate: str = ""
    end: End = "stop"
    generation: Generation | None = None
    score: float | None = None
    explanation: str = ""


@dataclass(frozen=True)
class ImportedFile:
    """The answers of a file. `scored`: whether they have scores, on the scale from `low` to `high`."""

    rows: Sequence[ImportedAnswer]
    scored: bool = False
    low: float = 1.0
    high: float = 5.0

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models in the order of their first answers."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    @cached_property
    def text(self) -> str:
        """The rows as the JSON Lines file that runs read."""
        return "".join(row.model_dump_json() + "\n" for row in self.rows)

    @cached_property
    def file_name(self) -> str:
        """A name that is the digest of the content: the same answers have the same file name."""
        return f"{_digest(self.text.encode())}.answers.jsonl"


def are_answers(path: Path) -> bool:
    """Whether a file has the columns of imported answers. Otherwise it is a file of rows, or cannot be read."""
    try:
        if text_files.is_parquet(path):
            return False
        records = formats.read_records(text_files.describe(path), [range(20)])
        first = next((record.value for record in records if isinstance(record.value, Mapping)), {})
    except (LabError, OSError):
        return False
    return {"model", "candidate"} <= first.keys()


def read(path: Path) -> ImportedFile:
    """Read a file. Raises LabError that names the first faults and their lines; a file with a fault is not used."""
    if path.suffix.lower() not in ENDINGS:
        raise LabError(f"{shown(path.name)} is of no known kind. Answers come as {', '.join(ENDINGS)}.")
    numbered, faults = list[tuple[int, ImportedAnswer]](), list[str]()
    try:
        for record in formats.read_records(text_files.describe(path), [range(MOST + 1)]):
            try:
                numbered.append((record.line, _imported(record.error, record.value)))
            except ValueError as error:
                there = f" ({record.text})" if record.text else ""
                faults.append(f"line {record.line:,}: {error}{there}")
    except OSError as error:
        raise LabError(f"{shown(path.name)} cannot be read ({error.strerror or error}).") from error
    faults += [f"line {line:,}: {fault}" for line, fault in _contradictions(numbered)]
    if faults:
        more = f" and {len(faults) - SHOWN:,} more" if len(faults) > SHOWN else ""
        raise LabError(
            f"{shown(path.name)} cannot be used as it is: {'; '.join(faults[:SHOWN])}{more}. Correct these lines, then "
            "import it again."
        )
    rows = [row for _, row in numbered]
    if not rows:
        raise LabError(f"{shown(path.name)} holds no answers.")
    if len(rows) > MOST:
        raise LabError(f"{shown(path.name)} holds more than {MOST:,} answers. Take a part of it.")
    scores = [row.score for row in rows if row.score is not None]
    low, high = _scale(scores)
    return ImportedFile(rows, bool(scores), low, high)


def check(answers: ImportedFile) -> None:
    """Raises LabError if the rows contradict each other."""
    if faults := _contradictions(list(enumerate(answers.rows, 1))):
        raise LabError(f"These answers cannot be judged together: {faults[0][1]}.")


def save(answers: ImportedFile, folder: Path) -> Path:
    """Write the file that a run reads. Raises LabError as `check`, and OSError if the disk refuses it."""
    check(answers)
    path = folder / answers.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, answers.text)
    return path.resolve()


def load(path: Path) -> tuple[list[Question], list[Answer]]:
    """The rows and answers of a file that `save` wrote. Raises LabError if it is missing or was changed."""
    try:
        whole = _digest(path.read_bytes()) == path.name.partition(".")[0]
        rows = [ImportedAnswer.model_validate(record) for record in jsonl.read(path)] if whole else []
    except (OSError, ValueError):
        rows = []
    if not rows:
        raise LabError(f"The imported answers ({path.name}) are gone or were changed. Import them again.")
    first = {row.id: row for row in reversed(rows)}  # the first answer to each question
    questions = [
        Question(id=id, cluster=cluster(row.messages), messages=row.messages, reference=row.reference)
        for id in dict.fromkeys(row.id for row in rows)
        if (row := first[id])
    ]
    answers = [
        Answer(
            row=row.id, variant=row.model, text=row.candidate, end=row.end, generation=row.generation,
            score=row.score, explanation=row.explanation,
        )
        for row in rows
    ]  # fmt: skip
    return questions, answers


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


def _imported(wrong: str, value: Any) -> ImportedAnswer:
    """The answer of one record. Raises ValueError with its fault."""
    if wrong:
        raise ValueError(wrong)
    if not isinstance(value, Mapping):
        raise ValueError("it is no object")
    missing = [name for name in NEEDED if name not in value]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    instruction = _text(value["instruction"])
    if not instruction.strip():
        raise ValueError("its instruction is empty")
    names = {name: _text(value[name]).strip() for name in ("model", "id")}
    for name, text in names.items():
        if not 0 < len(text) <= (100 if name == "model" else 200):
            raise ValueError(f"its {name} is empty or too long")
    reference = _text(value.get("reference"))
    cut = str(value.get("cut", "")).strip().lower() in ("1", "true", "yes")
    return ImportedAnswer(
        **names,
        messages=[Message(role="user", content=instruction)],
        reference=reference if reference.strip() else None,
        candidate=_text(value["candidate"]),
        end="length" if cut else "stop",
        score=_number(value.get("score")),
        explanation=_text(value.get("explanation"))[:2000],
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return plain(str(value))
    raise ValueError("one of its texts is no text")


def _number(value: Any) -> float | None:
    """A score; None if it is empty, because an answer without a score is a failure and not a zero."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"its score {str(value)[:20]!r} is no number")
    return number


def _contradictions(rows: Sequence[tuple[int, ImportedAnswer]]) -> list[tuple[int, str]]:
    """(line, fault) of rows that contradict an earlier row."""
    faults, seen, firsts = [], set[tuple[str, str]](), dict[str, ImportedAnswer]()
    for line, row in rows:
        first = firsts.setdefault(row.id, row)
        if (row.model, row.id) in seen:
            faults.append((line, f"{shown(row.model)} has answered {shown(row.id)} before"))
        elif first.messages != row.messages or first.reference != row.reference:
            what = "instruction" if first.messages != row.messages else "reference"
            faults.append((line, f"{shown(row.id)} has another {what} here than for {shown(first.model)}"))
        seen.add((row.model, row.id))
    return faults


def _scale(scores: Sequence[float]) -> tuple[float, float]:
    """The first known scale that has all scores."""
    for low, high in SCALES:
        if all(low <= value <= high for value in scores):
            return low, high
    raise LabError(
        f"The scores lie between {min(scores):g} and {max(scores):g}, which is none of the scales known here "
        f"({', '.join(f'{low:g} to {high:g}' for low, high in SCALES)}). Bring them on one of these."
    )
