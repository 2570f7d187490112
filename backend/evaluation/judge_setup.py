"""The judge of an evaluation, made ready: found, negotiated with, named. For workers only."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Protocol

from backend.core.errors import LabError
from backend.core.files import write_atomic
from backend.core.messages import Message
from backend.evaluation import records
from backend.evaluation.answering import engines_for
from backend.evaluation.records import JudgeRecord
from backend.evaluation.request import EvaluateRequest
from backend.inference import placement
from backend.judge import pairwise, prompt, reply
from backend.judge.client import JudgeClient
from backend.judge.grader import Grader
from backend.judge.local_judge import LocalJudge
from backend.judge.remote_judge import RemoteJudge
from backend.judge.rubric import Rubric, rubrics
from backend.judge.rule_judge import RuleJudge
from backend.judge.score import Identity, Item, Score
from backend.remote.client import ApiClient, connect
from backend.remote.ledger import FILE, Ledger, SavedReplies
from backend.remote.negotiate import negotiate
from backend.remote.prices import known_price, retirement
from models.catalogue import Entry, list_variants

TRIAL = Item(
    messages=[Message(role="user", content="Which colour does a ripe lemon have?")],
    reference="Yellow.",
    answer="Yellow.",
)


class Judge(Protocol):
    """Anything that scores answers. `together`: how many at once."""

    @property
    def together(self) -> int: ...

    @property
    def identity(self) -> Identity: ...

    def score(self, item: Item, repeat: int = 0, round: int = 0) -> Score: ...


@dataclass(frozen=True)
class OpenJudge:
    """A judge that can be asked. `asker` is there where the judge is a model."""

    judge: Judge
    by: JudgeRecord
    asker: JudgeClient | None = None
    endpoint: RemoteJudge | None = None
    unknown: int = 0
    """Calls of this run with an unknown outcome: they count as spent, and may be billed."""

    @property
    def waiting_until(self) -> float:
        return self.endpoint.waiting_until if self.endpoint else 0.0

    def cancel_waiting(self) -> None:
        """Questions that wait end as cancelled; those under way may still be answered."""
        if self.endpoint:
            self.endpoint.cancel_waiting()

    def close(self) -> None:
        """Those under way end as cancelled, too."""
        if self.endpoint:
            self.endpoint.close()


@contextmanager
def open_judge(request: EvaluateRequest, folder: Path, key: str) -> Iterator[OpenJudge]:
    """The judge, for as long as it is needed. LabError where it cannot be asked at all."""
    match request.judge.kind:
        case "endpoint":
            ready = _endpoint(request, folder, key)
            try:
                yield ready
            finally:
                ready.close()
        case "variant":
            entry = _entry(request)
            engines = engines_for(request, [entry])
            try:
                seat, manner = placement.model_spec(entry, request.context), placement.prompt_format(entry)
                local = LocalJudge(engines, seat, manner, engines.slots)
                by = _said(folder, JudgeRecord(identity=_of_variant(request, entry), notes=tuple(_kin(request, entry))))
                yield OpenJudge(_grader(request, local, by), by, local)
            finally:
                engines.close()
        case _:
            rule = RuleJudge(_rubric(request))
            yield OpenJudge(rule, _said(folder, JudgeRecord(identity=rule.identity)))


def _rubric(request: EvaluateRequest) -> Rubric:
    return rubrics()[request.judge.rubric]


def _grader(request: EvaluateRequest, asker: JudgeClient, by: JudgeRecord) -> Grader:
    return Grader(asker, _rubric(request), by.identity)


def _said(folder: Path, by: JudgeRecord) -> JudgeRecord:
    """Store the judge's record once. LabError if the judge is another one now."""
    known = records.read_one(folder / records.JUDGE, JudgeRecord)
    if known is None:
        write_atomic(folder / records.JUDGE, by.model_dump_json(indent=1))
        return by
    if known.identity.id != by.identity.id:
        raise LabError(
            "The judge is not the one this run began with: its file, its rubric or its parameters have changed, and "
            "scores of two judges never share a table. Begin a new evaluation."
        )
    return known


