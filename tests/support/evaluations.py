"""Small evaluations as the lab starts them, with the double as their judge."""

import contextlib
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from servers.judge import Answering, JudgeServer, Reply, Rule, graded

from backend.core.messages import Message
from backend.core.settings import Settings
from backend.data.dataset import DatasetSpec
from backend.evaluation import imported_answers, records
from backend.evaluation.evaluations import ANSWERS
from backend.evaluation.imported_answers import ImportedAnswer, ImportedFile
from backend.evaluation.request import EvaluateRequest, JudgeRequest
from backend.evaluation.result import Result
from backend.jobs.run import Run, runs_in
from backend.judge.score import Score
from backend.lab import Lab
from support.judges import KEY
from support.runs import alive
from support.session import until

LONG = 120.0  # seconds that a small evaluation may take on a slow machine
TOY = DatasetSpec(source="tiny_habit", rows=50, held_first=10_000, held_rows=4)
BARE: dict[str, Any] = {"check": False, "rejudged": 0}
_ANSWER = re.compile(r"<<<ANSWER (\w+)\n(.*)\nANSWER \1>>>", re.DOTALL)
_TWO = re.compile(r"<<<ANSWER A (\w+)\n(.*)\nANSWER A \1>>>\n\n<<<ANSWER B \1\n(.*)\nANSWER B \1>>>", re.DOTALL)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab with a key; whatever still runs for it is killed in the end."""
    (tmp_path / "weights").mkdir()
    settings = Settings(
        _env_file=None, lab_runs=tmp_path / "runs", lab_weights=tmp_path / "weights", openai_api_key=KEY
    )
    with Lab(settings) as lab:
        yield lab
    for run in runs_in(settings.lab_runs):
        for pid in alive(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Prompt(Answering):
    """Its answer leaves at once: head and body are two pieces, and the second would wait 40 ms for a word about the
    first."""

    disable_nagle_algorithm = True


@pytest.fixture
def judge() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        server.server.RequestHandlerClass = Prompt
        yield server


def by(judge: JudgeServer, **more: Any) -> JudgeRequest:
    return JudgeRequest(
        **({"kind": "endpoint", "rubric": "lab", "model": "judge-1", "address": judge.url, "free": True} | more)
    )


def give(columns: Mapping[str, Sequence[str | None]], **more: Any) -> list[ImportedAnswer]:
    """An answer to each row, by model; None where it has none to that row."""
    return [
        ImportedAnswer(
            model=name,
            id=f"row-{n}",
            messages=[Message(role="user", content=f"What is {n} plus one?")],
            reference=f"It is {n + 1}.",
            candidate=text,
            **more,
        )
        for name, column in columns.items()
        for n, text in enumerate(column)
        if text is not None
    ]


def saved(lab: Lab, columns: Mapping[str, Sequence[str | None]]) -> ImportedFile:
    """Imported answers, and the file that runs read of them."""
    answers = ImportedFile(give(columns))
    imported_answers.save(answers, lab.settings.lab_runs / ANSWERS)
    return answers


def brought(lab: Lab, judge: JudgeRequest, columns: Mapping[str, Sequence[str | None]], **more: Any) -> EvaluateRequest:
    """An evaluation of answers that are here already, without check and repetition unless they are asked for."""
    return lab.evaluations.request(tuple(columns), judge, answers=saved(lab, columns), **(BARE | more))


def evaluated(lab: Lab, spec: EvaluateRequest) -> Run:
    """The run when it has ended, however it ended."""
    return ended(lab.evaluations.start(spec))


def ended(run: Run, seconds: float = LONG) -> Run:
    until(lambda: not run.live, seconds)
    return run


def done(lab: Lab, run: Run) -> Result:
    assert run.state == "done", (run.why, run.log(20))
    return lab.evaluations.result(run.id)


def answer_in(body: Mapping[str, Any]) -> str:
    """The answer that a question to the judge is about; empty for one that is about something else."""
    found = _ANSWER.search(body["messages"][-1]["content"] if len(body["messages"]) == 2 else "")
    return found.group(2) if found else ""


def two_in(body: Mapping[str, Any]) -> tuple[str, str]:
    """The answers that are to be compared, in the order in which they stand."""
    found = _TWO.search(body["messages"][-1]["content"])
    return (found.group(2), found.group(3)) if found else ("", "")


def asked_about(judge: JudgeServer) -> Counter[str]:
    """How often the judge was asked about each answer, the trial question and second askings left out."""
    return Counter(text for body in judge.bodies if (text := answer_in(body)) not in ("", "Yellow."))


def points(**values: int) -> Rule:
    """Grade an answer by the word it contains; all others with 3."""

    def rule(body: dict[str, Any]) -> Reply:
        grade = next((value for word, value in values.items() if word in answer_in(body)), 3)
        return graded(text_of(grade), model=body["model"])

    return rule


def text_of(grade: int) -> str:
    numbers = ", ".join(f'"{name}": {grade}' for name in ("correctness", "completeness", "faithfulness"))
    return f'{{"evidence": "It says so.", {numbers}, "flags": [], "cannot_judge": false}}'


def scores(run: Run) -> list[Score]:
    return [one for several in records.scores(run.folder).values() for one in several]
