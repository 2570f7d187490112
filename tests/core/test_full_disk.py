"""A full disk is named as the cause, although the worker could not write that down."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from backend.jobs.journal import DISK_FULL
from backend.jobs.run import Run
from backend.jobs.runner import Runner

WORKER = """
import resource, sys
from backend.core.errors import LabError
from backend.jobs.fake_request import FakeRequest
from backend.jobs.events import StepFacts
from backend.jobs.journal import run_worker

def do(asked, journal):
    size = (journal.folder / "events.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    {raises}

sys.exit(run_worker(FakeRequest, do))
"""


def account(folder: Path, code: int) -> str:
    """What a runner writes down of a worker that left with that code."""
    runner = Runner.__new__(Runner)
    runner.run = Run(folder)
    ended = runner._outcome(code, killed=False, out_of_memory=False)
    assert ended.state == "failed"
    return ended.why


@pytest.mark.parametrize(
    "raises",
    ['raise LabError("The loss is no number.")', "journal.step(StepFacts(), now=True)", 'raise RuntimeError("x")'],
)
def test_the_exit_code_tells_it_where_no_event_can_be_written(raises: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "20261101-120000-000-rehearse-x"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text('{"asked": {}}')
    command = [sys.executable, "-c", WORKER.replace("{raises}", raises), str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.wait(60) == DISK_FULL, worker.stderr and worker.stderr.read()
    why = account(folder, DISK_FULL)
    assert why.startswith("The disk is full: ") and why.endswith(
        "MB are free in runs/. Free 1 GB there, then resume or start it again. Everything that was saved is kept."
    )


def test_the_last_lines_of_the_log_tell_it_where_the_code_does_not(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("x\nOSError: [Errno 28] No space left on device\n")
    assert account(tmp_path, 1).startswith("The disk is full:")
    (tmp_path / "log.txt").write_text("what was asked of a model\n")
    other = account(tmp_path, 1)
    assert "code 1 and without a result" in other and "what was asked" not in other  # that is for the log alone
