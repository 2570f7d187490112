"""Imported answers: a CSV or JSON Lines file with the columns model, id, instruction, reference and candidate, or the
answers of a comparison. With the columns score and explanation, no other judge is needed."""

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
from backend.data import formats
from backend.data.dataset import shown
from backend.evaluation.records import Answer, Question, cluster
from backend.inference.sampling import End, Generation

MOST = 100_000  # rows of a file
READERS = {".csv": formats.read_csv, ".jsonl": formats.read_json_lines, ".ndjson": formats.read_json_lines}
NEEDED = ("model", "id", "instruction", "candidate")
SCALES = ((1.0, 5.0), (0.0, 1.0), (0.0, 10.0), (0.0, 100.0))
SHOWN = 5  # faults that are told


class ImportedAnswer(BaseModel):
    """One answer."""

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
    """Answers, and whether they come with scores (`scored`) on the scale from `low` to `high`."""

    rows: Sequence[ImportedAnswer]
    scored: bool = False
    low: float = 1.0
    high: float = 5.0

    @property
    def models(self) -> tuple[str, ...]:
        """In the order of their first answers."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    @cached_property
    def text(self) -> str:
        """The rows as the JSON Lines file that runs read."""
        return "".join(row.model_dump_json() + "\n" for row in self.rows)

    @cached_property
    def file_name(self) -> str:
        """Named by its content: the same answers are the same file."""
        return f"{_digest(self.text.encode())}.answers.jsonl"


def read(path: Path) -> ImportedFile:
    """LabError with the first faults and their lines; nothing is taken from a file that has any."""
    if path.suffix.lower() not in READERS:
        raise LabError(f"{shown(path.name)} is of no known kind. Answers come as {', '.join(READERS)}.")
    numbered, faults = list[tuple[int, ImportedAnswer]](), list[str]()
    try:
        for record in READERS[path.suffix.lower()](path, [range(0, MOST + 1)]):
            try:
                numbered.append((record.line, _given(record.error, record.value)))
            except ValueError as error:
                faults.append(f"line {record.line:,}: {error}")
    except OSError as error:
        raise LabError(f"{shown(path.name)} cannot be read ({error.strerror or error}).") from error
    faults += [f"line {line:,}: {fault}" for line, fault in _together(numbered)]
    if faults:
        more = f" and {len(faults) - SHOWN:,} more" if len(faults) > SHOWN else ""
        raise LabError(
            f"{shown(path.name)} cannot be used as it is: {'; '.join(faults[:SHOWN])}{more}. Correct these lines, then "
            "import it again."
        )
    rows = [one for _, one in numbered]
    if not rows:
        raise LabError(f"{shown(path.name)} holds no answers.")
    if len(rows) > MOST:
        raise LabError(f"{shown(path.name)} holds more than {MOST:,} answers. Take a part of it.")
    scores = [row.score for row in rows if row.score is not None]
    low, high = _scale(scores)
    return ImportedFile(rows, bool(scores), low, high)


def check(answers: ImportedFile) -> None:
    """LabError if the rows contradict each other."""
    if faults := _together(list(enumerate(answers.rows, 1))):
        raise LabError(f"These answers cannot be judged together: {faults[0][1]}.")


def save(answers: ImportedFile, folder: Path) -> Path:
    """Write the file that runs read. LabError as `check`, OSError if the disk refuses it."""
    check(answers)
    path = folder / answers.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, answers.text)
    return path.resolve()


def load(path: Path) -> tuple[list[Question], list[Answer]]:
    """The rows and answers of such a file. LabError if it is gone, or is not what it was."""
    try:
        whole = _digest(path.read_bytes()) == path.name.partition(".")[0]
        rows = [ImportedAnswer.model_validate(record) for record in jsonl.read(path)] if whole else []
    except (OSError, ValueError):
        rows = []
    if not rows:
        raise LabError(f"The imported answers ({path.name}) are gone or were changed. Import them again.")
    asked = {row.id: row for row in reversed(rows)}
    order = list(dict.fromkeys(one.id for one in rows))
    questions = [
        Question(id=id, cluster=cluster(one.messages), messages=one.messages, reference=one.reference)
        for id in order
        if (one := asked[id])
    ]
    answers = [
        Answer(
            row=one.id, variant=one.model, text=one.candidate, end=one.end, generation=one.generation,
            score=one.score, explanation=one.explanation,
        )
        for one in rows
    ]  # fmt: skip
    return questions, answers


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


def _given(wrong: str, value: Any) -> ImportedAnswer:
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
    """None for an empty one: what was not scored is a failure and no zero."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"its score {str(value)[:20]!r} is no number")
    return number


def _together(rows: Sequence[tuple[int, ImportedAnswer]]) -> list[tuple[int, str]]:
    """What is wrong with rows that are sound by themselves, each with its line."""
    faults, seen, asked = [], set[tuple[str, str]](), dict[str, ImportedAnswer]()
    for line, one in rows:
        first = asked.setdefault(one.id, one)
        if (one.model, one.id) in seen:
            faults.append((line, f"{shown(one.model)} has answered {shown(one.id)} before"))
        elif first.messages != one.messages or first.reference != one.reference:
            what = "instruction" if first.messages != one.messages else "reference"
            faults.append((line, f"{shown(one.id)} has another {what} here than for {shown(first.model)}"))
        seen.add((one.model, one.id))
    return faults


def _scale(scores: Sequence[float]) -> tuple[float, float]:
    for low, high in SCALES:
        if all(low <= value <= high for value in scores):
            return low, high
    raise LabError(
        f"The scores lie between {min(scores):g} and {max(scores):g}, which is none of the scales known here "
        f"({', '.join(f'{low:g} to {high:g}' for low, high in SCALES)}). Bring them on one of these."
    )
