"""Weights & Biases, through its own client: online where there is a key, else into the run's folder."""

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

PATIENCE = 30.0  # seconds for a server to answer, at the beginning and at the end


@contextmanager
def tracked(request: TrainRequest, journal: Journal) -> Iterator[list[str]]:
    """What the trainer reports to. LabError if W&B refuses."""
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
            settings=wandb.Settings(init_timeout=PATIENCE, finish_timeout=PATIENCE),
        )
    except Error as error:
        print(error, flush=True)
        raise LabError(
            "Weights & Biases refused; its log has the reason. Check WANDB_API_KEY, WANDB_BASE_URL and the network, or "
            "track with none."
        ) from error
    where = run.url if online else os.path.dirname(run.dir)
    journal.step(TrainStep(state="loading the base", tracked=where), now=True)
    failed = True
    try:
        yield ["wandb"]
        failed = False
    finally:
        _finish(run, int(failed))


def _finish(run: Any, code: int) -> None:
    """What was learnt must not be lost because a server does not answer at the end."""
    try:
        run.finish(exit_code=code)
    except Exception as error:
        print(f"Weights & Biases did not finish ({type(error).__name__}); what it has is in {run.dir}.", flush=True)