def _endpoint(request: EvaluateRequest, folder: Path, key: str) -> OpenJudge:
    spec, rubric = request.judge, _rubric(request)
    ledger = Ledger(Path(request.runs) / FILE, spec.cap_run, request.cap_day, folder.name)
    line = connect(spec.model, spec.address, key, known_price(spec.model, spec.address, spec.free), ledger)
    known = records.read_one(folder / records.JUDGE, JudgeRecord)
    by = _said(folder, known and _same_rubric(known, rubric) or _negotiated(request, line, rubric))
    if by.agreed is None:
        raise LabError("What was agreed with the judge cannot be read any more. Begin a new evaluation.")
    line = replace(line, replies=SavedReplies(folder / records.REPLIES))
    unknown = line.settle_saved()
    endpoint = RemoteJudge(line, by.agreed, spec.together)
    return OpenJudge(_grader(request, endpoint, by), by, endpoint, endpoint, unknown)


def _same_rubric(known: JudgeRecord, rubric: Rubric) -> JudgeRecord:
    return known.model_copy(update={"identity": known.identity.model_copy(update={"rubric": rubric.hash})})


def _negotiated(request: EvaluateRequest, line: ApiClient, rubric: Rubric) -> JudgeRecord:
    """With one small question, of the kind that will be asked."""
    if request.way == "winner":
        said = pairwise.question(rubric, TRIAL.messages, TRIAL.reference, "Yellow.", "Blue.")
        agreed = negotiate(line, said, pairwise.FORM, pairwise.fits)
    else:
        said = prompt.question(rubric, TRIAL)
        agreed = negotiate(line, said, prompt.form(rubric), lambda text: reply.parse_reply(text, rubric).status == "ok")
    identity = Identity(
        kind="endpoint",
        model=line.model,
        returned=agreed.returned,
        address=line.address,
        rubric=rubric.hash,
        parameters=agreed.parameters | _shown(request),
    )
    return JudgeRecord(identity=identity, agreed=agreed, notes=tuple(_notes(line)))


def _notes(line: ApiClient) -> list[str]:
    return [note for note in [retirement(line.model, date.today())] if note]


def _shown(request: EvaluateRequest) -> dict[str, str]:
    return {} if request.judge.reference else {"reference": "hidden"}


def _entry(request: EvaluateRequest) -> Entry:
    entry = next((one for one in list_variants(Path(request.weights)) if one.variant.id == request.judge.model), None)
    if entry is None or not entry.runs:
        raise LabError(
            f"{request.judge.model} cannot judge: it is not ready. Get it in the Library, or choose another."
        )
    return entry


def _of_variant(request: EvaluateRequest, entry: Entry) -> Identity:
    """A variant is named with its files' digest: another file is another judge."""
    files = [file for file in (entry.model, entry.adapter) if file]
    parameters = {
        "temperature": 0,
        "context": request.context,
        "template": entry.variant.template,
        "form": "GBNF grammar",
    }
    return Identity(
        kind="variant",
        model=entry.variant.id,
        returned=" ".join(_digest(file) for file in files),
        rubric=_rubric(request).hash,
        parameters=parameters | _shown(request),
    )


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def _kin(request: EvaluateRequest, entry: Entry) -> list[str]:
    """A judge tends to like what it, or its family, has written."""
    family = entry.variant.base or entry.variant.id
    variants = {one.variant.id: one.variant for one in list_variants(Path(request.weights))}
    same = [name for name in request.variants if name in variants and (variants[name].base or name) == family]
    if not same:
        return []
    return [
        f"{entry.variant.id} judges answers of itself or of its own family ({', '.join(same)}). Models prefer their "
        "own words: take a judge of another family where you can."
    ]
