"""The choices of the evaluation form (variants, rows, judge), and the request that they make. No gradio."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from app.compare.comparison import LETTERS, Comparison
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.data.dataset import TINY, TINY_EVAL, DatasetSpec
from backend.evaluation import imported_answers
from backend.evaluation.cost_forecast import CostForecast
from backend.evaluation.imported_answers import ImportedAnswer, ImportedFile
from backend.evaluation.request import GREEDY, EvaluateOptions, EvaluateRequest, JudgeOptions, JudgeRequest
from backend.inference import conversation
from backend.inference.sampling import Sampling
from backend.lab import Lab
from backend.training.status import TrainingStatus
from models.catalogue import Entry

Way = Literal["score", "winner"]
OVERLAP, EXACT, ENDPOINT, VARIANT, IMPORTED_SCORES = "rule:overlap", "rule:exact", "endpoint", "variant:", "given"
TOY, LAB, RUN, FILE, ANSWERS = "tiny", "lab", "run:", "file", "answers"
RUBRICS = ("lab", "brief")
"""Rubrics for judges that are models. Each rule has its own rubric."""
COMPARISON = "the answers of a comparison"
"""The name of a run that judges a comparison. Visitors see it, so it has no words of the prompt."""
MAX_ROWS = 10_000  # of one evaluation


@dataclass(frozen=True)
class FormChoices:
    """The values of the form. `rows` is the maximum number; `file` is the path of uploaded rows or answers."""

    variants: tuple[str, ...] = ()
    source: str = TOY
    rows: int = 60
    file: str = ""
    judge: str = OVERLAP
    rubric: str = "lab"
    baseline: str = ""
    judge_options: JudgeOptions = field(default_factory=JudgeOptions)
    options: EvaluateOptions = field(default_factory=EvaluateOptions)
    sampling: Sampling = GREEDY


def sources(trainings: Sequence[TrainingStatus]) -> list[tuple[str, str]]:
    """Label and id of the sources of rows."""
    runs = [
        (f"Eval split of {run.name} ({run.id[:15]}; {run.made.held} rows)", RUN + run.id)
        for run in trainings
        if run.made and run.made.held
    ]
    return [
        ("Held-out questions of the embedded model", TOY),
        *runs,
        ("The 20 rows of the lab report: FineTome 1,000 to 1,019, from the Hub", LAB),
        ("Your own file of rows", FILE),
        ("Imported answers (CSV or JSONL)", ANSWERS),
    ]


def judges(settings: Settings, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Label and id of the judges."""
    provider = "the address in JUDGE_BASE_URL" if settings.judge_base_url.strip() else "OpenAI"
    variants = [entry.variant.id for entry in entries if entry.runs and entry.variant.runtime == "llama"]
    return [
        ("Rule: overlap with the reference (no model)", OVERLAP),
        ("Rule: exact match (no model)", EXACT),
        (f"{settings.judge_model} at {provider}", ENDPOINT),
        *((f"{name}, on this machine", VARIANT + name) for name in variants),
        ("None: the imported scores", IMPORTED_SCORES),
    ]


def judge(lab: Lab, chosen: str, rubric: str, options: JudgeOptions) -> JudgeRequest:
    """The request for a judge. LabError if it cannot be used."""
    more = options.model_dump()
    if chosen in (OVERLAP, EXACT):
        return JudgeRequest(kind="rule", rubric=chosen.partition(":")[2], **more)
    if rubric not in RUBRICS:
        raise LabError(f"There is no rubric {rubric!r} for models. Choose {', '.join(RUBRICS)}.")
    if chosen == ENDPOINT:
        return lab.evaluations.endpoint().model_copy(update=more | {"rubric": rubric})
    if chosen.startswith(VARIANT):
        return JudgeRequest(kind="variant", model=_ready(lab, chosen.removeprefix(VARIANT)), rubric=rubric, **more)
    raise LabError("No judge is chosen. Choose one; a rule needs no key and no model.")


def imported(chosen: FormChoices) -> ImportedFile | None:
    """The imported answers; None for another source of rows. LabError with the faults of the file."""
    return _read_answers(chosen.file) if chosen.source == ANSWERS else None


def evaluate_request(lab: Lab, chosen: FormChoices) -> EvaluateRequest:
    """The request for an evaluation. LabError with the first missing choice. Writes nothing."""
    more = chosen.options.model_dump() | {"sampling": chosen.sampling}
    if answers := imported(chosen):
        judge_request = (
            None if chosen.judge == IMPORTED_SCORES else judge(lab, chosen.judge, chosen.rubric, chosen.judge_options)
        )
        if judge_request is None and not answers.scored:
            raise LabError("These answers have no scores. Choose a judge.")
        more |= {"low": answers.low, "high": answers.high}
        scores = JudgeRequest(kind="given", rubric="given")
        # On a Space, visitors see the names of evaluations, but not the names of the owner's files.
        name = "imported answers" if lab.settings.space_id else Path(chosen.file).stem[:80]
        return lab.evaluations.request(
            answers.models, judge_request or scores, answers=answers, baseline=chosen.baseline, name=name, **more
        )
    for name in chosen.variants:
        _ready(lab, name)
    data, part = rows(lab, chosen.source, chosen.rows, chosen.file)
    judge_request = judge(lab, chosen.judge, chosen.rubric, chosen.judge_options)
    return lab.evaluations.request(chosen.variants, judge_request, data, baseline=chosen.baseline, part=part, **more)


