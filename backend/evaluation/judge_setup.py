"""Opens the judge of an evaluation: a rule, a variant, or a model at an address. For workers only."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

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
from backend.judge.rubric import Rubric, rubrics
from backend.judge.rule_judge import RuleJudge
from backend.judge.score import Identity, Item, Score
from backend.remote.ledger import FILE, Ledger, SavedReplies
from backend.remote.prices import known_price, retirement
from models.catalogue import Entry, list_variants

if TYPE_CHECKING:  # openai takes more than half a second to import, and only a remote judge needs it
    from backend.judge.remote_judge import RemoteJudge
    from backend.remote.client import ApiClient

LOCAL_TOGETHER = 16  # judgements of a local judge at the same time: prompts are most of the work
# The test question that finds out which parameters an address accepts.
TRIAL = Item(
    messages=[Message(role="user", content="Which colour does a ripe lemon have?")],
    reference="Yellow.",
    answer="Yellow.",
)


class Judge(Protocol):
    """Anything that scores answers. `together`: number of answers at the same time."""

    @property
    def together(self) -> int: ...

    @property
    def identity(self) -> Identity: ...

    def score(self, item: Item, repeat: int = 0, round: int = 0) -> Score: ...


@dataclass(frozen=True)
class OpenJudge:
    """A judge that is ready to score. `client` is None for a rule, `endpoint` is None unless it is at an address."""

    judge: Judge
    by: JudgeRecord
    client: JudgeClient | None = None
    endpoint: "RemoteJudge | None" = None
    unknown: int = 0
    """Calls of this run whose outcome is unknown. They count as spent, because they may be billed."""

    @property
    def waiting_until(self) -> float:
        return self.endpoint.waiting_until if self.endpoint else 0.0

    def cancel_waiting(self) -> None:
        """End the calls that wait, as cancelled. Calls in flight may still be answered."""
        if self.endpoint:
            self.endpoint.cancel_waiting()

    def close(self) -> None:
        """End the calls in flight, too."""
        if self.endpoint:
            self.endpoint.close()


@contextmanager
def open_judge(request: EvaluateRequest, folder: Path, key: str) -> Iterator[OpenJudge]:
    """Open the judge, and close it after the block. Raises LabError if it cannot be opened."""
    match request.judge.kind:
        case "endpoint":
            ready = _endpoint(request, folder, key)
            try:
                yield ready
            finally:
                ready.close()
        case "variant":
            entry = _entry(request)
            engines = engines_for(request, [entry], LOCAL_TOGETHER, request.context)
            try:
                model, prompt_format = placement.model_spec(entry, request.context), placement.prompt_format(entry)
                local = LocalJudge(engines, model, prompt_format, engines.slots)
                record = JudgeRecord(identity=_of_variant(request, entry), notes=tuple(_same_family(request, entry)))
                by = _store(folder, record)
                yield OpenJudge(_grader(request, local, by), by, local)
            finally:
                engines.close()
        case _:
            rule = RuleJudge(_rubric(request))
            yield OpenJudge(rule, _store(folder, JudgeRecord(identity=rule.identity)))


def _rubric(request: EvaluateRequest) -> Rubric:
    return rubrics()[request.judge.rubric]


def _grader(request: EvaluateRequest, client: JudgeClient, by: JudgeRecord) -> Grader:
    return Grader(client, _rubric(request), by.identity)


def _store(folder: Path, by: JudgeRecord) -> JudgeRecord:
    """Store the record of the judge, or read the stored one. Raises LabError if the judge is another one now."""
    known = records.read_one(folder / records.JUDGE, JudgeRecord)
    if known is None:
        write_atomic(folder / records.JUDGE, by.model_dump_json(indent=1))
        return by
    if known.identity.id != by.identity.id:
        raise LabError(
            "This run was started with another judge: its file, rubric or parameters have changed, and scores of two "
            "judges cannot be compared. Start a new evaluation."
        )
    return known


def _endpoint(request: EvaluateRequest, folder: Path, key: str) -> OpenJudge:
    from backend.judge.remote_judge import RemoteJudge  # noqa: PLC0415
    from backend.remote.client import connect  # noqa: PLC0415

    spec, rubric = request.judge, _rubric(request)
    ledger = Ledger(Path(request.runs) / FILE, spec.cap_run, request.cap_day, folder.name)
    api = connect(spec.model, spec.address, key, known_price(spec.model, spec.address, spec.free), ledger)
    known = records.read_one(folder / records.JUDGE, JudgeRecord)
    by = _store(folder, known and _same_rubric(known, rubric) or _negotiated(request, api, rubric))
    if by.agreed is None:
        raise LabError("The parameters that the judge accepts cannot be read from judge.json. Start a new evaluation.")
    api = replace(api, replies=SavedReplies(folder / records.REPLIES))
    unknown = api.settle_saved()
    endpoint = RemoteJudge(api, by.agreed, spec.together)
    return OpenJudge(_grader(request, endpoint, by), by, endpoint, endpoint, unknown)


def _same_rubric(known: JudgeRecord, rubric: Rubric) -> JudgeRecord:
    return known.model_copy(update={"identity": known.identity.model_copy(update={"rubric": rubric.hash})})


def _negotiated(request: EvaluateRequest, api: "ApiClient", rubric: Rubric) -> JudgeRecord:
    """Find out with TRIAL which parameters the address accepts."""
    from backend.remote.negotiate import negotiate  # noqa: PLC0415

    if request.way == "winner":
        messages = pairwise.question(rubric, TRIAL.messages, TRIAL.reference, "Yellow.", "Blue.")
        agreed = negotiate(api, messages, pairwise.FORM, pairwise.fits)
    else:
        messages, form = prompt.question(rubric, TRIAL), prompt.form(rubric)
        agreed = negotiate(api, messages, form, lambda text: reply.parse_reply(text, rubric).status == "ok")
    identity = Identity(
        kind="endpoint",
        model=api.model,
        returned=agreed.returned,
        address=api.address,
        rubric=rubric.hash,
        parameters=agreed.parameters | _shown(request),
    )
    return JudgeRecord(identity=identity, agreed=agreed, notes=tuple(_notes(api)))


def _notes(api: "ApiClient") -> list[str]:
    return [note for note in [retirement(api.model, date.today())] if note]


def _shown(request: EvaluateRequest) -> dict[str, str]:
    return {} if request.judge.reference else {"reference": "hidden"}


def _entry(request: EvaluateRequest) -> Entry:
    entries = list_variants(Path(request.weights))
    entry = next((entry for entry in entries if entry.variant.id == request.judge.model), None)
    if entry is None or not entry.runs:
        raise LabError(
            f"{request.judge.model} cannot judge: it is not ready. Get it in the Library, or choose another."
        )
    return entry


def _of_variant(request: EvaluateRequest, entry: Entry) -> Identity:
    """The identity of a local judge. It has the digests of the files: another file is another judge."""
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


def _same_family(request: EvaluateRequest, entry: Entry) -> list[str]:
    """A warning if the judge scores answers of its own family: models prefer their own texts."""
    family = entry.variant.base or entry.variant.id
    variants = {known.variant.id: known.variant for known in list_variants(Path(request.weights))}
    same = [name for name in request.variants if name in variants and (variants[name].base or name) == family]
    if not same:
        return []
    return [
        f"{entry.variant.id} judges answers of itself or of its own family ({', '.join(same)}). Models prefer their "
        "own words: take a judge of another family where you can."
    ]
