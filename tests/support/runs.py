"""Runs of the fake job, and processes that may have ended."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.jobs.fake_request import FakeRequest
from backend.jobs.launcher import launch
from backend.jobs.run import Run, runs_in

LONG = {"steps": 2000, "pause": 0.05}


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "runs"
    for run in runs_in(tmp_path / "runs"):
        for pid in alive(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def rehearse(runs: Path, name: str = "try", key: str = "", **options: Any) -> Run:
    return launch(runs, "rehearse", name, FakeRequest(**options), key)


def alive(run: Run) -> list[int]:
    """Every process that works on the run: runner, worker and what they started in their groups."""
    found, workers = [], run.workers
    leaders = [one[0] for one in (workers.runner, workers.worker) if one] if workers else []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if one.status() != psutil.STATUS_ZOMBIE and os.getpgid(one.pid) in leaders and one.pid != os.getpid():
                found.append(one.pid)
    return found


def steps(run: Run) -> int:
    last = run.last("step")
    return last.facts["step"] if last else 0


def over(run: Run) -> bool:
    return not run.live


def begun(run: Run) -> bool:
    return steps(run) > 0
