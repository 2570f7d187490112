"""Trainings whose processes are killed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from backend.core.settings import Settings
from backend.jobs.run import Run, runs_in
from backend.lab import Lab
from support.runs import alive
from support.session import until
from support.trainings import small

SCREEN = """
import sys
from pathlib import Path
from backend.lab import Lab
from backend.core.settings import Settings
from backend.training.request import TrainSettings
runs, weights, spec = sys.argv[1:]
with Lab(Settings(_env_file=None, lab_runs=Path(runs), lab_weights=Path(weights))) as lab:
    print(lab.training.start(TrainSettings.model_validate_json(spec)).id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("faults")
    (home / "weights").mkdir()
    return home


@pytest.fixture(scope="module")
def shared_lab(home: Path) -> Iterator[Lab]:
    with opened(home) as lab:
        yield lab
        for run in runs_in(home / "runs"):
            for pid in alive(run):
                killed(pid)


def opened(home: Path) -> Lab:
    """A lab as a newly started app has it."""
    return Lab(Settings(_env_file=None, lab_runs=home / "runs", lab_weights=home / "weights"))


def screen(home: Path, name: str, **changed: Any) -> "subprocess.Popen[str]":
    """A process that starts a training, says its id, and waits."""
    words = [str(home / "runs"), str(home / "weights"), small(name, **changed).model_dump_json()]
    return subprocess.Popen(
        [sys.executable, "-c", SCREEN, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def killed(pid: int | None) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def worker_of(run: Run) -> int:
    until(lambda: bool((found := run.workers) and found.worker), 60)
    assert run.workers and run.workers.worker
    return run.workers.worker[0]
