"""Starting a run: a folder with what is asked, and a runner that outlives the screen."""

import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

from backend.core import machine
from backend.core.errors import LabError
from backend.jobs.events import append_event
from backend.jobs.folders import STAMP, YEARS, JobRequest
from backend.jobs.run import RECENT, Run, runs_in

ROOT = Path(__file__).parents[2]
ROOM = 1 << 16  # bytes of the disk for what a runner writes at its start
PATIENCE = 15.0  # seconds for what another screen does in a moment


@dataclass(frozen=True)
class Job:
    """How runs of one kind are run. Those of one lane wait for each other."""

    module: str
    lane: str
    grace: float = 10.0
    """Seconds between the polite end and the other."""
    nice: int = 0
    secrets: tuple[str, ...] = ()
    """Names of environment variables that its worker, and no other, is given."""
    network: bool = False


TRAINING = ("HF_TOKEN", "WANDB_API_KEY")
JUDGING = ("HF_TOKEN", "OPENAI_API_KEY")
ENDS = ("exit.json", "stop", "runner.json")  # what a run that goes on again must not have

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
    runs: Path, kind: str, name: str, asked: BaseModel, key: str = "", secrets: dict[str, str] | None = None
) -> Run:
    """Start a run, or return the live one that already does the same work. LabError if the disk refuses.

    Two screens may ask at the same moment: the lock of the folder lets one of them start it.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(runs):
            if key and (same := _doing(runs, kind, key)):
                return same
            _need_room(runs)
            spec = JobRequest(kind=kind, name=name, key=key, created=time.time(), asked=asked.model_dump(mode="json"))
            return _start(_folder(runs, spec), spec, secrets or {})
    except OSError as error:
        raise LabError(
            f"{name} could not be started ({error.strerror or type(error).__name__}). Free space or allow writing in "
            f"{runs.name}/, then try again."
        ) from error


def launch_again(run: Run, secrets: dict[str, str] | None = None, done_too: bool = False) -> Run:
    """Go on with a run that ended early, in its own folder. LabError if it lives, is done, or the disk refuses.

    `done_too`: also with one that is done, where that can bring more.
    """
    runs, name = run.folder.parent, run.spec.name
    try:
        with _one_at_a_time(runs):
            if run.live or (run.state == "done" and not done_too):
                raise LabError(f"{name} is {run.state}, so there is nothing to resume. Look at it in the list.")
            _need_room(runs)
            append_event(run.folder, "again")
            return _start(run.folder, run.spec, secrets or {})
    except OSError as error:
        raise LabError(
            f"{name} could not be resumed ({error.strerror or type(error).__name__}). Free space or allow writing in "
            f"{runs.name}/, then try again."
        ) from error


def waits_for(run: Run) -> list[Run]:
    """The live runs of its lane that were asked for before it, oldest first."""
    lane = JOBS[run.spec.kind].lane
    others = runs_in(run.folder.parent, *(kind for kind, job in JOBS.items() if job.lane == lane), newest=RECENT)
    others = [other for other in others if other != run and not (other.folder / "exit.json").exists() and other.alive]
    return [other for other in others if other.id < run.id or other.state != "queued"]


@contextmanager
def _one_at_a_time(runs: Path) -> Iterator[None]:
    with (runs / ".launching").open("ab") as lock:
        _take(lock)
        yield


def _take(lock: BinaryIO) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise LabError(
                    f"Another process holds {Path(lock.name).parent.name}/{Path(lock.name).name}. End it, or remove "
                    "that file, then try again."
                ) from None
            time.sleep(0.02)


def _need_room(runs: Path) -> None:
    """A runner that cannot write who it is would end unseen, and take the word of how its run ended before with it."""
    if shutil.disk_usage(runs).free < ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _doing(runs: Path, kind: str, key: str) -> Run | None:
    for run in runs_in(runs, kind, newest=RECENT):
        if not (run.folder / "exit.json").exists() and run.spec.key == key and run.live:
            return run
    return None


def _folder(runs: Path, spec: JobRequest) -> Path:
    """A new folder whose name sorts after those of all runs asked for before."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", spec.name)[:60]
    newest = max((name[:19] for name in os.listdir(runs) if STAMP.match(name) and int(name[:4]) in YEARS), default="")
    while True:
        now = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now)) + f"-{int(now * 1000) % 1000:03d}"
        if stamp > newest:
            break
        if stamp[:15] < newest[:15]:  # the clock was put back: go on counting from the newest
            digits = f"{int(newest.replace('-', '')) + 1:017d}"
            stamp = f"{digits[:8]}-{digits[8:14]}-{digits[14:]}"
            break
        time.sleep(0.001)
    folder = runs / f"{stamp}-{spec.kind}-{plain}"
    folder.mkdir()
    return folder


def _write(folder: Path, spec: JobRequest) -> None:
    part = folder / "spec.part"
    with part.open("wb") as file:
        file.write(json.dumps(spec.model_dump(), ensure_ascii=False, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    part.rename(folder / "spec.json")


def _start(folder: Path, spec: JobRequest, secrets: dict[str, str]) -> Run:
    """The lock is taken here and handed on, so that there is no moment in which a live run looks dead."""
    with (folder / "lock").open("ab") as lock:
        _take(lock)
        if not (folder / "spec.json").exists():
            _write(folder, spec)
        for name in ENDS:
            (folder / name).unlink(missing_ok=True)
        job = JOBS[spec.kind]
        given = {name: value for name, value in secrets.items() if name in job.secrets and value}
        runner = subprocess.Popen(
            [sys.executable, "-m", "backend.jobs.runner", str(folder.resolve()), str(lock.fileno())],
            cwd=ROOT,
            env=machine.environment(job.network) | given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )
    threading.Thread(target=runner.wait, daemon=True).start()  # no zombie while the screen lives
    return Run(folder)
