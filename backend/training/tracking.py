"""Weights & Biases: online if there is a key, otherwise offline in the folder of the run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import wandb
from wandb.errors import Error

from backend.core.errors import LabError
from backend.jobs.events import TrainStep
from backend.jobs.journal import Journal
from backend.training.request import TrainRequest

TIMEOUT = 30.0  # seconds for the server to answer, at the start and at the end


@contextmanager
def tracked(request: TrainRequest, journal: Journal) -> Iterator[list[str]]:
    """Yield the value for the trainer's `report_to`. LabError if W&B refuses the run."""
    if request.spec.track != "wandb" or request.trial:
        yield []
        return
    online = bool(os.environ.get("WANDB_API_KEY"))
    try:
        run = wandb.init(
            project=request.project,
            name=request.spec.name,
            id=journal.folder.name,
            resume="allow",
            dir=journal.folder,
            mode="online" if online else "offline",
            config=request.spec.model_dump(mode="json"),
            settings=wandb.Settings(init_timeout=TIMEOUT, finish_timeout=TIMEOUT),
        )
    except Error as error:
        print(error, flush=True)
        raise LabError(
            "Weights & Biases refused the run; the log has the reason. Check WANDB_API_KEY, WANDB_BASE_URL and the "
            "network, or choose “none” for “Track with”."
        ) from error
    address = run.url if online else os.path.dirname(run.dir)
    journal.step(TrainStep(state="loading the base", tracked=address), now=True)
    failed = True
    try:
        yield ["wandb"]
        failed = False
    finally:
        _finish(run, int(failed))


def _finish(run: Any, code: int) -> None:
    """End the W&B run. An error is printed only, so that the adapter is saved although the server does not answer."""
    try:
        run.finish(exit_code=code)
    except Exception as error:
        print(
            f"Weights & Biases could not end the run ({type(error).__name__}). Its files are in {run.dir}.", flush=True
        )
