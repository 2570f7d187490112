"""What a person chooses for an evaluation, made the one that is asked for: which rows, which judge, which variants."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from app.compare.comparison import Comparison
from backend.core.errors import LabError
from backend.data.dataset import TINY, TINY_HELD, DatasetSpec
from backend.evaluation import imported_answers
from backend.evaluation.cost_forecast import CostForecast
from backend.evaluation.imported_answers import ImportedAnswer, ImportedFile
from backend.evaluation.request import GREEDY, EvaluateOptions, EvaluateRequest, JudgeOptions, JudgeRequest
from backend.inference import conversation
from backend.inference.sampling import Sampling
from backend.lab import Lab

Way = Literal["score", "winner"]
OVERLAP, EXACT, ENDPOINT, VARIANT, CAME = "rule:overlap", "rule:exact", "endpoint", "variant:", "given"
TOY, LAB, RUN, FILE, ANSWERS = "tiny", "lab", "run:", "file", "answers"
RUBRICS = ("lab", "brief")
"""Of models that judge; a rule has its own."""
ON_SCREEN = "the answers on the screen"
"""What a run is called that judges them: its name is shown to visitors, and what was asked is private."""
LETTERS = "ABCD"
MOST = 10_000  # rows of one evaluation


@dataclass(frozen=True)
class FormChoices:
    """The controls of the form. `rows`: how many at the most. `file`: rows or answers, kept where runs find it."""

    variants: tuple[str, ...] = ()
    source: str = TOY
    rows: int = 60
    file: str = ""
    judge: str = OVERLAP
    rubric: str = "lab"
    baseline: str = ""
    judge_how: JudgeOptions = field(default_factory=JudgeOptions)
    how: EvaluateOptions = field(default_factory=EvaluateOptions)
    sampling: Sampling = GREEDY


def sources(lab: Lab) -> list[tuple[str, str]]:
    """Where rows can come from: what to call it, and its id."""
    trained = [one for one in lab.training.standings() if one.made and one.made.held]
    runs = [
        (f"Held-out rows of {one.name} ({one.id[:15]}; {one.made.held})", RUN + one.id) for one in trained if one.made
    ]
    return [
        ("The toy's held-out questions", TOY),
        *runs,
        ("The lab's 20 rows: FineTome 1,000 to 1,019, from the Hub", LAB),
        ("A file of rows of your own", FILE),
        ("Answers made elsewhere (CSV or JSONL)", ANSWERS),
    ]


def judges(lab: Lab) -> list[tuple[str, str]]:
    """Who can judge: what to call it, and its id."""
    settings = lab.settings
    where = "the address in JUDGE_BASE_URL" if settings.judge_base_url.strip() else "OpenAI"
    variants = [entry.variant.id for entry in lab.entries() if entry.runs and entry.variant.runtime == "llama"]
    return [
        ("Rule: overlap with the reference (no model)", OVERLAP),
        ("Rule: exact match (no model)", EXACT),
        (f"{settings.judge_model} at {where}", ENDPOINT),
        *((f"{name}, on this machine", VARIANT + name) for name in variants),
        ("Nobody: the scores that came with the answers", CAME),
    ]


def judge(lab: Lab, chosen: str, rubric: str, how: JudgeOptions) -> JudgeRequest:
    """LabError where that judge cannot be asked."""
    more = how.model_dump()
    if chosen in (OVERLAP, EXACT):
        return JudgeRequest(kind="rule", rubric=chosen.partition(":")[2], **more)
    if rubric not in RUBRICS:
        raise LabError(f"There is no rubric {rubric!r} for models. There are {', '.join(RUBRICS)}.")
    if chosen == ENDPOINT:
        return lab.evaluations.endpoint().model_copy(update=more | {"rubric": rubric})
    if chosen.startswith(VARIANT):
        return JudgeRequest(kind="variant", model=_ready(lab, chosen.removeprefix(VARIANT)), rubric=rubric, **more)
    raise LabError("No judge is chosen. Choose one; a rule needs neither a key nor a model.")


def asked(lab: Lab, chosen: FormChoices) -> EvaluateRequest:
    """The evaluation that was chosen. LabError with the first thing that is missing."""
    more = chosen.how.model_dump() | {"sampling": chosen.sampling}
    if chosen.source == ANSWERS:
        found = _brought(chosen.file)
        who = None if chosen.judge == CAME else judge(lab, chosen.judge, chosen.rubric, chosen.judge_how)
        if who is None and not found.scored:
            raise LabError("No scores came with these answers. Choose a judge for them.")
        more |= {"low": found.low, "high": found.high}
        came = JudgeRequest(kind="given", rubric="given")
        # On a Space visitors see the names of evaluations, but not those of the owner's files.
        name = "imported answers" if lab.settings.space_id else Path(chosen.file).stem[:80]
        return lab.evaluations.spec(
            found.models, who or came, answers=found.rows, baseline=chosen.baseline, name=name, **more
        )
    for name in chosen.variants:
        _ready(lab, name)
    data, part = rows(lab, chosen.source, chosen.rows, chosen.file)
    who = judge(lab, chosen.judge, chosen.rubric, chosen.judge_how)
    return lab.evaluations.spec(chosen.variants, who, data, baseline=chosen.baseline, part=part, **more)


def _ready(lab: Lab, name: str) -> str:
    """LabError, before anything is begun, for a variant that cannot run."""
    entry = lab.entry(name)
    if not entry.runs:
        raise LabError(f"{name} cannot run: it is {entry.state}. Get it in the Library, or choose another variant.")
    return entry.variant.id


def forecast(lab: Lab, chosen: FormChoices) -> CostForecast:
    """What judging that will cost."""
    spec = asked(lab, chosen)
    if chosen.source == ANSWERS:
        found = _brought(chosen.file).rows
        return lab.evaluations.forecast(spec, len({one.id for one in found}), found)
    assert spec.data
    return lab.evaluations.forecast(spec, spec.data.held_rows if spec.part == "held" else spec.data.rows)


def rows(lab: Lab, source: str, count: int, file: str) -> tuple[DatasetSpec, Literal["held", "train"]]:
    """Which rows, and which part of them."""
    if count < 1:
        raise LabError("An evaluation needs a row at least. Choose how many.")
    count = min(count, MOST)
    if source == TOY:
        return DatasetSpec(source=TINY, rows=1, held_first=TINY_HELD, held_rows=count), "held"
    if source == LAB:
        return DatasetSpec(held_rows=count), "held"
    if source == FILE:
        if not file:
            raise LabError("No file is there yet. Drop one, or choose other rows.")
        return DatasetSpec(source=file, first=0, rows=count, held_first=count, held_rows=0), "train"
    made = lab.training.standing(source.removeprefix(RUN)).made
    if made is None or not made.held:
        raise LabError("This run holds out no rows. Choose another one, or other rows.")
    return made.spec.data.model_copy(update={"held_rows": min(count, made.spec.data.held_rows)}), "held"


def answers(now: Comparison, reference: str) -> list[ImportedAnswer]:
    """What stands on the screen of a comparison, to be judged: one row, or a row for each where their conversations
    have gone apart. LabError where not everybody has answered."""
    found: list[ImportedAnswer] = []
    for place, (name, (_, turns)) in enumerate(zip(names_of(now), now.contestants, strict=True)):
        last = turns[-1] if turns else None
        if last is None or last.role != "assistant" or last.error or last.generation is None:
            raise LabError("Not everybody has answered yet. Send a prompt, wait, and ask a judge then.")
        said = conversation.messages(now.system, turns)[:-1]
        found.append(
            ImportedAnswer(
                model=name,
                id="1" if not found or said == found[0].messages else LETTERS[place],
                messages=said,
                reference=reference.strip() or None,
                candidate=last.content,
                end=last.generation.end,
                generation=last.generation,
            )
        )
    return found


def names_of(now: Comparison) -> list[str]:
    """The variants, told apart where one stands there twice."""
    twice = {name for name in now.variants if now.variants.count(name) > 1}
    return [f"{name} ({LETTERS[place]})" if name in twice else name for place, name in enumerate(now.variants)]


def on_screen(lab: Lab, now: Comparison, reference: str, chosen: str, rubric: str, way: Way) -> EvaluateRequest:
    """An evaluation of what stands on the screen: one row, no planned comparison, no new check of the judge."""
    if not now.variants:
        raise LabError("There is nothing to judge yet. Send a prompt to two variants first.")
    found = answers(now, reference)
    if way == "winner" and chosen in (OVERLAP, EXACT):
        raise LabError("A rule measures, it does not choose. Let it score, or choose a judge that is a model.")
    if way == "winner" and len({one.id for one in found}) > 1:
        raise LabError("These conversations have gone apart, so no winner can be picked. Start over with one prompt.")
    who = judge(lab, chosen, rubric, JudgeOptions(cap_run=lab.settings.judge_cap_run))
    more: dict[str, Any] = {"way": way, "check": False, "rejudged": 0, "sampling": now.sampling}
    return lab.evaluations.spec(names_of(now), who, answers=found, name=ON_SCREEN, **more)


@lru_cache(maxsize=4)
def _brought(file: str) -> ImportedFile:
    """A file that was kept is named by what is in it, so it is read once."""
    if not file:
        raise LabError("No file of answers is there yet. Drop one with model, id, instruction, reference, candidate.")
    return imported_answers.read(Path(file))
