"""Real trainings killed, frozen, starved of memory and of disk, at any moment: what was learnt is gone on with."""

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from support.namespaces import in_a_namespace
from support.runs import alive
from support.session import until
from support.training_faults import home, killed, opened, screen, shared_lab, worker_of
from support.trainings import LONG, chat, ended, reached, small, step_of

from backend.core.errors import LabError
from backend.jobs.launcher import waits_for
from backend.jobs.run import LIVE, runs_in
from backend.lab import Lab
from backend.training import checkpoints
from backend.training.artifacts import read_record
from backend.training.status import read_curve
from backend.training.training import Training

__all__ = ["shared_lab", "home"]  # the fixtures
TIMES = [3, 30]
pytestmark = pytest.mark.long


def killed_again_and_again(shared_lab: Lab, times: int, name: str) -> None:
    """Its trainer or its runner, at any moment of its way; in the end every step is there once."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    run = shared_lab.training.start(small(name, steps=30, save_every=1, evaluate_every=1))
    for _ in range(times):
        begins = step_of(run)
        who = chance.choice(["runner", "worker"])
        if chance.random() < 0.8:
            until(lambda: not run.live or step_of(run) > begins, 240)  # noqa: B023
        time.sleep(chance.random() * chance.choice([0.1, 2.0]))
        workers = run.workers
        killed(workers and (workers.runner[0] if who == "runner" or not workers.worker else workers.worker[0]))
        until(lambda: not run.live, 60)
        until(lambda: alive(run) == [])
        standing = shared_lab.training.status(run.id)
        if standing.state == "done":
            break
        assert standing.state in ("failed", "lost") and standing.why and standing.resumable is not None
        whole = [step for step, folder in checkpoints.checkpoints(run.folder) if not checkpoints.fault(step, folder)]
        assert standing.resumable == max(whole, default=0) >= step_of(run) - 2
        shared_lab.training.resume(run.id)
    assert ended(run).state == "done", (run.why, run.log(20))
    found = read_curve(run.folder)
    assert found.steps == list(range(1, 31))
    assert found.evaluated == list(range(31))
    assert read_record(run.folder).steps == 30


@pytest.mark.parametrize("times", TIMES)
def test_a_training_that_is_killed_again_and_again_does_every_step_once(times: int, shared_lab: Lab) -> None:
    """30 steps each, so that many kills need many trainings."""
    for number in range(0, times, 3):
        killed_again_and_again(shared_lab, 3, f"killed{times}-{number}")


def test_a_frozen_trainer_is_ended_by_a_second_stop_and_goes_on_later(shared_lab: Lab) -> None:
    run = shared_lab.training.start(small("frozen", steps=24, save_every=1))
    reached(run, 4)
    (run.folder / "events.jsonl").unlink()
    reached(run, 6)  # they begin anew
    assert shared_lab.training.status(run.id).curve.steps
    trainer = worker_of(run)
    os.kill(trainer, signal.SIGSTOP)
    until(lambda: psutil.Process(trainer).status() == psutil.STATUS_STOPPED)
    for _ in range(2):
        shared_lab.training.stop(run.id)
    assert ended(run).state == "stopped" and "did not end in time" in run.why
    until(lambda: alive(run) == [])
    newest = shared_lab.training.status(run.id).resumable
    assert newest is not None and newest >= 5
    assert ended(shared_lab.training.resume(run.id)).state == "done", run.log(20)
    found = read_curve(run.folder)
    assert found.facts["begins"] == newest and found.steps[-1] == 24
    assert set(range(newest + 1, 25)) <= set(found.steps)  # those before are in the file that was deleted


@pytest.mark.parametrize("number", range(5))
def test_a_kill_while_a_checkpoint_is_written_costs_that_checkpoint(number: int, shared_lab: Lab) -> None:
    run = shared_lab.training.start(small(f"halved{number}", steps=20, save_every=2))
    trainer, half = worker_of(run), number * 2 + 4
    folder = run.folder / "checkpoints" / f"checkpoint-{half}"
    end = time.monotonic() + LONG
    while not folder.exists() and time.monotonic() < end:
        time.sleep(0.0005)
    killed(trainer)
    whole = (folder / checkpoints.STATE).exists()
    ended(run)
    assert run.state == "failed" and "killed" in run.why
    assert whole or checkpoints.fault(half, folder)
    standing = shared_lab.training.status(run.id)
    assert standing.resumable == (half if not checkpoints.fault(half, folder) else half - 2)
    assert ended(shared_lab.training.resume(run.id)).state == "done", run.log(20)
    assert read_curve(run.folder).steps == list(range(1, 21))
    aside = list((run.folder / "checkpoints").glob(f"broken-{half}-*"))
    assert bool(aside) == (standing.resumable != half) == bool(read_curve(run.folder).facts["said"])


@pytest.mark.parametrize("attempt", range(4))
def test_whatever_is_asked_of_it_in_whatever_order_it_ends_well(attempt: int, shared_lab: Lab) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, done = random.Random(seed), list[str]()
    spec = small(f"asked{attempt}", steps=20, save_every=3, evaluate_every=3)
    run = shared_lab.training.start(spec)

    def stop() -> None:
        shared_lab.training.stop(run.id)

    def start() -> None:
        if run.live:
            assert shared_lab.training.start(spec) == run

    def resume() -> None:
        with contextlib.suppress(LabError):
            shared_lab.training.resume(run.id)

    def kill_one() -> None:
        if found := alive(run):
            killed(chance.choice(found))

    def look() -> None:
        shared_lab.training.reap_orphans()
        standing = shared_lab.training.status(run.id)
        assert standing.curve.steps == sorted(set(standing.curve.steps))
        assert (standing.resumable is None) == (standing.state in (*LIVE, "done"))

    for _ in range(12):
        act = chance.choice([stop, start, resume, resume, kill_one, look])
        done.append(act.__name__)
        act()
        if chance.random() < 0.4:
            begins = step_of(run)
            until(lambda: not run.live or step_of(run) > begins, LONG)  # noqa: B023
        time.sleep(chance.random() * 0.5)
    while run.state != "done":
        until(lambda: not run.live, LONG)
        until(lambda: alive(run) == [])
        resume()
    print(done)
    assert read_curve(run.folder).steps == list(range(1, 21)), done
    assert read_record(run.folder).steps == 20


def test_trainings_take_turns_and_a_resumed_one_waits_too(shared_lab: Lab) -> None:
    old = shared_lab.training.start(small("old", steps=200))
    reached(old, 3)
    shared_lab.training.stop(old.id)
    assert ended(old).state == "stopped"
    first = shared_lab.training.start(small("first", steps=60))
    second = shared_lab.training.start(small("second", steps=4))
    reached(first, 1)
    shared_lab.training.resume(old.id)
    until(lambda: bool(old.workers))
    assert (old.state, second.state) == ("queued", "queued")
    assert waits_for(old) == [first] and waits_for(second) == [old, first]
    assert shared_lab.training.status(second.id).waiting == ("old", "first")
    shared_lab.training.stop(old.id)
    until(lambda: not old.live, 60)
    assert old.state == "stopped" and old.why == "Stopped before it was started."
    assert shared_lab.training.status(old.id).resumable
    ended(first)
    assert ended(second).state == "done", second.log(20)
    assert first.exit and second.exit and first.state == "done"
    assert next(event.at for event in second.events() if event.kind == "started") > first.exit.at - 1


def test_a_screen_that_is_killed_at_any_moment_leaves_one_run_or_none(home: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, seen = random.Random(seed), Counter[str]()
    for number in range(12):
        before = set(runs_in(home / "runs"))
        first = screen(home, f"screen{number}", steps=4)
        time.sleep(0.5 + chance.random() * 2.5)
        first.kill()
        first.communicate()
        found = set(runs_in(home / "runs")) - before
        assert len(found) <= 1
        for run in found:
            assert ended(run).state in ("done", "lost")
            seen[run.state] += 1
            if run.state == "lost":
                with opened(home) as lab:
                    assert ended(lab.training.resume(run.id)).state == "done", run.log(20)
            assert read_curve(run.folder).steps == [1, 2, 3, 4]
    print(dict(seen))


def test_a_try_that_is_stopped_keeps_nothing(shared_lab: Lab) -> None:
    run = shared_lab.training.attempt(small("tried", batch=64, accumulation=8))
    reached(run, 1)
    shared_lab.training.stop(run.id)
    assert ended(run).state == "stopped" and 1 <= step_of(run) < 5
    assert not list((run.folder / "checkpoints").glob("checkpoint-*"))


def long_rows(path: Path) -> Path:
    rows = (chat(f"Say {n}.", "one two three four five six seven " * 300) for n in range(200))
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_memory_that_runs_out_in_a_step_is_told(shared_lab: Lab, tmp_path: Path) -> None:
    data = {"source": str(long_rows(tmp_path / "long.jsonl")), "rows": 190, "held_first": 190, "held_rows": 8}
    plenty = Training(shared_lab.settings, lambda: 10**12)  # or it would be refused at once
    run = plenty.start(small("starved", data=data, batch=16, max_length=2048))
    until(lambda: not run.live or shared_lab.training.status(run.id).activity == "loading the base", LONG)
    trainer = psutil.Process(worker_of(run))
    resource.prlimit(trainer.pid, resource.RLIMIT_AS, (trainer.memory_info().vms + 10**9,) * 2)
    ended(run)
    assert run.state == "failed" and "not enough memory" in run.why, (run.why, run.log(20))
    assert shared_lab.training.status(run.id).resumable == 0


ON_A_FULL_DISK = """
import sys
from pathlib import Path
from support.trainings import ended, reached, small
from backend.core.errors import LabError
from backend.training.status import read_curve
from support.training_faults import opened
home = Path(sys.argv[1])
(home / "weights").mkdir()
with opened(home) as lab:
    run = lab.training.start(small("full", steps=24, save_every=4))
    reached(run, 9)
    try:
        with (home / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
    except OSError as error:
        print(error.errno)
    ended(run)
    print(run.state, run.why)
    before = lab.training.status(run.id).resumable
    try:
        lab.training.resume(run.id)
    except LabError as error:
        print(error)
    print(run.state, run.why)
    (home / "filler").unlink()
    print(ended(lab.training.resume(run.id)).state, before, read_curve(run.folder).facts["begins"])
    print(read_curve(run.folder).steps == list(range(1, 25)))
"""


def test_a_disk_that_fills_up_keeps_the_older_checkpoint_and_the_word_of_it(tmp_path: Path) -> None:
    command = ["env", f"PYTHONPATH={ROOT}:{ROOT / 'tests'}", sys.executable, "-c", ON_A_FULL_DISK, str(tmp_path)]
    mounts = f"mount -t tmpfs -o size=120m none '{tmp_path}'"
    number, ended_as, refused, stands, resumed, whole = in_a_namespace(mounts, *command).splitlines()
    assert number == "28" and ended_as.startswith("failed The disk is full")
    assert "could not be resumed (No space left on device)" in refused and stands == ended_as
    state, before, begins = resumed.split()
    assert (state, whole) == ("done", "True") and int(begins) == int(before) >= 8


GROUP = Path("/sys/fs/cgroup/memory")
IN_A_GROUP = """
import sys
from pathlib import Path
from backend.training.training import Training
from support.trainings import ended, small
from support.training_faults import opened
home = Path(sys.argv[1])
(home / "weights").mkdir()
with opened(home) as lab:
    plenty = Training(lab.settings, lambda: 10**12)
    run = ended(plenty.start(small("outgrown", batch=32, max_length=2048, data={
        "source": sys.argv[2], "rows": 190, "held_first": 190, "held_rows": 8
    })))
    print(run.state, run.why)
    print(lab.training.status(run.id).resumable)
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of processes that may have little memory together."""
    made = GROUP / f"lab-{os.getpid()}"
    try:
        made.mkdir()
        (made / "memory.limit_in_bytes").write_text("1500000000")
    except OSError:
        pytest.skip("needs control groups (version 1) that can be written, as root has them")
    yield made
    until(lambda: (made / "cgroup.procs").read_text() == "", 30)
    made.rmdir()


def test_a_trainer_that_the_system_ends_for_its_memory_is_told(group: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", IN_A_GROUP, str(tmp_path), str(long_rows(tmp_path / "long.jsonl"))]
    inside = f'echo $$ > {group}/cgroup.procs; mount --bind {group} {GROUP}; exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", inside, "sh", "env", f"PYTHONPATH={ROOT}:{ROOT / 'tests'}", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.splitlines()[0].startswith("failed The system ended the process because memory ran out"), done
    assert done.stdout.splitlines()[1] == "0"
