"""Folders of trainings that hold garbage, damage, forgeries and what another version wrote: each costs itself only."""

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import LONG, alive, begun, rehearse, steps
from support.session import until
from support.train_in_process import train_here
from support.training_faults import home, shared_lab, worker_of
from support.trainings import ended, small

from backend.core import machine
from backend.core.errors import LabError
from backend.jobs import launcher
from backend.jobs.folders import Exit, ProcessIds
from backend.jobs.run import Run
from backend.lab import Lab
from backend.training import checkpoints

__all__ = ["shared_lab", "home"]  # the fixtures


@pytest.fixture(scope="module")
def stopped(shared_lab: Lab) -> Run:
    """A training that was stopped after a few steps. Copy it: others look at it too."""
    run = train_here(shared_lab.settings.lab_runs, small("stopped", save_every=2), stop_at=5)
    assert run.state == "stopped"
    return run


def copied(run: Run, name: str) -> Run:
    """Its folder once more, as a run of its own, asked for a moment later."""
    folder = run.folder.with_name(f"{run.id[:15]}-999-train-{name}")
    shutil.copytree(run.folder, folder)
    return Run(folder)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    whole = json.loads(path.read_bytes())
    change(whole)
    path.write_text(json.dumps(whole))


@pytest.mark.long
def test_what_another_version_asked_is_refused_with_a_sentence(shared_lab: Lab, stopped: Run) -> None:
    run = copied(stopped, "older")
    rewritten(run.folder / "spec.json", lambda whole: whole["asked"]["spec"].update({"lisa_layers": 4}))
    assert shared_lab.training.status(run.id).spec is None
    ended(shared_lab.training.resume(run.id))
    assert run.state == "failed" and "another version of the app" in run.why, (run.why, run.log(20))
    assert checkpoints.newest(run.folder)


@pytest.mark.parametrize("grace", ["[1e999]", "1e999", "-1e9", "NaN", "true", '"long"', "null", "9" * 400])
def test_a_runner_stops_its_worker_whatever_grace_it_wishes(grace: str, tmp_path: Path) -> None:
    run = rehearse(tmp_path, manner="deaf", **LONG)
    until(lambda: begun(run))
    os.kill(worker_of(run), signal.SIGSTOP)
    with (run.folder / "events.jsonl").open("a") as file:
        file.write(f'{{"kind": "step", "at": 1, "facts": {{"step": 77, "grace": {grace}}}}}\n')
    assert steps(run) == 77  # only the odd fact is dropped
    for _ in range(2):
        run.stop()
    until(lambda: not run.live)
    assert run.state == "stopped"
    until(lambda: alive(run) == [])


