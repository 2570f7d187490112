"""The judging desk: what can be evaluated, how evaluations stand, and everything that can be asked for."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from backend.jobs.launcher import waits_for
from backend.jobs.run import LIVE, RECENT, Run, State, find, folders_in, read_each, reap_orphans
from backend.judge.rubric import rubrics
from backend.remote import ledger, prices
from backend.remote.address import clean_key, judge_address
from backend.remote.ledger import Spent
from models.catalogue import look
from models.variant import Variant

KINDS = ("evaluate", "judge")
OPINION = "opinion"  # of what stands on the screen: it is in no list
BROUGHT = "data"  # the folder of answers that were brought, below the runs


@dataclass(frozen=True)
class EvaluationStatus:
    """One evaluation. `doing`: the facts of its newest step."""

    id: str
    name: str
    state: State
    why: str
    asked: float
    spec: EvaluateRequest | None
    doing: Mapping[str, Any] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    folder: Path = Path()
    failed: int = 0
    """Of one that is done: answers and judgements that failed, and are tried again when it is resumed."""

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def resumable(self) -> bool:
        """Whether there is more to be had: what has ended early, and what is done but for failures."""
        return self.state in ("stopped", "failed", "lost") or (self.state == "done" and self.failed > 0)

    @property
    def log(self) -> str:
        return Run(self.folder).log()


class Evaluations:
    """Holds nothing but where things are: every answer is read from disk."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.runs = settings, settings.lab_runs

    # asking

    def endpoint(self) -> JudgeRequest:
        """The judge of the settings. LabError where its address or its key cannot be right, or no price is known."""
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

    def spec(
        self,
        variants: Sequence[str],
        judge: JudgeRequest,
        data: DatasetSpec | None = None,
        answers: Sequence[ImportedAnswer] = (),
        baseline: str = "",
        name: str = "",
        **more: Any,
    ) -> EvaluateRequest:
        """An evaluation of rows, or of answers that are here already. LabError if it makes no sense."""
        if not variants:
            raise LabError("No variant is chosen. Choose two or more, so that there is something to compare.")
        variants = tuple(dict.fromkeys(variants))
        if more.get("way") == "winner" and (len(variants) < 2 or judge.kind in ("rule", "given")):
            raise LabError("Winners are chosen among two variants or more, by a judge that is a model.")
        if judge.kind == "endpoint":
            ledger.refuse_without_limit(judge.cap_run, self.settings.judge_cap_day)
        if baseline and baseline not in variants:
            raise LabError(f"{baseline} is not among the variants. Choose a baseline that is evaluated too.")
        known = {entry.variant.id: entry.variant for entry in look(self.settings.lab_weights)}
        planned = plan_contrasts([known.get(one) or _stranger(one) for one in variants], baseline)
        try:
            path = str(imported_answers.save(answers, self.runs / BROUGHT)) if answers else ""
        except OSError as error:
            raise LabError(
                f"The answers could not be kept ({error.strerror}). Free space or allow writing in {self.runs.name}/, "
                "then try again."
            ) from error
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

    def brought(self, path: Path) -> ImportedFile:
        """What a file of answers holds. LabError with its faults."""
        return imported_answers.read(path)

    def forecast(self, asked: EvaluateRequest, rows: int, answers: Sequence[ImportedAnswer] = ()) -> CostForecast:
        """What judging it will cost. `rows`: how many there are, or will be at the most."""
        judge = asked.judge
        price = prices.FREE if judge.kind != "endpoint" else prices.price(judge.model, judge.address, judge.free)
        return forecast_cost(asked, rows, price, answers)

    def spent(self) -> Spent:
        """What judging has cost in the last day, all runs together."""
        return ledger.spent(self.runs / ledger.FILE, since=time.time() - 86_400)

    def start(self, asked: EvaluateRequest, listed: bool = True) -> Run:
        """Evaluate. The live run that does just this already, if there is one."""
        kind = ("judge" if asked.given else "evaluate") if listed else OPINION
        digest = hashlib.sha256(asked.model_dump_json().encode()).hexdigest()[:16]
        return launcher.launch(self.runs, kind, asked.name, asked, digest, self._secrets(asked))

    def resume(self, run: str) -> Run:
        """Go on with one that ended early, or that is done but for failures. LabError if it cannot."""
        found = self._run(run)
        more = found.state == "done" and _standing(found).resumable
        return launcher.launch_again(found, self._secrets(_spec(found)), done_too=more)

    def stop(self, run: str) -> None:
        """Wish it to stop: what is judged is kept. LabError if there is no such run."""
        try:
            self._run(run).stop()
        except OSError as error:
            raise LabError(
                f"The stop could not be written ({error.strerror}). Free space or allow writing in "
                f"{self.runs.name}/, then stop it again."
            ) from error

    # looking

    def standings(self) -> list[EvaluationStatus]:
        """Every evaluation, the newest first."""
        return read_each(reversed(folders_in(self.runs, *KINDS, newest=RECENT)), _standing, _unreadable)

    def standing(self, run: str) -> EvaluationStatus:
        (found,) = read_each([self._run(run)], _standing, _unreadable)
        return found

    def checked(self, one: EvaluationStatus) -> EvaluationStatus:
        """The same evaluation, as one that cannot be read where its records cannot."""
        if one.spec is None or one.state == "unreadable":
            return one
        try:
            self.result(one.id)
        except LabError as error:
            return replace(one, state="unreadable", why=str(error), spec=None)
        return one

    def result(self, run: str) -> Result:
        """What there is so far. LabError if there is no such run, or if what it holds cannot be read."""
        found = self._run(run)
        spec = _spec(found)
        if spec is None:
            raise LabError("What this evaluation was asked cannot be read: another version of the app wrote it.")
        try:
            return read_result(found.folder, spec)
        except OSError as error:
            raise LabError(found.unreadable(f"{Path(error.filename or '').name} {error.strerror}")) from error
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            said = f"its records are not what this app writes ({type(error).__name__})"
            raise LabError(found.unreadable(said)) from error

    def tend(self) -> None:
        reap_orphans(self.runs)

    # people

    def to_rate(self, run: str) -> RatingTask | None:
        """The next answer for a person to rate, without a word of whose it is in what a page shows; None when all are
        rated."""
        found = self.result(run)
        return human_ratings.next_task(found.questions, found.answers, found.ratings, found.spec.variants, run)

    def rate(self, run: str, row: str, variant: str, values: Mapping[str, float]) -> None:
        """What a person said of an answer. LabError for values that are not on the scale, or if the disk refuses."""
        found = self.result(run)
        scale = rubrics()[human_ratings.SCALE]
        if (row, variant) not in found.answers:
            raise LabError("This answer is not there any more. Go on with the next one.")
        for one in scale.criteria:
            value = values.get(one.name)
            if value is None or not one.low <= value <= one.high or value != int(value):
                raise LabError(f"{one.title} is not chosen yet. Choose {one.low:g} to {one.high:g}.")
        rating = Rating(row=row, variant=variant, values={one.name: values[one.name] for one in scale.criteria})
        try:
            jsonl.append(self._run(run).folder / records.RATINGS, rating.model_dump(mode="json"))
        except OSError as error:
            raise LabError(
                f"Your rating could not be saved ({error.strerror}). Free space or allow writing in {self.runs.name}/, "
                "then save it again."
            ) from error

    def _run(self, name: str) -> Run:
        """Runs are chosen from a list, never by a path."""
        if run := find(self.runs, name, *KINDS, OPINION):
            return run
        raise LabError("There is no such evaluation any more. Look at the list again, and choose one.")

    def _secrets(self, asked: EvaluateRequest | None) -> dict[str, str]:
        """The key goes to a judge behind an address alone."""
        token = self.settings.hf_token.get_secret_value()
        key = self.settings.openai_api_key.get_secret_value()
        remote = asked is not None and asked.judge.kind == "endpoint"
        return {"HF_TOKEN": token} | ({"OPENAI_API_KEY": key} if remote else {})


def _unreadable(run: Run, why: str) -> EvaluationStatus:
    """A run that cannot be read, under the name of its folder."""
    return EvaluationStatus(run.id, run.id, "unreadable", why, asked=run.begun, spec=None, folder=run.folder)


def _standing(run: Run) -> EvaluationStatus:
    state, asked = run.state, run.spec
    step, made = run.last("step"), run.last("result") if state == "done" else None
    return EvaluationStatus(
        id=run.id,
        name=asked.name,
        state=state,
        why=run.why,
        asked=asked.created,
        spec=_spec(run),
        doing=step.facts if step else {},
        waiting=tuple(other.spec.name for other in waits_for(run)) if state == "queued" else (),
        folder=run.folder,
        failed=int(made.facts.get("failed") or 0) if made else 0,
    )


def _spec(run: Run) -> EvaluateRequest | None:
    try:
        return EvaluateRequest.model_validate(run.spec.asked)
    except ValueError:  # of an older or a newer app
        return None


def _stranger(name: str) -> Variant:
    """A model that is no variant of this lab, under whatever name."""
    return Variant.model_construct(id=name)


def _first(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return str(error)
