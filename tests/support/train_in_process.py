"""Trainings in the test's own process: the trainer's code without the ten seconds that a new process needs for torch.

Runner, queue and signals are not in them: tests/jobs has these with the fake job, and `make test-all` with the trainer.
"""

import importlib
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from backend.core.errors import LabError
from backend.jobs.events import append_event
from backend.jobs.folders import Exit, JobRequest
from backend.jobs.journal import Journal, Stopped
from backend.jobs.run import Run
from backend.training.request import TrainRequest, TrainSettings, train_request


def train_here(runs: Path, spec: TrainSettings, stop_at: int = 0, trial: bool = False) -> Run:
    """A whole run, whatever its end. `stop_at`: the step at which a stop arrives, so that it saves and ends there."""
    kind = "try" if trial else "train"
    number = len(list(runs.glob(f"*-{kind}-*"))) if runs.is_dir() else 0
    run = Run(runs / f"20260101-000000-{number:03d}-{kind}-{spec.name}")
    run.folder.mkdir(parents=True)
    request = TrainRequest(spec=spec, trial=trial)
    whole = JobRequest(kind=kind, name=spec.name, created=time.time(), asked=request.model_dump(mode="json"))
    (run.folder / "spec.json").write_text(whole.model_dump_json())
    return _work(run, stop_at)


def resume_here(run: Run, stop_at: int = 0) -> Run:
    """Go on with a run that has ended early."""
    assert run.state in ("stopped", "failed", "lost"), run.state
    for name in ("exit.json", "stop"):
        (run.folder / name).unlink(missing_ok=True)
    append_event(run.folder, "again")
    return _work(run, stop_at)


def _work(run: Run, stop_at: int) -> Run:
    """As the worker does it and as the runner accounts for it."""
    worker: Any = importlib.import_module("backend.training.train")  # here, so that collecting tests imports no TRL
    trainer: Any = importlib.import_module("backend.training.trainer")

    class StopsAt(trainer.Progress):  # type: ignore[misc]
        """Hears a stop in the middle of one step, as SIGTERM brings it."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            super().on_step_begin(args, state, control, **more)
            self.stopping = self.stopping or state.global_step + 1 == stop_at

    before = signal.getsignal(signal.SIGTERM)
    append_event(run.folder, "started")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "Progress", StopsAt)
            worker.train(train_request(run.folder), Journal(run.folder))
        append_event(run.folder, "ended")
        end = Exit(state="done", at=time.time())
    except Stopped:
        end = Exit(state="stopped", why="Stopped by you.", at=time.time())
    except LabError as error:
        append_event(run.folder, "failed", why=str(error))
        end = Exit(state="failed", why=str(error), code=1, at=time.time())
    finally:
        signal.signal(signal.SIGTERM, before)
    if end.state == "stopped":
        (run.folder / "stop").write_text(f"{time.time()}\n")
    (run.folder / "exit.json").write_text(end.model_dump_json())
    return run