GARBAGE = [
    b"\x00\xff\xfe", b"[]", b"{}", b"[" * 5000, b'{"kind": "step"', b'{"kind": "step", "at": "now", "facts": {}}',
    b'{"kind": "step", "at": 1, "facts": {"points": [[1e999, 1, 1, 1], [NaN, 1, 1, 1], [1, NaN, 1, 1]]}}',
    b'{"kind": "step", "at": 1, "facts": {"evaluations": [[1, 1e999], [null, 2], 3]}}',
    b'{"kind": "step", "at": 1, "facts": {"points": [[' + b"9" * 400 + b", 1, 1, 1]]}}",
    b'{"kind": "step", "at": 1, "facts": {"points": {"1": 2}, "evaluations": 7, "begins": "never"}}',
    b'{"kind": "unheard of", "at": 1, "facts": {}}',
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_among_the_events_costs_nothing_but_itself(garbage: bytes, shared_lab: Lab, stopped: Run) -> None:
    run = copied(stopped, f"garbage{GARBAGE.index(garbage)}")
    before = shared_lab.training.status(run.id)
    lines = (run.folder / "events.jsonl").read_bytes().splitlines()
    (run.folder / "events.jsonl").write_bytes(b"\n".join([garbage, *lines[:3], garbage, *lines[3:], garbage]))
    standing = next(one for one in shared_lab.training.statuses() if one.id == run.id)
    assert (standing.state, standing.curve.steps, standing.resumable) == (
        "stopped",
        before.curve.steps,
        before.resumable,
    )
    assert standing.curve.losses == before.curve.losses


def test_a_damaged_checkpoint_is_told_whatever_the_damage(shared_lab: Lab, stopped: Run) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    run = copied(stopped, "damaged")
    found = checkpoints.newest(run.folder)
    assert found
    step, folder = found
    for _ in range(150):
        file = folder / chance.choice([checkpoints.STATE, checkpoints.WEIGHTS, *checkpoints.PICKLED])
        whole = file.read_bytes()
        data = bytearray(whole)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        for _ in range(chance.randrange(1, 9)):
            if data:
                part = chance.choice([0, max(0, len(data) - 200), chance.randrange(len(data))])  # its ends tell most
                data[min(len(data) - 1, part + chance.randrange(200))] = chance.randrange(256)
        file.write_bytes(data)
        assert isinstance(checkpoints.fault(step, folder), str)
        assert shared_lab.training.status(run.id).resumable in (
            step,
            *(older for older, _ in checkpoints.checkpoints(run.folder)),
            0,
        )
        file.write_bytes(whole)
    assert checkpoints.newest(run.folder) == found


@pytest.mark.parametrize("name", checkpoints.PICKLED)
def test_one_wrong_byte_in_what_is_unpickled_is_noticed(name: str, stopped: Run) -> None:
    found = checkpoints.newest(stopped.folder)
    assert found
    data = (found[1] / name).read_bytes()
    try:
        middle = data.index(b"/data.pkl") + 200  # within what the archive's first record holds
        (found[1] / name).write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
        assert checkpoints.fault(*found)
    finally:
        (found[1] / name).write_bytes(data)


def test_a_done_training_whose_adapter_was_taken_away_is_still_listed(shared_lab: Lab, stopped: Run) -> None:
    run = copied(stopped, "emptied")
    (run.folder / "exit.json").write_text(Exit(state="done").model_dump_json())
    (standing,) = (one for one in shared_lab.training.statuses() if one.id == run.id)
    assert (standing.state, standing.made) == ("done", None)
    with pytest.raises(LabError, match="has no adapter yet"):
        shared_lab.training.export(run.id)


def test_a_lock_that_is_still_held_is_told(shared_lab: Lab, stopped: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "TIMEOUT", 0.2)
    run = copied(stopped, "held")
    with (run.folder / "lock").open("ab") as lock:
        launcher._take(lock)
        with pytest.raises(LabError, match="Another process holds"):
            shared_lab.training.resume(run.id)
    assert run.state == "stopped" and shared_lab.training.status(run.id).resumable


@pytest.mark.parametrize("pid", [0, 1, -1, "own", "reused"])
def test_a_live_record_that_names_others_is_never_signalled(pid: Any, shared_lab: Lab, stopped: Run) -> None:
    run = copied(stopped, f"forged{pid}")
    for name in ("exit.json", "stop"):
        (run.folder / name).unlink()
    child = subprocess.Popen(["sleep", "600"], process_group=0)
    try:
        named = {"own": os.getpid(), "reused": child.pid}.get(pid, pid)
        began = machine.identity(named) if pid != "reused" else f"{machine.identity(named)}0"
        workers = ProcessIds(runner=(2**22 - 1, "never"), worker=(named, began))
        (run.folder / "runner.json").write_text(workers.model_dump_json())
        with (run.folder / "lock").open("ab") as lock:
            launcher._take(lock)  # as long as somebody holds it, it is taken for a run that nobody looks after
            assert run.state == "running"
            shared_lab.training.reap_orphans()
            shared_lab.training.stop(run.id)
            shared_lab.training.stop(run.id)
            with pytest.raises(LabError, match="cannot be resumed"):
                shared_lab.training.resume(run.id)
            shared_lab.training.reap_orphans()
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    assert run.state == "lost"
