"""Runs: started, watched, stopped, queued, killed. The work is rehearsed; the processes are real."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT
from support.runs import LONG, alive, begun, over, rehearse, runs, steps
from support.session import until

from backend.core import machine
from backend.core.errors import LabError
from backend.jobs.fake_request import FakeRequest
from backend.jobs.folders import ProcessIds
from backend.jobs.launcher import JOBS, launch, waits_for
from backend.jobs.run import Run, find, reap_orphans, runs_in

__all__ = ["runs"]  # the fixtures


def test_a_run_is_a_folder_that_tells_what_was_asked_what_happened_and_how_it_ended(runs: Path) -> None:
    run = rehearse(runs, "a first try!", steps=5, pause=0.01)
    until(lambda: over(run))
    assert run.id.endswith("-rehearse-a_first_try_")
    assert (run.state, run.why) == ("done", "")
    assert [event.kind for event in run.events()] == ["started", "step", "step", "result", "ended"]
    assert FakeRequest.model_validate(run.spec.asked).steps == 5
    assert run.exit and run.exit.at > run.spec.created
    assert Run(run.folder).state == "done"  # another screen sees the same
    until(lambda: alive(run) == [])


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        ("fails", "requested to fail"),
        ("crashes", "crashed \\(SIGSEGV\\)"),
        ("silent", "code 0 and without a result"),
        ("says nothing", "code 3 and without a result"),
    ],
)
def test_a_failure_has_a_sentence(runs: Path, manner: str, why: str) -> None:
    run = rehearse(runs, manner=manner, steps=4, pause=0.01)
    until(lambda: over(run))
    assert run.state == "failed"
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(run.why)


def test_a_torn_line_costs_itself(runs: Path) -> None:
    run = rehearse(runs, manner="torn", steps=6, pause=0.6)
    until(lambda: over(run))
    assert run.state == "done"
    assert [event.facts["step"] for event in run.events() if event.kind == "step"][-1] == 6


def test_what_is_printed_is_kept_within_bounds(runs: Path) -> None:
    run = rehearse(runs, manner="prints", steps=4, pause=0.01)
    until(lambda: over(run))
    assert run.state == "done"
    kept = [path.stat().st_size for path in run.folder.glob("log*.txt")]
    assert len(kept) == 2 and max(kept) < 11 << 20
    assert len(run.log(3)) < 1 << 17


def test_stop_ends_it(runs: Path) -> None:
    run = rehearse(runs, **LONG)
    until(lambda: begun(run))
    run.stop()
    assert run.state in ("stopping", "stopped")
    until(lambda: over(run))
    assert (run.state, run.why) == ("stopped", "Stopped by you.")
    run.stop()  # after the end: harmless
    assert run.state == "stopped"
    until(lambda: alive(run) == [])


def test_a_worker_that_does_not_listen_is_ended_after_a_grace(runs: Path) -> None:
    run = rehearse(runs, manner="deaf", **LONG)
    until(lambda: begun(run))
    run.stop()
    until(lambda: over(run))
    assert run.state == "stopped" and "did not end in time" in run.why
    until(lambda: alive(run) == [])


def test_stop_twice_does_not_wait_for_the_grace(runs: Path) -> None:
    run = rehearse(runs, manner="deaf", **LONG)
    until(lambda: begun(run))
    run.stop()
    run.stop()
    until(lambda: over(run))
    wished = float((run.folder / "stop").read_text().split()[-1])
    assert run.state == "stopped" and run.exit and run.exit.at - wished < JOBS["rehearse"].grace


def test_children_left_behind_end_with_it(runs: Path) -> None:
    run = rehearse(runs, manner="leaves children", **LONG)
    until(lambda: begun(run))
    assert len(alive(run)) == 3
    run.stop()
    until(lambda: over(run))
    until(lambda: alive(run) == [])


def test_a_second_run_waits_and_says_for_which(runs: Path) -> None:
    first = rehearse(runs, "first", **LONG)
    second, third = rehearse(runs, "second", steps=3), rehearse(runs, "third", steps=3)
    until(lambda: begun(first))
    assert (second.state, third.state) == ("queued", "queued")
    assert waits_for(second) == [first] and waits_for(third) == [first, second]
    second.stop()
    until(lambda: second.state == "stopped")
    assert second.why == "Stopped before it was started."
    first.stop()
    until(lambda: third.state == "done")
    assert not begun(second)


def test_a_killed_holder_of_the_turn_lets_the_next_one_go_on(runs: Path) -> None:
    first, second = rehearse(runs, "first", **LONG), rehearse(runs, "second", steps=3)
    until(lambda: begun(first))
    assert first.workers
    os.kill(first.workers.runner[0], signal.SIGKILL)
    until(lambda: second.state == "done")
    assert first.state == "lost"


def test_twenty_who_ask_for_the_same_get_one_run(runs: Path) -> None:
    found: list[Run] = []
    asking = [threading.Thread(target=lambda: found.append(rehearse(runs, "same", "this", **LONG))) for _ in range(20)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(set(found)) == 1 and len(runs_in(runs)) == 1
    again = subprocess.run([sys.executable, "-c", ANOTHER_SCREEN, str(runs)], cwd=ROOT, capture_output=True, text=True)
    assert again.stdout.strip() == found[0].id, again.stderr
    found[0].stop()
    until(lambda: over(found[0]))
    assert rehearse(runs, "same", "this", steps=1) != found[0]  # it has ended: the next one is new


ANOTHER_SCREEN = """
import sys
from pathlib import Path
from backend.jobs.launcher import launch
from backend.jobs.fake_request import FakeRequest
print(launch(Path(sys.argv[1]), "rehearse", "same", FakeRequest(), "this").id)
"""


def test_a_run_outlives_the_screen_that_started_it(runs: Path) -> None:
    screen = subprocess.run([sys.executable, "-c", ANOTHER_SCREEN, str(runs)], cwd=ROOT, capture_output=True, text=True)
    run = Run(runs / screen.stdout.strip())
    assert run.live, screen.stderr
    until(lambda: run.state == "done")
    assert steps(run) == 20


def test_a_worker_leaves_when_its_runner_is_killed(runs: Path) -> None:
    run = rehearse(runs, **LONG)
    until(lambda: begun(run))
    assert run.workers
    os.kill(run.workers.runner[0], signal.SIGKILL)
    until(lambda: run.state == "lost")
    assert "was killed" in run.why
    until(lambda: alive(run) == [])


def test_a_worker_that_does_not_notice_is_tended(runs: Path) -> None:
    run = rehearse(runs, manner="deaf", **LONG)
    until(lambda: begun(run))
    assert run.workers and run.workers.worker
    assert reap_orphans(runs) == []  # its runner is there
    os.kill(run.workers.runner[0], signal.SIGKILL)
    until(lambda: not machine.is_still(*run.workers.runner))  # type: ignore[union-attr]
    assert run.alive
    assert reap_orphans(runs) == [run]
    until(lambda: run.state == "lost")
    assert reap_orphans(runs) == []


def test_a_killed_worker_is_a_failed_run_and_no_guess_is_made_of_why(runs: Path) -> None:
    run = rehearse(runs, **LONG)
    until(lambda: begun(run))
    assert run.workers and run.workers.worker
    os.kill(run.workers.worker[0], signal.SIGKILL)
    until(lambda: over(run))
    assert run.state == "failed" and "no reason is known" in run.why


def test_a_kill_at_any_moment_leaves_a_state_that_can_be_told(runs: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(8):
        run = rehearse(runs, steps=20, pause=0.02)
        time.sleep(chance.random() * 0.8)
        for pid in chance.sample(found, chance.randint(1, len(found))) if (found := alive(run)) else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda run=run: over(run))  # type: ignore[misc]
        assert run.state in ("done", "failed", "lost")
        assert (run.state == "done") == (run.last("ended") is not None)
        until(lambda run=run: alive(run) == [])  # type: ignore[misc]


@pytest.mark.parametrize("named", ["0", "1", "-1", "this process"])
def test_a_record_that_names_others_is_never_signalled(runs: Path, named: str) -> None:
    pid = os.getpid() if named == "this process" else int(named)
    assert not machine.kill_group(pid, machine.identity(pid))
    run = rehearse(runs, steps=1)
    until(lambda: over(run))
    (run.folder / "exit.json").unlink()
    forged = ProcessIds(runner=(2**22 - 1, "never"), worker=(pid, machine.identity(max(pid, 1))))
    (run.folder / "runner.json").write_text(forged.model_dump_json())
    assert reap_orphans(runs) == []


def test_a_pid_that_was_given_again_is_somebody_else(runs: Path) -> None:
    child = subprocess.Popen(["sleep", "60"], process_group=0)
    assert not machine.kill_group(child.pid, machine.identity(child.pid)[:-1] + "?")
    assert child.poll() is None
    assert machine.kill_group(child.pid, machine.identity(child.pid))
    child.wait(5)
    assert machine.identity(child.pid) == ""


def test_garbage_in_the_folder_is_passed_over(runs: Path) -> None:
    run = rehearse(runs, steps=1)
    until(lambda: over(run) and not run.alive)
    (runs / "20200101-000000-000-nothing").mkdir()
    (runs / "judgements.jsonl").write_text("{}\n")
    (run.folder / "events.jsonl").write_bytes(b"\x00\xff\n[]\n{}\n" + (run.folder / "events.jsonl").read_bytes())
    assert [found.id for found in runs_in(runs)] == [run.id]
    assert run.last("ended")
    (run.folder / "exit.json").write_text("{")
    assert run.state == "done"  # by its worker's own word
    (run.folder / "events.jsonl").unlink()
    assert run.state == "lost"


def test_the_clock_may_be_put_back(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rehearse(runs, steps=1)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    second, third = rehearse(runs, steps=1), rehearse(runs, steps=1)
    assert first.id < second.id < third.id
    until(lambda: over(third))


def test_a_child_is_told_nothing_it_need_not_know(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "LLAMA_ARG_TOOLS", "PYTHONSTARTUP", "LD_PRELOAD_", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "canary")
    run = launch(runs, "rehearse", "tell", FakeRequest(manner="tells", steps=1), secrets={"HF_TOKEN": "canary"})
    until(lambda: over(run))
    names = {line.partition("=")[0] for line in run.log(200).splitlines()}
    assert "PATH" in names and "OMP_WAIT_POLICY" in names
    assert names <= {*machine.INHERITED, "OMP_WAIT_POLICY", "LC_CTYPE", "PWD", "SHLVL", "_", "OLDPWD"}
    assert all(b"canary" not in path.read_bytes() for path in run.folder.iterdir() if path.is_file())


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="could not be started"):
        rehearse(tmp_path / "file")


FULL = """
mount -t tmpfs -o size=1m tmpfs "$1" && "$2" -c "
import sys, time
from pathlib import Path
from backend.jobs.launcher import launch
from backend.jobs.fake_request import FakeRequest
run = launch(Path(sys.argv[1]), 'rehearse', 'full', FakeRequest(steps=400, pause=0.01, manner='breathless'))
while not run.last('step'): time.sleep(0.01)
try:
    Path(sys.argv[1], 'filler').write_bytes(bytes(2 << 20))
except OSError as error:
    print(error.errno)
while run.live: time.sleep(0.05)
print(run.state, run.exit.why)
" "$1"
"""


def test_a_full_disk_ends_it_with_a_state_on_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-ec", FULL, "sh", str(tmp_path), sys.executable],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines and lines[0] == "28", done.stderr  # ENOSPC
    assert lines[1].startswith("failed The disk is full: 0 MB are free in"), done.stdout
    assert "Free 1 GB there, then resume" in lines[1], done.stdout


def test_looking_up_one_run_reads_no_other(runs: Path) -> None:
    run = rehearse(runs, "wanted", steps=1)
    until(lambda: over(run))
    for day in range(1, 6):
        other = runs / f"2026010{day}-000000-000-rehearse-other"
        other.mkdir()
        (other / "spec.json").write_text("{")
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" and recording else None)
    recording = True
    assert find(runs, run.id, "rehearse") == run and find(runs, run.id) == run
    assert find(runs, run.id, "train") is None and find(runs, "../" + run.id) is None
    recording = False
    assert any(run.id in path for path in opened) and not any("rehearse-other" in path for path in opened)
