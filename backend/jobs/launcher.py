"""Starts runs: makes the folder with its request, and starts the runner, a process that outlives the app."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

from backend.core import machine
from backend.core.errors import LabError
from backend.core.files import locked, write_atomic
from backend.jobs.events import append_event
from backend.jobs.folders import JobRequest, new_folder
from backend.jobs.run import RECENT, Run, runs_in

ROOT = Path(__file__).parents[2]
SPACE = 1 << 16  # bytes that a runner writes at its start
LOCK = ".launching"
TIMEOUT = 15.0  # seconds to wait for a lock, which other processes hold for milliseconds


@dataclass(frozen=True)
class Job:
    """How runs of one kind are executed. Runs of the same queue run one after another."""

    module: str
    queue: str
    grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    nice: int = 0
    secrets: tuple[str, ...] = ()
    """Environment variables that only this worker gets."""
    network: bool = False


TRAINING = ("HF_TOKEN", "WANDB_API_KEY")
JUDGING = ("HF_TOKEN", "OPENAI_API_KEY")
ENDS = ("exit.json", "stop", "runner.json")  # removed when a run is resumed

JOBS = {
    "download": Job("backend.library.download", "network", secrets=("HF_TOKEN",), network=True),
    "bring": Job("backend.library.import_files", "files"),
    "verify": Job("backend.library.verify", "files"),
    "speed": Job("backend.library.speed_test", "compute"),
    "inspect": Job("backend.training.inspect_dataset", "files", secrets=("HF_TOKEN",), network=True, nice=5),
    "train": Job("backend.training.train", "compute", grace=60, nice=10, secrets=TRAINING, network=True),
    "try": Job("backend.training.train", "compute", nice=10, secrets=("HF_TOKEN",), network=True),
    "export": Job("backend.export.export", "compute", nice=10, secrets=("HF_TOKEN",), network=True),
    "evaluate": Job("backend.evaluation.evaluate", "compute", grace=40, nice=10, secrets=JUDGING, network=True),
    "judge": Job("backend.evaluation.evaluate", "judging", grace=40, nice=5, secrets=JUDGING, network=True),
    "opinion": Job("backend.evaluation.evaluate", "judging", grace=40, nice=5, secrets=JUDGING, network=True),
    "rehearse": Job("backend.jobs.fake", "compute", grace=3.0, nice=10),
}


def launch(
    runs: Path, kind: str, name: str, request: BaseModel, key: str = "", secrets: dict[str, str] | None = None
) -> Run:
    """Start a run, or return the live run with the same `key`. LabError if the folder cannot be written.

    A lock makes this safe if two apps share the folder of runs.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with locked(runs / LOCK, TIMEOUT):
            if key and (same := _live_run(runs, kind, key)):
                return same
            _check_space(runs)
            spec = JobRequest(kind=kind, name=name, key=key, created=time.time(), asked=request.model_dump(mode="json"))
            return _start(new_folder(runs, spec), spec, secrets or {})
    except OSError as error:
        raise LabError(
            f"{name} could not be started ({error.strerror or type(error).__name__}). Free space or allow writing in "
            f"{runs.name}/, then try again."
        ) from error


def launch_again(run: Run, secrets: dict[str, str] | None = None, done_too: bool = False) -> Run:
    """Resume a run in its folder. LabError if it is live or done, or if the folder cannot be written.

    With `done_too`, a run that is done is resumed as well, to repeat what failed in it.
    """
    runs, name = run.folder.parent, run.spec.name
    try:
        with locked(runs / LOCK, TIMEOUT):
            if run.live or (run.state == "done" and not done_too):
                raise LabError(f"{name} is {run.state}, so it cannot be resumed.")
            _check_space(runs)
            append_event(run.folder, "again")
            return _start(run.folder, run.spec, secrets or {})
    except OSError as error:
        raise LabError(
            f"{name} could not be resumed ({error.strerror or type(error).__name__}). Free space or allow writing in "
            f"{runs.name}/, then try again."
        ) from error


def waits_for(run: Run) -> list[Run]:
    """The live runs of the same queue that were created before it, oldest first."""
    queue = JOBS[run.spec.kind].queue
    others = runs_in(run.folder.parent, *(kind for kind, job in JOBS.items() if job.queue == queue), newest=RECENT)
    others = [other for other in others if other != run and not (other.folder / "exit.json").exists() and other.alive]
    return [other for other in others if other.id < run.id or other.state != "queued"]


def _check_space(runs: Path) -> None:
    """OSError if the disk is full, because a runner that cannot write its files could not report that."""
    if shutil.disk_usage(runs).free < SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _live_run(runs: Path, kind: str, key: str) -> Run | None:
    for run in runs_in(runs, kind, newest=RECENT):
        if not (run.folder / "exit.json").exists() and run.spec.key == key and run.live:
            return run
    return None


def _take(lock: BinaryIO) -> None:
    """Take the lock of a run, which its runner inherits. LabError if another process holds it for too long."""
    end = time.monotonic() + TIMEOUT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                place = f"{Path(lock.name).parent.name}/{Path(lock.name).name}"
                raise LabError(
                    f"Another process holds {place}. End it, or remove that file, then try again.", "busy"
                ) from None
            time.sleep(0.02)


def _start(folder: Path, spec: JobRequest, secrets: dict[str, str]) -> Run:
    """Acquire the lock and pass it to the runner, so that the run never looks dead."""
    with (folder / "lock").open("ab") as lock:
        _take(lock)
        if not (folder / "spec.json").exists():
            write_atomic(folder / "spec.json", json.dumps(spec.model_dump(), ensure_ascii=False, indent=1))
        for name in ENDS:
            (folder / name).unlink(missing_ok=True)
        job = JOBS[spec.kind]
        secret_environment = {name: value for name, value in secrets.items() if name in job.secrets and value}
        runner = subprocess.Popen(
            [sys.executable, "-m", "backend.jobs.runner", str(folder.resolve()), str(lock.fileno())],
            cwd=ROOT,
            env=machine.environment(job.network) | secret_environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )
    threading.Thread(target=runner.wait, daemon=True).start()  # reaps the process when it ends
    return Run(folder)
