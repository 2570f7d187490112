"""The rows of an evaluation, made questions: read once, written down whole, and the same ones ever after."""

from collections.abc import Callable
from pathlib import Path

from backend.core import jsonl
from backend.core.errors import LabError
from backend.data.duplicates import overlap
from backend.data.load import load
from backend.data.rows import Row
from backend.evaluation import imported_answers, records
from backend.evaluation.records import Answer, Question
from backend.evaluation.request import EvaluateSpec


def gathered(asked: EvaluateSpec, folder: Path, say: Callable[[str], None]) -> list[Question]:
    """Those that were written down when the run first began, else read now. LabError where there are none."""
    if known := records.questions(folder):
        return known
    if asked.given:
        found, answered = imported_answers.kept(Path(asked.given))
        _write_answers(folder, answered)
    else:
        found = _of_data(asked, say)
    records.write_whole(folder / records.ROWS, "".join(one.model_dump_json() + "\n" for one in found))
    return found


def _of_data(asked: EvaluateSpec, say: Callable[[str], None]) -> list[Question]:
    assert asked.data
    data = load(asked.data, say)
    rows = data.held if asked.part == "held" else data.train
    leaked = {row.index for _, row in overlap(data.train, data.held)} if asked.part == "held" else set()
    found = [_question(row, row.index in leaked) for row in rows if row.messages[-1]["role"] == "assistant"]
    if not found:
        raise LabError("None of these rows has an answer to compare with. Choose other rows.")
    return found


def _question(row: Row, leaked: bool) -> Question:
    messages = list(row.messages[:-1])
    return Question(
        id=str(row.index),
        cluster=records.cluster(messages),
        messages=messages,
        reference=row.messages[-1]["content"],
        leaked=leaked,
    )


def _write_answers(folder: Path, answered: list[Answer]) -> None:
    (folder / records.ANSWERS).unlink(missing_ok=True)
    for one in answered:
        jsonl.append(folder / records.ANSWERS, one.model_dump(mode="json"))
