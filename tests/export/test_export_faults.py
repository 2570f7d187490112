"""Whatever happens to an export, there is a whole variant or none, and the adapter stays what it was."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY
from support.exports import adapted, entry, exported, leave, ours, start, trained
from support.workers import Run, environment, eventually

from backend.training.artifacts import FOLDER, MADE

__all__ = ["trained"]  # the fixture


def digests(run: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (run / FOLDER).iterdir()}


def sentence(text: str) -> bool:
    return text.endswith(".") and "app has a bug" not in text


def nothing_or_all(home: Path) -> bool:
    """Whether the variant is here; never in part."""
    folder = home / "weights" / "mine"
    if not folder.exists():
        assert entry(home) is None
        return False
    found = ours(home)
    assert found.path and hashlib.sha256(found.path.read_bytes()).hexdigest() == found.variant.sha256
    assert not list(folder.glob("*.part"))
    return True


@pytest.mark.parametrize(
    "state", ["quantising", "placing", *(pytest.param(one, marks=pytest.mark.long) for one in ("merging", "checking"))]
)
def test_killed_at_any_step_it_leaves_nothing_half_made(state: str, trained: Path, tmp_path: Path) -> None:
    before, seed = digests(trained), random.randrange(1_000_000)
    run = start(trained, tmp_path)
    eventually(run, state)
    time.sleep(random.Random(seed).uniform(0, 0.3))
    run.kill()
    if nothing_or_all(tmp_path):
        assert state != "merging", seed
    else:
        exported(trained, tmp_path).result  # noqa: B018
        assert nothing_or_all(tmp_path)
    assert os.listdir(tmp_path / "weights" / ".arriving") == ["lock"] or state == "placing", seed
    assert digests(trained) == before


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_moment_it_leaves_nothing_half_made(seed: int, trained: Path, tmp_path: Path) -> None:
    run = start(trained, tmp_path, form="adapter" if seed % 3 == 0 else "merged")
    time.sleep(random.Random(seed).uniform(0.1, 2.2))
    run.kill()
    if not nothing_or_all(tmp_path):
        exported(trained, tmp_path).result  # noqa: B018
        assert nothing_or_all(tmp_path)


@pytest.mark.parametrize(
    "state", ["quantising", *(pytest.param(one, marks=pytest.mark.long) for one in ("merging", "checking"))]
)
def test_stopped_it_cleans_up_and_takes_its_children_along(state: str, trained: Path, tmp_path: Path) -> None:
    run = start(trained, tmp_path)
    eventually(run, state)
    os.killpg(run.process.pid, signal.SIGTERM)  # as its runner does
    assert run.process.wait(20) == 128 + signal.SIGTERM
    assert os.listdir(tmp_path / "weights" / ".arriving") == ["lock"] and entry(tmp_path) is None
    assert not children(run.process.pid)


def children(group: int) -> list[int]:
    """Processes of its group that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, owner = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:3]
        except (OSError, ValueError):
            continue
        if int(owner) == group and state != "Z" and int(folder.name) != group:
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize("state", ["quantising", "checking"])
def test_a_llama_cpp_that_ends_its_process_is_told(state: str, trained: Path, tmp_path: Path) -> None:
    run = start(trained, tmp_path)
    eventually(run, state)
    end = time.monotonic() + 10
    while not (found := children(run.process.pid)) and time.monotonic() < end:
        time.sleep(0.001)
    os.kill(found[0], signal.SIGABRT)
    run.wait()
    assert f"signal {signal.SIGABRT:d}" in run.why and sentence(run.why)
    assert not nothing_or_all(tmp_path) and os.listdir(tmp_path / "weights" / ".arriving") == ["lock"]


def test_a_name_that_is_taken_is_refused_before_any_work(trained: Path, tmp_path: Path) -> None:
    first = exported(trained, tmp_path, form="adapter").result
    run = exported(trained, tmp_path)
    assert "mine already exists" in run.why and run.facts("step") == []
    assert ours(tmp_path).variant.sha256 == first["sha256"]


