"""`Training`: inspect data, estimate, try, start, stop, resume and export trainings; read their status."""

import hashlib
import itertools
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from backend.core.errors import LabError, shown
from backend.core.settings import Settings
from backend.data.dataset import ENDINGS
from backend.jobs import launcher
from backend.jobs.run import RECENT, Run, find, folders_in, read_each, reap_orphans, runs_in, unknown_in
from backend.training import estimate
from backend.training.artifacts import FOLDER, IMPORTANCE, read_record
from backend.training.dataset_report import DatasetReport, read_report
from backend.training.estimate import Estimate
from backend.training.request import ExportRequest, TrainRequest, TrainSettings
from backend.training.status import TrainingStatus, read_status, unreadable
from models.catalogue import list_variants

KINDS = ("train", "try", "export")
NEEDED = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
MAX_NAME = 80  # characters of the run's name in the name of a variant, so that an ending fits
UPLOADS = "data"  # folder of uploaded files, in the folder of runs


class Training:
    """Its only state is paths: everything is read from disk. `memory_free` returns the free memory in bytes."""

    def __init__(self, settings: Settings, memory_free: Callable[[], int]) -> None:
        self.settings, self.runs, self._memory_free = settings, settings.lab_runs, memory_free

    # start and stop

    def inspect(self, spec: TrainSettings) -> Run:
        """Start a run that reads the dataset as a training does, and reports on it."""
        refuse_without("datasets", "tokenizers")
        key = _digest(
            spec.model_dump_json(include={"base", "revision", "data", "template", "learn", "thoughts", "max_length"})
        )
        return launcher.launch(self.runs, "inspect", spec.name, spec, key, self._secrets())

    def dataset_report(self, run: str) -> DatasetReport:
        """The report of an inspect run. LabError if it failed, or is not done."""
        inspection = self._run(run, "inspect")
        if inspection.state in ("failed", "lost", "stopped"):
            raise LabError(inspection.why)
        report = read_report(inspection.folder)
        if report is None:
            raise LabError("The report could not be written. Free disk space, then inspect the dataset again.")
        return report

    def estimate(self, spec: TrainSettings) -> Estimate | None:
        """Estimate memory and time; None if the shape of the base is not known before its download."""
        return estimate.estimate(spec, self._memory_free())

    def attempt(self, spec: TrainSettings) -> Run:
        """Start a try: a few steps that measure memory and time. LabError if it does not fit into memory."""
        return self._begin("try", spec)

    def start(self, spec: TrainSettings) -> Run:
        """Start a training, or return the live run with the same settings. LabError if it does not fit into memory."""
        return self._begin("train", spec)

    def _begin(self, kind: str, spec: TrainSettings) -> Run:
        refuse_without(*NEEDED, *(["bitsandbytes"] if spec.method == "qlora" or "8bit" in spec.optimizer else []))
        refuse_without(*(["wandb"] if spec.track == "wandb" else []))
        if spec.engine == "unsloth" and find_spec("unsloth") is None:
            raise LabError(
                "Unsloth is not installed here. Run `pip install -r requirements-unsloth.txt` on a machine with a "
                "CUDA GPU, or choose the engine transformers."
            )
        estimate.refuse(spec, self.estimate(spec), kind == "try")
        request = TrainRequest(spec=spec, trial=kind == "try", project=self.settings.wandb_project)
        return launcher.launch(self.runs, kind, spec.name, request, _digest(spec.model_dump_json()), self._secrets())

    def resume(self, run: str) -> Run:
        """Resume a training that was stopped, failed or killed. LabError if it cannot be resumed."""
        return launcher.launch_again(self._run(run, "train"), self._secrets())

    def stop(self, run: str) -> None:
        """Stop it, which saves a checkpoint; a second stop kills it. LabError if there is no such run."""
        try:
            self._run(run, *KINDS, "inspect").stop()
        except OSError as error:
            raise LabError(
                f"The stop request could not be written ({error.strerror}). Free space or allow writing in "
                f"{self.runs.name}/, then stop the run again."
            ) from error

    def export(self, run: str, form: str = "merged", quantisation: str = "Q4_K_M", importance: bool = False) -> Run:
        """Export the adapter of a training as a variant. LabError if there is none."""
        training = self._run(run, "train")
        record = read_record(training.folder)
        if importance and form == "merged" and not (training.folder / FOLDER / IMPORTANCE).is_file():
            raise LabError(
                f"{training.spec.name} has no importance matrix. Export without it, or train again with "
                "“Importance matrix”."
            )
        name = self._unused_name(record.spec.name[:MAX_NAME] + ("_adapter" if form == "adapter" else ""))
        spec = ExportRequest.model_validate(
            {
                "run": str(training.folder.resolve()),
                "id": name,
                "weights": str(self.settings.lab_weights.resolve()),
                "form": form,
                "quantisation": "F16" if form == "adapter" else quantisation,
                "importance": importance and form == "merged",
            }
        )
        key = _digest(spec.model_dump_json(exclude={"id"}))
        return launcher.launch(self.runs, "export", name, spec, key, self._secrets())

    def save_upload(self, path: Path) -> Path:
        """Move an uploaded file into the folder of runs and return its path. LabError for an unknown format."""
        if path.suffix.lower() not in ENDINGS:
            raise LabError(f"{path.name[:100]} has no known format. Upload a file that ends in {', '.join(ENDINGS)}.")
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
            target = self.runs / UPLOADS / digest / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
        except OSError as error:
            raise LabError(
                f"{path.name[:100]} could not be saved ({error.strerror}). Free space or allow writing in "
                f"{self.runs.name}/, then upload it again."
            ) from error
        return target.resolve()

    # read

    def statuses(self) -> list[TrainingStatus]:
        """Every training, try and export, the newest first. Runs that cannot be read are listed as well."""
        runs = [*unknown_in(self.runs, launcher.JOBS), *folders_in(self.runs, *KINDS, newest=RECENT)]
        return read_each(reversed(runs), _listed, unreadable)

    def status(self, run: str) -> TrainingStatus:
        """The status of one run. LabError if there is no such run."""
        (read,) = read_each([self._run(run, *KINDS)], read_status, unreadable)
        return read

    def reap_orphans(self) -> None:
        """End workers whose runner was killed."""
        reap_orphans(self.runs)

    def _run(self, name: str, *kinds: str) -> Run:
        """Find a run by its name, which is never a path. LabError if there is none."""
        if run := find(self.runs, name, *kinds):
            return run
        raise LabError("This run no longer exists. Refresh the list and choose another run.")

    def _unused_name(self, name: str) -> str:
        taken = {entry.variant.id for entry in list_variants(self.settings.lab_weights)}
        taken |= {run.spec.name for run in runs_in(self.runs, "export", newest=RECENT) if not run.exit and run.live}
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        return next(name for name in names if name not in taken)

    def _secrets(self) -> dict[str, str]:
        secrets = {"HF_TOKEN": self.settings.hf_token, "WANDB_API_KEY": self.settings.wandb_api_key}
        return {name: value.get_secret_value() for name, value in secrets.items()}


def refuse_without(*packages: str) -> None:
    """LabError if a package is missing. Packages for training are not needed for chat."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise LabError(
            f"This needs packages that are not installed here ({', '.join(missing)}). Run `pip install torch==2.13.0` "
            "and `pip install -r requirements-train.txt`, then start the app again."
        )


def _listed(run: Run) -> TrainingStatus:
    if run.kind not in KINDS:
        return unreadable(run, run.unreadable(f"this app has no jobs of the kind {shown(run.kind)}"))
    return read_status(run)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
