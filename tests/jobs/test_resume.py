"""Runs that go on after they were stopped or killed, in their own folders: a fake job, and real kills."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from support.runs import LONG, alive, begun, over, rehearse, runs, steps
from support.session import until

from backend.core import machine
from backend.core.errors import LabError
from backend.jobs.events import append_event
from backend.jobs.folders import ProcessIds
from backend.jobs.launcher import launch_again
from backend.jobs.run import Run

__all__ = ["runs"]  # the fixtures


def killed(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def quiet(run: Run) -> None:
    """Wait until it is over and no process works on it."""
    until(lambda: over(run))
    until(lambda: alive(run) == [])


def started(run: Run) -> int:
    return [event.kind for event in run.events()].count("started")


def test_a_run_that_is_killed_again_and_again_goes_on_in_its_folder_to_its_end(runs: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    run = rehearse(runs, steps=40, pause=0.02)
    for _ in range(4):
        until(lambda: begun(run) or over(run))
        time.sleep(chance.random() * 0.5)
        found = alive(run)
        killed(*chance.sample(found, chance.randint(1, len(found))) if found else ())
        quiet(run)
        assert run.state in ("done", "failed", "lost") and (run.why or run.state == "done")
        if run.state == "done":
            break
        assert launch_again(run) == run
    quiet(run)
    assert run.state == "done" and steps(run) == 40
    with pytest.raises(LabError, match="cannot be resumed"):
        launch_again(run)


def test_a_frozen_worker_is_ended_by_a_second_stop_and_the_run_goes_on_later(runs: Path) -> None:
    run = rehearse(runs, **LONG)
    until(lambda: begun(run))
    assert run.workers and run.workers.worker
    os.kill(run.workers.worker[0], signal.SIGSTOP)
    (run.folder / "events.jsonl").unlink()
    run.stop()
    run.stop()
    quiet(run)
    assert run.state == "stopped" and "did not end in time" in run.why
    launch_again(run)
    until(lambda: begun(run))
    assert run.state == "running"
    run.stop()
    quiet(run)
    assert run.state == "stopped"


def test_a_resumed_run_waits_for_its_turn(runs: Path) -> None:
    old = rehearse(runs, "old", **LONG)
    until(lambda: begun(old))
    old.stop()
    quiet(old)
    first = rehearse(runs, "first", **LONG)
    until(lambda: begun(first))
    launch_again(old)
    until(lambda: bool(old.workers))
    assert (old.state, first.state) == ("queued", "running")
    old.stop()
    until(lambda: over(old))
    assert (old.state, old.why) == ("stopped", "Stopped before it was started.")
    first.stop()
    quiet(first)


CROWD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from backend.core.errors import LabError
from backend.jobs.launcher import launch_again
from backend.jobs.run import Run

def resume(_):
    try:
        return "resumed " + launch_again(Run(Path(sys.argv[1]))).id
    except LabError as error:
        return str(error)

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(8) as pool:
    print(*pool.map(resume, range(8)), sep="\\n")
"""


def test_a_crowd_that_resumes_one_run_gets_one_worker(runs: Path) -> None:
    """Two processes of eight threads each, and a record of processes that are not of this run."""
    run = rehearse(runs, **LONG)
    until(lambda: bool(run.workers and run.workers.worker))
    run.stop()
    quiet(run)
    workers = ProcessIds(runner=(1, machine.identity(1)), worker=(os.getpid(), machine.identity(os.getpid())))
    (run.folder / "runner.json").write_text(workers.model_dump_json())
    append_event(run.folder, "again")  # as a process leaves it that was killed before it began
    before = started(run)
    crowds = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(run.folder)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for crowd in crowds:
        assert crowd.stdout and crowd.stdout.readline() == "ready\n"
    for crowd in crowds:
        assert crowd.stdin
        crowd.stdin.write("go\n")
        crowd.stdin.flush()
    answers = [line for crowd in crowds for line in crowd.communicate(timeout=60)[0].splitlines()]
    assert len(answers) == 16 and answers.count(f"resumed {run.id}") == 1
    assert all("cannot be resumed" in answer for answer in answers if not answer.startswith("resumed"))
    until(lambda: started(run) > before)
    assert started(run) == before + 1 and len(alive(run)) == 2  # its runner and its worker
    run.stop()
    quiet(run)


def test_a_request_of_another_version_is_refused_with_a_sentence(runs: Path) -> None:
    run = rehearse(runs, **LONG)
    until(lambda: begun(run))
    run.stop()
    quiet(run)
    whole = json.loads((run.folder / "spec.json").read_text())
    whole["asked"]["colour"] = "blue"
    (run.folder / "spec.json").write_text(json.dumps(whole))
    quiet(launch_again(run))
    assert run.state == "failed" and "another version of the app" in run.why
