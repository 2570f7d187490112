"""`Evaluations`: plan, start, resume and stop evaluations; read their status and results; rate answers."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from backend.core import jsonl, machine
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.data.dataset import DatasetSpec
from backend.evaluation import human_ratings, imported_answers, records
from backend.evaluation.contrasts import plan_contrasts
from backend.evaluation.cost_forecast import CostForecast, forecast_cost
from backend.evaluation.human_ratings import RatingTask
from backend.evaluation.imported_answers import ImportedAnswer, ImportedFile
from backend.evaluation.records import Rating
from backend.evaluation.request import EvaluateRequest, JudgeRequest
from backend.evaluation.result import Result, read_result
from backend.jobs import launcher
from backend.jobs.run import RECENT, Run, find, folders_in, read_each, reap_orphans
from backend.jobs.status import RunStatus, read_fields, unreadable_fields
from backend.judge.rubric import rubrics
from backend.remote import ledger, prices
from backend.remote.address import clean_key, judge_address
from backend.remote.ledger import Spent
from models.catalogue import list_variants
from models.variant import Variant

KINDS = ("evaluate", "judge")
OPINION = "opinion"  # judges the answers of a comparison; not listed
ANSWERS = "data"  # the folder of imported answers in the runs folder


@dataclass(frozen=True, kw_only=True)
class EvaluationStatus(RunStatus):
    """The status of an evaluation. `spec` is None if another version of the app wrote it."""

    spec: EvaluateRequest | None = None

    @property
    def failed(self) -> int:
        """Number of answers and judgements that failed in a finished evaluation. Resuming repeats them."""
        return int(self.result.get("failed") or 0)

    @property
    def resumable(self) -> bool:
        """Whether it ended early, or ended with failures."""
        return self.state in ("stopped", "failed", "lost") or (self.state == "done" and self.failed > 0)


class Evaluations:
    """Holds only paths: everything is read from disk."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.runs = settings, settings.lab_runs

    # start

    def endpoint(self) -> JudgeRequest:
        """The remote judge of the settings. Raises LabError if its address, key or price is invalid or unknown."""
        address = judge_address(self.settings.judge_base_url)
        clean_key(self.settings.openai_api_key.get_secret_value(), address)
        prices.known_price(self.settings.judge_model, address, self.settings.judge_free)
        return JudgeRequest(
            kind="endpoint",
            rubric="lab",
            model=self.settings.judge_model,
            address=address,
            free=self.settings.judge_free,
            cap_run=self.settings.judge_cap_run,
        )

    def request(
        self,
        variants: Sequence[str],
        judge: JudgeRequest,
        data: DatasetSpec | None = None,
        answers: ImportedFile | None = None,
        baseline: str = "",
        name: str = "",
        **more: Any,
    ) -> EvaluateRequest:
        """The request for an evaluation of rows (`data`) or of imported answers. Writes nothing. Raises LabError if the
        choices contradict each other."""
        if not variants:
            raise LabError("No variant is chosen. Choose two or more, so that there is something to compare.")
        variants = tuple(dict.fromkeys(variants))
        if more.get("way") == "winner" and (len(variants) < 2 or judge.kind in ("rule", "given")):
            raise LabError("Winners are chosen among two variants or more, by a judge that is a model.")
        if judge.kind == "endpoint":
            ledger.refuse_without_limit(judge.cap_run, self.settings.judge_cap_day)
        if baseline and baseline not in variants:
            raise LabError(f"{baseline} is not among the variants. Choose a baseline that is evaluated too.")
        known = {entry.variant.id: entry.variant for entry in list_variants(self.settings.lab_weights)}
        planned = plan_contrasts([known.get(variant) or _unknown_variant(variant) for variant in variants], baseline)
        if answers:
            imported_answers.check(answers)
        path = str((self.runs / ANSWERS).resolve() / answers.file_name) if answers else ""
        fields: dict[str, Any] = {
            "name": name or " · ".join(variants)[:100],
            "data": data,
            "given": path,
            "variants": tuple(variants),
            "baselines": planned.baselines,
            "contrasts": planned.contrasts,
            "judge": judge,
            "runs": str(self.runs.resolve()),
            "weights": str(self.settings.lab_weights.resolve()),
            "cap_day": self.settings.judge_cap_day,
            "context": self.settings.lab_context,
            "threads": self.settings.lab_threads or machine.threads(),
        }
        try:
            return EvaluateRequest.model_validate(fields | more)
        except ValueError as error:
            raise LabError(f"This cannot be evaluated: {_first(error)}.") from None

    def read_answers(self, path: Path) -> ImportedFile:
        """Read a file of imported answers. Raises LabError with its faults."""
        return imported_answers.read(path)

    def forecast(self, request: EvaluateRequest, rows: int, answers: Sequence[ImportedAnswer] = ()) -> CostForecast:
        """The estimated cost of judging. `rows`: the most rows there can be. Writes nothing."""
        judge = request.judge
        price = prices.FREE if judge.kind != "endpoint" else prices.price(judge.model, judge.address, judge.free)
        return forecast_cost(request, rows, price, answers)

    def spent(self) -> Spent:
        """What all runs have spent on judging in the last 24 hours."""
        return ledger.spent(self.runs / ledger.FILE, since=time.time() - 86_400)

    def start(self, request: EvaluateRequest, answers: ImportedFile | None = None, listed: bool = True) -> Run:
        """Start an evaluation, or return the live run with the same request. `answers`: the imported answers that the
        request was made for."""
        if answers:
            try:
                imported_answers.save(answers, self.runs / ANSWERS)
            except OSError as error:
                raise LabError(
                    f"The answers could not be saved ({error.strerror}). Free space or allow writing in "
                    f"{self.runs.name}/, then try again."
                ) from error
        kind = ("judge" if request.given else "evaluate") if listed else OPINION
        digest = hashlib.sha256(request.model_dump_json().encode()).hexdigest()[:16]
        return launcher.launch(self.runs, kind, request.name, request, digest, self._secrets(request))

    def resume(self, run: str) -> Run:
        """Continue an evaluation that ended early or with failures. Raises LabError if it cannot be continued."""
        resumed = self._run(run)
        more = resumed.state == "done" and _read_status(resumed).resumable
        return launcher.launch_again(resumed, self._secrets(_spec(resumed)), done_too=more)

    def stop(self, run: str) -> None:
        """Stop an evaluation. Its scores are kept. Raises LabError if there is no such run."""
        try:
            self._run(run).stop()
        except OSError as error:
            raise LabError(
                f"The stop could not be written ({error.strerror}). Free space or allow writing in "
                f"{self.runs.name}/, then stop it again."
            ) from error

    # read

    def statuses(self) -> list[EvaluationStatus]:
        """The status of every evaluation, newest first."""
        return read_each(reversed(folders_in(self.runs, *KINDS, newest=RECENT)), _read_status, _unreadable)

    def status(self, run: str) -> EvaluationStatus:
        (read,) = read_each([self._run(run)], _read_status, _unreadable)
        return read

    def checked(self, status: EvaluationStatus) -> EvaluationStatus:
        """The status, or "unreadable" with the reason if the records of the evaluation cannot be read."""
        if status.spec is None or status.state == "unreadable":
            return status
        try:
            self.result(status.id)
        except LabError as error:
            return replace(status, state="unreadable", why=str(error), spec=None)
        return status

    def result(self, run: str) -> Result:
        """The current result. Raises LabError if there is no such run, or if it cannot be read."""
        folder = self._run(run)
        spec = _spec(folder)
        if spec is None:
            raise LabError(
                "The request of this evaluation cannot be read: another version of the app wrote it. Start a new one."
            )
        try:
            return read_result(folder.folder, spec)
        except OSError as error:
            raise LabError(folder.unreadable(f"{Path(error.filename or '').name} {error.strerror}")) from error
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            reason = f"its records are not what this app writes ({type(error).__name__})"
            raise LabError(folder.unreadable(reason)) from error

    def reap_orphans(self) -> None:
        reap_orphans(self.runs)

    # human ratings

    def next_to_rate(self, run: str) -> RatingTask | None:
        """The next answer for a person to rate; None if all are rated."""
        result = self.result(run)
        return human_ratings.next_task(result.questions, result.answers, result.ratings, result.spec.variants, run)

    def rate(self, run: str, row: str, variant: str, values: Mapping[str, float]) -> None:
        """Store a human rating. Raises LabError if a value is not on the scale, or if the disk refuses."""
        result = self.result(run)
        scale = rubrics()[human_ratings.SCALE]
        if (row, variant) not in result.answers:
            raise LabError("This answer is not there any more. Go on with the next one.")
        for criterion in scale.criteria:
            value = values.get(criterion.name)
            if value is None or not criterion.low <= value <= criterion.high or value != int(value):
                raise LabError(f"{criterion.title} is not chosen yet. Choose {criterion.low:g} to {criterion.high:g}.")
        rating = Rating(
            row=row, variant=variant, values={criterion.name: values[criterion.name] for criterion in scale.criteria}
        )
        try:
            jsonl.append(self._run(run).folder / records.RATINGS, rating.model_dump(mode="json"))
        except OSError as error:
            raise LabError(
                f"Your rating could not be saved ({error.strerror}). Free space or allow writing in {self.runs.name}/, "
                "then save it again."
            ) from error

    def _run(self, name: str) -> Run:
        """The run of this name. A name is looked up in the list of runs and never used as a path."""
        if run := find(self.runs, name, *KINDS, OPINION):
            return run
        raise LabError("This evaluation no longer exists. Refresh the list and choose another one.")

    def _secrets(self, request: EvaluateRequest | None) -> dict[str, str]:
        """Environment variables for the worker. It gets the API key only if the judge is at an address."""
        token = self.settings.hf_token.get_secret_value()
        key = self.settings.openai_api_key.get_secret_value()
        remote = request is not None and request.judge.kind == "endpoint"
        return {"HF_TOKEN": token} | ({"OPENAI_API_KEY": key} if remote else {})


def _unreadable(run: Run, why: str) -> EvaluationStatus:
    return EvaluationStatus(**unreadable_fields(run, why))


def _read_status(run: Run) -> EvaluationStatus:
    return EvaluationStatus(**read_fields(run), spec=_spec(run))


def _spec(run: Run) -> EvaluateRequest | None:
    try:
        return EvaluateRequest.model_validate(run.spec.asked)
    except ValueError:  # another version of the app wrote it
        return None


def _unknown_variant(name: str) -> Variant:
    """A model of imported answers that is no variant here. Its name may be no valid id."""
    return Variant.model_construct(id=name)


def _first(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return str(error)
