"""Trainings whose screen, runner or trainer is killed, frozen, stopped too early or asked for twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT
from safetensors.numpy import load_file
from support.runs import alive
from support.session import until
from support.train_in_process import resume_here, train_here
from support.training_faults import home, opened, screen, shared_lab, worker_of
from support.trainings import ended, reached, small, step_of
from transformers import TrainerControl, TrainerState, TrainingArguments

from backend.core import machine
from backend.jobs.events import append_event
from backend.jobs.folders import ProcessIds
from backend.jobs.journal import Journal
from backend.jobs.run import Run
from backend.lab import Lab
from backend.training.artifacts import read_record
from backend.training.progress import Progress
from backend.training.status import read_curve

__all__ = ["shared_lab", "home"]  # the fixtures

CROWD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from backend.core.errors import LabError
from backend.lab import Lab
from backend.core.settings import Settings

def resume(_):
    try:
        return "resumed " + lab.training.resume(sys.argv[3]).id
    except LabError as error:
        return str(error)

with Lab(Settings(_env_file=None, lab_runs=Path(sys.argv[1]), lab_weights=Path(sys.argv[2]))) as lab:
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(8) as pool:
        print(*pool.map(resume, range(8)), sep="\\n")
"""


def adapter_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = load_file(run.folder / "adapter" / "adapter_model.safetensors")
    return found


@pytest.mark.long
def test_a_training_outlives_its_screen_and_is_read_by_the_next_one(home: Path) -> None:
    first = screen(home, "outlives", steps=40)
    assert first.stdin and first.stdout
    run = Run(home / "runs" / first.stdout.readline().strip())
    reached(run, 3)
    first.kill()
    first.wait()
    first.stdin.close()
    first.stdout.close()
    seen = step_of(run)
    with opened(home) as lab:
        assert [one.id for one in lab.training.statuses() if one.live] == [run.id]
        reached(run, seen + 3)
        ended(run)
    with opened(home) as lab:
        standing = lab.training.status(run.id)
    assert standing.state == "done" and standing.made and standing.curve.steps == list(range(1, 41))
    assert [event.kind for event in run.events()].count("started") == 1


@pytest.mark.long
def test_a_stop_while_it_starts_wins_and_a_crowd_that_resumes_it_gets_one_trainer(shared_lab: Lab, home: Path) -> None:
    run = shared_lab.training.start(small("early", steps=300))
    worker_of(run)
    for _ in range(2):  # from two tabs
        shared_lab.training.stop(run.id)
    assert ended(run).state == "stopped"
    assert shared_lab.training.status(run.id).resumable == 0
    shared_lab.training.stop(run.id)  # after its end
    assert run.state == "stopped"
    until(lambda: alive(run) == [])
    workers = ProcessIds(runner=(1, machine.identity(1)), worker=(os.getpid(), machine.identity(os.getpid())))
    (run.folder / "runner.json").write_text(workers.model_dump_json())
    append_event(run.folder, "again")  # as somebody leaves it who was killed before it began
    words = [str(home / "runs"), str(home / "weights"), run.id]
    crowds = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for crowd in crowds:
        assert crowd.stdout and crowd.stdout.readline() == "ready\n"
    for crowd in crowds:
        assert crowd.stdin
        crowd.stdin.write("go\n")
        crowd.stdin.flush()
    answers = [line for crowd in crowds for line in crowd.communicate(timeout=60)[0].splitlines()]
    assert len(answers) == 16 and answers.count(f"resumed {run.id}") == 1
    assert all("cannot be resumed" in answer for answer in answers if not answer.startswith("resumed"))
    reached(run, 1)
    assert len([one for one in psutil.process_iter(["cmdline"]) if str(run.folder) in (one.info["cmdline"] or [])]) == 2
    assert read_curve(run.folder).facts["begins"] == 0 and [event.kind for event in run.events()].count("started") <= 2
    for _ in range(2):
        shared_lab.training.stop(run.id)
    assert ended(run).state == "stopped"


def test_a_patient_training_goes_on_where_it_was_and_saves_again_what_it_had_saved(shared_lab: Lab) -> None:
    asked: dict[str, Any] = {"steps": 8, "evaluate_every": 2, "save_every": 2, "keep_best": True, "patience": 1}
    run = train_here(shared_lab.settings.lab_runs, small("patient", **asked, learning_rate=2e-4), stop_at=3)
    assert run.state == "stopped"
    assert resume_here(run).state == "done", run.why
    found, made, adapter = read_curve(run.folder), read_record(run.folder), adapter_of(run)
    assert found.steps == list(range(1, 9)) and found.evaluated[-1] == 8
    told = (run.folder / "events.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(told[-1])["kind"] == "ended"  # cut off between the adapter's last byte and this
    (run.folder / "events.jsonl").write_text("".join(told[:-2]))
    (run.folder / "exit.json").unlink()
    assert run.state == "lost" and shared_lab.training.status(run.id).resumable == 8
    assert resume_here(run).state == "done", run.why
    once_more = read_record(run.folder)
    assert read_curve(run.folder).steps == list(range(1, 9)) and not (run.folder / "adapter.part").exists()
    assert once_more.model_dump(exclude={"seconds", "memory"}) == made.model_dump(exclude={"seconds", "memory"})
    assert all((tensor == adapter[name]).all() for name, tensor in adapter_of(run).items())


def test_a_stop_that_was_swallowed_while_it_loaded_is_remembered(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as the worker's own handler leaves it
    try:
        progress, control = Progress(Journal(tmp_path), 4), TrainerControl()
        asked = TrainingArguments(str(tmp_path), save_strategy="steps", use_cpu=True)
        progress.on_train_begin(asked, TrainerState(), control)
        progress.on_step_end(asked, TrainerState(), control)
        assert control.should_training_stop and control.should_save
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_checkpoint_holds_is_on_the_curve_before_it(tmp_path: Path) -> None:
    progress, control = Progress(Journal(tmp_path), 4), TrainerControl()
    for step in (1, 2, 3):  # faster than steps are written down
        control.should_save = step == 3
        logs = {"loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0}
        progress.on_log(None, TrainerState(global_step=step, max_steps=9), control, logs)
    assert read_curve(tmp_path).steps == [1, 2, 3]
