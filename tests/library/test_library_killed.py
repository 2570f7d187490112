"""kill -9 of the screen, the runner and the worker of a download at random moments: whole and verified, or absent."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, start_app
from servers.hub import Hub
from support.library import FILE, TOY, LibraryFolders, hub
from support.session import Visitor, until

from backend.jobs.run import Run
from backend.lab import Lab
from models.catalogue import catalogue

__all__ = ["hub"]  # the fixtures

RATE = 2_000_000  # bytes per second: the toy takes one second
TIMES = [5, 30]
pytestmark = pytest.mark.long
RUNNER, WORKER = "backend.jobs.runner", "backend.library.download"

SCREEN = """
import sys
from pathlib import Path
from backend.lab import Lab
from backend.core.settings import Settings
runs, weights, repo = sys.argv[1:]
with Lab(Settings(_env_file=None, lab_runs=Path(runs), lab_weights=Path(weights))) as lab:
    listing = lab.library.list_files(repo)
    print("listed", flush=True)
    print(lab.library.download_file(listing, listing.files[0]).id, flush=True)
    sys.stdin.read()
"""


def process_of(run: Run, module: str) -> int | None:
    """The process that runs this module for this run."""
    for one in psutil.process_iter(["cmdline"]):
        words = one.info["cmdline"] or []
        if module in words and str(run.folder.resolve()) in words:
            return one.pid
    return None


def kill(pid: int | None) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def at_random_moments(times: int, hub: Hub, home: Path, one: Callable[[LibraryFolders, random.Random], str]) -> None:
    """`one` for folders of their own, several at once because they mostly wait; prints what was found how often."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")

    def attempt(number: int) -> str:
        repo = f"killed/n{number}"
        hub.add(repo, FILE, TOY)
        hub.fault(f"/cdn/{repo}/*", "drip", times=1, rate=RATE)
        folders = LibraryFolders(home / str(number), repo)
        found = one(folders, random.Random(seed + number))
        how = f"{found}, {'whole' if folders.whole() else 'absent'}"
        folders.tended()
        folders.again()
        return how

    with ThreadPoolExecutor(4) as pool:
        print(dict(sorted(Counter(pool.map(attempt, range(times))).items())))


def point(run: Run) -> str:
    """How far a run has come, for the figures."""
    step = run.last("step")
    return str(step.facts["state"]) if step else "before its first step"


def killed_in(folders: LibraryFolders, chance: random.Random, module: str) -> str:
    run = folders.fetch()
    pids: list[int] = []
    until(lambda: bool(pids.extend(filter(None, [process_of(run, module)])) or pids or not run.live))
    if chance.random() < 0.7:  # most of them while it is fetched, checked and placed
        until(lambda: run.last("step") is not None or not run.live)
    time.sleep(chance.random() * 1.5)
    when = point(run) if run.live else "after its end"
    kill(pids[0] if pids else None)
    until(lambda: not run.live)
    until(lambda: folders.busy() == [])
    assert run.state in ("done", "failed", "lost") and (run.why or run.state == "done")
    assert run.state != "done" or folders.whole()
    (seen,) = folders.transfers()
    assert (seen.id, seen.state, seen.why) == (run.id, run.state, run.why)
    return f"{when}: {run.state}"


@pytest.mark.parametrize("times", TIMES)
def test_a_killed_runner_leaves_a_whole_variant_or_none(times: int, hub: Hub, tmp_path: Path) -> None:
    def one(folders: LibraryFolders, chance: random.Random) -> str:
        found = killed_in(folders, chance, RUNNER)
        assert not found.endswith("failed"), found  # nobody was left to find that it failed
        return found

    at_random_moments(times, hub, tmp_path, one)


@pytest.mark.parametrize("times", TIMES)
def test_a_killed_transfer_leaves_a_whole_variant_or_none(times: int, hub: Hub, tmp_path: Path) -> None:
    def one(folders: LibraryFolders, chance: random.Random) -> str:
        found = killed_in(folders, chance, WORKER)
        assert not found.endswith("lost"), found  # its runner was there to account for it
        return found

    at_random_moments(times, hub, tmp_path, one)


@pytest.mark.parametrize("times", TIMES)
def test_a_killed_screen_changes_nothing_for_its_run(times: int, hub: Hub, tmp_path: Path) -> None:
    def one(folders: LibraryFolders, chance: random.Random) -> str:
        settings = folders.settings
        screen = subprocess.Popen(
            [sys.executable, "-c", SCREEN, str(settings.lab_runs), str(settings.lab_weights), folders.repo],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert screen.stdin and screen.stdout and screen.stdout.readline() == "listed\n"
        time.sleep(chance.random() * chance.choice([0.05, 1.5]))  # while it starts the run, or later
        screen.kill()
        screen.wait()
        screen.stdin.close()
        named = screen.stdout.read().strip()
        screen.stdout.close()
        assert [run.id for run in folders.runs] == [named] or not named
        if not folders.runs:
            return "killed before there was a run"
        (run,) = folders.runs
        when = point(run) if run.live else "after its end"
        until(lambda: not run.live)
        until(lambda: folders.busy() == [])
        assert run.state == "done" or (run.state == "lost" and run.workers is None and not named)
        assert folders.whole() == (run.state == "done")
        return f"{when}: {run.state}"

    at_random_moments(times, hub, tmp_path, one)


def test_another_screen_shows_the_progress_of_a_run_whose_screen_was_killed(hub: Hub, tmp_path: Path) -> None:
    """The app as it is started, and a variant of the catalogue."""
    variant = next(one for one in catalogue() if one.id == "base_1b")
    hub.add(variant.repo, variant.file, TOY)
    hub.fault("/cdn/*", "drip", rate=RATE // 4)
    folders = LibraryFolders(tmp_path, variant.repo)
    app = start_app(tmp_path)
    try:
        Visitor(app).client.predict(api_name="/download_base_1b")
        until(lambda: folders.transfers()[0].done > 0)
    finally:
        app.process.kill()
        app.process.wait()
    (seen,) = folders.transfers()
    entry = folders.entry("base_1b")
    assert seen.state == "running" and (seen.variant, seen.progress["state"]) == ("base_1b", "downloading")
    assert 0 < seen.done < seen.total == TOY.stat().st_size and seen.speed > 0
    assert entry and entry.state == "arriving" and entry.why.startswith("downloading ")
    until(lambda: folders.transfers()[0].done > seen.done or not folders.transfers()[0].live)
    until(lambda: not folders.runs[0].live)
    assert folders.runs[0].state == "done" and folders.whole("base_1b")
    until(lambda: folders.busy() == [])
    with Lab(folders.settings) as lab:
        lab.library.reap_orphans()
        assert os.listdir(lab.settings.lab_weights / ".arriving") == ["lock"]