def _ready(lab: Lab, name: str) -> str:
    """Return the id of a variant. LabError if it cannot run."""
    entry = lab.entry(name)
    if not entry.runs:
        raise LabError(
            f"{name} cannot run: it is {entry.state}. Download it in the Library, or choose another variant."
        )
    return entry.variant.id


def cost_forecast(lab: Lab, chosen: FormChoices) -> CostForecast:
    """The estimated cost of the judge."""
    request = evaluate_request(lab, chosen)
    if answers := imported(chosen):
        return lab.evaluations.forecast(request, len({row.id for row in answers.rows}), answers.rows)
    assert request.data
    return lab.evaluations.forecast(request, request.data.held_rows if request.part == "held" else request.data.rows)


def rows(lab: Lab, source: str, count: int, file: str) -> tuple[DatasetSpec, Literal["held", "train"]]:
    """The dataset of a source of rows, and the split to use."""
    if source == TOY:
        return DatasetSpec(source=TINY, rows=1, held_first=TINY_EVAL, held_rows=count), "held"
    if source == LAB:
        return DatasetSpec(held_rows=count), "held"
    if source == FILE:
        if not file:
            raise LabError("No file is uploaded yet. Upload one, or choose other rows.")
        return DatasetSpec(source=file, first=0, rows=count, held_first=count, held_rows=0), "train"
    record = lab.training.status(source.removeprefix(RUN)).made
    if record is None or not record.held:
        raise LabError("This run has no eval split. Choose another run, or other rows.")
    return record.spec.data.model_copy(update={"held_rows": min(count, record.spec.data.held_rows)}), "held"


def answers_of(state: Comparison, reference: str) -> ImportedFile:
    """The last answers of a comparison: one row, or one row per variant if their conversations differ.

    LabError if a variant has not answered.
    """
    rows: list[ImportedAnswer] = []
    for place, (name, (_, turns)) in enumerate(zip(names_of(state), state.columns, strict=True)):
        last = turns[-1] if turns else None
        if last is None or last.role != "assistant" or last.error or last.generation is None:
            raise LabError("Not every variant has answered yet. Send a prompt, wait for the answers, then ask a judge.")
        messages = conversation.messages(state.system, turns)[:-1]
        rows.append(
            ImportedAnswer(
                model=name,
                id="1" if not rows or messages == rows[0].messages else LETTERS[place],
                messages=messages,
                reference=reference.strip() or None,
                candidate=last.content,
                end=last.generation.end,
                generation=last.generation,
            )
        )
    return ImportedFile(rows)


def names_of(state: Comparison) -> list[str]:
    """The names of the columns: the variant, with the letter of the column if two columns have the same variant."""
    twice = {name for name in state.variants if state.variants.count(name) > 1}
    return [f"{name} ({LETTERS[place]})" if name in twice else name for place, name in enumerate(state.variants)]


def judge_comparison(
    lab: Lab, state: Comparison, reference: str, chosen: str, rubric: str, way: Way
) -> tuple[EvaluateRequest, ImportedFile]:
    """The request for an evaluation of the last answers of a comparison, and these answers. Writes nothing.

    It has no planned contrasts and no judge check.
    """
    if not state.variants:
        raise LabError("There are no answers to judge yet. Send a prompt to two variants first.")
    answers = answers_of(state, reference)
    if way == "winner" and chosen in (OVERLAP, EXACT):
        raise LabError("A rule cannot pick a winner. Let it score, or choose a judge that is a model.")
    if way == "winner" and len({row.id for row in answers.rows}) > 1:
        raise LabError("These conversations differ, so no winner can be picked. Start over with one prompt.")
    judge_request = judge(lab, chosen, rubric, JudgeOptions(cap_run=lab.settings.judge_cap_run))
    more: dict[str, Any] = {"way": way, "check": False, "rejudged": 0, "sampling": state.sampling}
    return lab.evaluations.request(names_of(state), judge_request, answers=answers, name=COMPARISON, **more), answers


@lru_cache(maxsize=4)
def _read_answers(file: str) -> ImportedFile:
    """Read a file of answers. Cached, because the folder of an uploaded file is named by its checksum."""
    if not file:
        raise LabError(
            "No file of answers is uploaded yet. Upload one with model, id, instruction, reference and candidate."
        )
    return imported_answers.read(Path(file))