def test_a_name_that_is_taken_meanwhile_is_not_written_over(trained: Path, tmp_path: Path) -> None:
    run = start(trained, tmp_path)
    eventually(run, "merging")
    other = tmp_path / "weights" / "mine"
    other.mkdir()
    shutil.copy(TINY / "tiny_base.gguf", other)
    assert "already exists" in run.wait().why and os.listdir(other) == ["tiny_base.gguf"]


def test_a_damaged_one_with_its_card_makes_way_and_all_of_it_is_removed_later(trained: Path, tmp_path: Path) -> None:
    exported(trained, tmp_path).result  # noqa: B018
    found = ours(tmp_path).path
    assert found
    found.write_bytes(b"GGUF")
    exported(trained, tmp_path).result  # noqa: B018
    assert nothing_or_all(tmp_path)


def test_a_run_that_has_not_finished_has_nothing_to_export(trained: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "20300101-000000-000-train-other"
    unfinished.mkdir()
    assert "has no adapter yet" in exported(unfinished, tmp_path).why
    run = leave(tmp_path / "20300101-000000-001-train-other", adapted())
    (run / FOLDER / MADE).write_text("{")
    assert "cannot be read" in exported(run, tmp_path).why
    weights = run / FOLDER / "adapter_model.safetensors"
    shutil.copy(trained / FOLDER / MADE, run / FOLDER)
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "not a complete safetensors" in exported(run, tmp_path).why
    weights.unlink()
    assert sentence(exported(run, tmp_path).why) and entry(tmp_path) is None


FILL = """
import contextlib, os, sys, time
from pathlib import Path
weights, ready = map(Path, sys.argv[1:3])
greedy, end = os.open(weights / "greedy", os.O_RDWR | os.O_CREAT), time.monotonic() + 30
ready.touch()
while not list(weights.glob(sys.argv[3])):
    time.sleep(0.0005)
while time.monotonic() < end:
    disk = os.statvfs(weights)
    with contextlib.suppress(OSError):
        os.posix_fallocate(greedy, os.fstat(greedy).st_size, max(1, disk.f_bavail) * disk.f_frsize)
    time.sleep(0.0005)
"""


@pytest.mark.parametrize(
    ("size", "quantisation", "full_at"),
    [
        ("20m", "Q4_K_M", ""),
        pytest.param("76m", "Q4_K_M", ".arriving/*/model", marks=pytest.mark.long),
        ("76m", "Q4_K_M", ".arriving/*/whole.gguf.part"),
        pytest.param("76m", "F16", ".arriving/*/model/mine.gguf.part", marks=pytest.mark.long),
        pytest.param("76m", "Q4_K_M", ".arriving/*/whole.gguf", marks=pytest.mark.long),
        ("76m", "Q4_K_M", ".arriving/*/model/mine.gguf"),
    ],
)
def test_a_disk_that_is_or_becomes_full_is_told_and_the_adapter_kept(
    size: str, quantisation: str, full_at: str, trained: Path, tmp_path: Path
) -> None:
    """The larger disk fills while the export is under way: somebody else takes what is free, at once and again."""
    before, weights, ready = digests(trained), tmp_path / "weights", tmp_path / "ready"
    weights.mkdir()
    folder = tmp_path / "20300101-000001-000-export-mine"
    folder.mkdir()
    asked: dict[str, Any] = {"run": str(trained), "id": "mine", "weights": str(weights), "quantisation": quantisation}
    (folder / "spec.json").write_text(json.dumps({"asked": asked}))
    steps = [f"mount -t tmpfs -o size={size} none '{weights}'"]
    if full_at:
        steps += [f"\"$1\" -c '{FILL}' '{weights}' '{ready}' '{full_at}' & until [ -e '{ready}' ]"]
        steps += ["do sleep 0.01", "done"]
    steps += ['"$@" || code=$?', f"ls -A '{weights}' '{weights}/.arriving' > '{tmp_path}/left'", "exit ${code:-0}"]
    command = [sys.executable, "-m", "backend.export.export", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "-Urm", "sh", "-ec", "; ".join(steps), "sh", *command],
            cwd=ROOT, env=environment(tmp_path), stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    run = Run(folder, process).wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # whoever fills the disk
    assert re.search("could not be written|MB left|MB are needed|No space left", run.why) and sentence(run.why)
    left = (tmp_path / "left").read_text()
    assert "mine" not in left.replace(str(tmp_path), "") and digests(trained) == before
