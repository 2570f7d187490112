"""A download ends with a whole, verified variant or with a sentence and nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from servers.hub import Hub
from servers.hub_answers import TOKEN, blob_of
from support.session import until
from support.workers import Run, environment, eventually, start

from models.catalogue import list_variants
from models.variant import Variant

NAME, FILE = "owner/model-GGUF", "m-Q4_K_M.gguf"
TOY = TINY / "tiny_base.gguf"
SIZE = TOY.stat().st_size


@dataclass
class Room:
    """A Hub with the toy in it, a folder of weights, and runs that download."""

    hub: Hub
    home: Path
    runs: list[Run] = field(default_factory=list)

    @property
    def weights(self) -> Path:
        return self.home / "weights"

    def start(self, *before: str, env: dict[str, str] | None = None, **asked: Any) -> Run:
        spec = {"repo": NAME, "file": FILE, "id": "mine", "weights": str(self.weights), "timeout": 10.0} | asked
        given = environment(self.home, HF_ENDPOINT=self.hub.url, HF_HUB_DISABLE_XET="1", **(env or {}))
        run = start("download", spec, self.home / "runs" / str(len(self.runs)), given, *before)
        self.runs.append(run)
        return run

    def state(self) -> str:
        """Of the variant; that it is whole if it is there, and that nothing else is left, is asserted."""
        arrivals = self.weights / ".arriving"
        assert not arrivals.exists() or os.listdir(arrivals) == ["lock"]
        entry = next((entry for entry in list_variants(self.weights) if entry.variant.id == "mine"), None)
        if entry is None:
            assert not (self.weights / "mine").exists()
            return "absent"
        assert entry.model and entry.model.read_bytes() == TOY.read_bytes()
        return entry.state


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    (tmp_path / "weights").mkdir()
    with Hub() as hub:
        hub.add(NAME, FILE, TOY)
        room = Room(hub, tmp_path)
        yield room
        for run in room.runs:
            run.kill()


def cached(room: Room, **env: str) -> Path:
    """The file in the Hugging Face cache, as another program would have put it there; its blob."""
    code = f"from huggingface_hub import hf_hub_download; print(hf_hub_download({NAME!r}, {FILE!r}))"
    env = environment(room.home, HF_ENDPOINT=room.hub.url, HF_HUB_DISABLE_XET="1", **env)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    room.hub.log.clear()
    return Path(done.stdout.strip()).resolve()


def test_a_download_is_pinned_verified_and_described(room: Room) -> None:
    commit = room.hub.repos[NAME].branches["main"]
    run = room.start(template="alpaca", quantisation="Q4_K_M", licence="mit", env={"HF_TOKEN": TOKEN}).wait()
    found = run.result
    digest = blob_of(FILE, TOY).oid
    assert (found["sha256"], found["commit"], found["size"], found["from_cache"]) == (digest, commit, SIZE, False)
    variant = Variant.model_validate_json((room.weights / "mine" / "variant.json").read_bytes())
    assert (variant.commit, variant.sha256, variant.template, variant.licence) == (commit, digest, "alpaca", "mit")
    assert room.state() == "ready" and os.listdir(room.weights / "mine").__len__() == 2
    assert all(commit in path for _, path, _ in room.hub.requests("GET"))
    told = [{name.lower() for name in headers} for _, _, headers in room.hub.requests("GET", "/cdn/")]
    assert told and all("authorization" not in names for names in told)
    assert TOKEN not in (run.log + (run.folder / "events.jsonl").read_text())


STAYING: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "wrong": ("/cdn/*", "wrong", {}, "does not match the Hub's checksum"),
    "stall": ("/cdn/*", "stall", {"after": 1_000_000}, "No data arrived from the Hub for 2 seconds"),
    "cut": ("/cdn/*", "cut", {"at": 0.6}, "in three attempts"),
    "short": ("/cdn/*", "page", {}, "another length"),
    "loop": ("/*", "loop", {}, "in a loop"),
    "page": ("/*", "page", {}, "cannot be verified"),
    "broken": ("/*", "broken", {}, "status 500"),
    "token": ("/*", "unauthorised", {}, "does not accept the token"),
    "gated": ("/*", "gated", {}, "accept its licence first"),
    "absent": ("/*", "no repository", {}, "or it is private"),
    "revision": ("/*", "no revision", {}, "no revision main"),
    "busy": ("/*", "busy", {"retry_after": 120}, "Wait 120 seconds"),
}
PASSING: dict[str, dict[str, Any]] = {
    "wrong": {}, "cut": {"at": 0.6}, "stall": {"after": 1_000_000}, "away": {}, "busy": {"retry_after": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Room, Run]]]:
    """A download per fault, each of a repository of its own. They mostly wait, so all do it at the same time."""
    with Hub() as hub:
        found = {}
        for name, (pattern, kind, options, _) in STAYING.items():
            hub.fault(f"{pattern}stays/{name}/*", kind, **options)
        for name, options in PASSING.items():
            hub.fault(f"/cdn/passes/{name}/*", name, times=1, **options)
        for name in [f"stays/{name}" for name in STAYING] + [f"passes/{name}" for name in PASSING]:
            hub.add(name, FILE, TOY)
            room = Room(hub, tmp_path_factory.mktemp(name.replace("/", "_")))
            room.weights.mkdir()
            found[name] = (room, room.start(repo=name, timeout=2.0))
        yield found
        for _, run in found.values():
            run.kill()


@pytest.mark.parametrize("name", STAYING)
def test_a_fault_that_stays_is_a_sentence(name: str, troubled: dict[str, tuple[Room, Run]]) -> None:
    room, run = troubled[f"stays/{name}"]
    assert STAYING[name][3] in run.wait().why
    assert room.state() == "absent"


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_outlived(name: str, troubled: dict[str, tuple[Room, Run]]) -> None:
    room, run = troubled[f"passes/{name}"]
    assert run.wait().result["size"] == SIZE and room.state() == "ready"
    again = [facts for facts in run.facts("step") if facts.get("attempt") == 2]
    assert bool(again) == (name in ("wrong", "stall", "away"))  # the client goes on by itself after a cut and a 429
    assert all("cannot resume" in facts["note"] for facts in again)


def test_a_missing_file_is_answered_with_the_nearest(room: Room) -> None:
    assert f"Did you mean {FILE}?" in room.start(file="m-Q4_K_S.gguf").wait().why


def test_a_gated_repository_opens_with_the_token(room: Room) -> None:
    room.hub.add(NAME, FILE, TOY, gated=True)
    run = room.start(env={"HF_TOKEN": "hf_another"}).wait()
    assert "accept it there" in run.why and "hf_another" not in run.why + run.log
    assert room.start(env={"HF_TOKEN": TOKEN}).wait().result and room.state() == "ready"


def test_a_slow_line_is_told_with_its_speed(room: Room) -> None:
    room.hub.fault("/cdn/*", "drip", rate=1_500_000)
    run = room.start().wait()
    steps = [facts for facts in run.facts("step") if facts.get("speed")]
    assert run.result and 700_000 < steps[-1]["speed"] < 2_000_000
    assert 0 < steps[0]["done"] < SIZE and steps[0]["total"] == SIZE and steps[0]["left"] >= 0


def test_a_revision_that_moves_meanwhile_changes_nothing(room: Room) -> None:
    commit = room.hub.repos[NAME].branches["main"]
    room.hub.fault("/cdn/*", "drip", rate=2_000_000)
    run = room.start()
    eventually(run, "downloading")
    room.hub.add(NAME, FILE, TINY / "tiny_lora.gguf")
    assert run.wait().result["commit"] == commit and room.state() == "ready"


@pytest.mark.parametrize("content", [b"<html>Sign in</html>", b"version https://git-lfs.github.com/spec/v1\n", b""])
def test_what_is_no_model_is_removed_again(content: bytes, room: Room) -> None:
    room.hub.add(NAME, FILE, content)
    assert "was removed again" in room.start().wait().why
    assert room.state() == "absent"


def test_the_cache_is_used_and_not_copied(room: Room) -> None:
    blob = cached(room)
    assert room.start().wait().result["from_cache"] is True
    assert not room.hub.requests("GET") and room.state() == "ready"
    assert os.path.samestat(blob.stat(), (room.weights / "mine" / FILE).stat())


def test_a_damaged_cache_is_passed_over(room: Room) -> None:
    blob = cached(room)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    assert room.start().wait().result["from_cache"] is False and room.state() == "ready"
    assert "is damaged" in room.start(id="another", env={"HF_HUB_OFFLINE": "1"}).wait().why


def test_without_a_hub_only_the_cache_helps(room: Room) -> None:
    offline = {"HF_HUB_OFFLINE": "1"}
    assert "HF_HUB_OFFLINE is set" in room.start(env=offline).wait().why
    cached(room)
    assert room.start(env=offline).wait().result["from_cache"] is True and room.state() == "ready"
    room.hub.fault("*", "away")
    assert room.start(id="another").wait().result["from_cache"] is True


def test_two_at_once_make_one(room: Room) -> None:
    room.hub.fault("/cdn/*", "drip", rate=4_000_000)
    runs = [room.start(), room.start()]
    for run in runs:
        run.wait()
    assert sorted(run.process.returncode for run in runs) == [0, 1] and room.state() == "ready"
    assert any("already exists" in facts["why"] for run in runs for facts in run.facts("failed"))


@pytest.mark.parametrize("how", ["terminated", "left alone"])
def test_a_stopped_download_leaves_nothing(how: str, room: Room) -> None:
    room.hub.fault("/cdn/*", "drip", rate=300_000)
    run = room.start()
    eventually(run, "downloading")
    time.sleep(0.3)
    assert run.process.stdin
    run.process.terminate() if how == "terminated" else run.process.stdin.close()
    run.process.wait(30)
    assert run.process.returncode == 143 and not run.facts("failed") and room.state() == "absent"


DISK = (
    "mount -t tmpfs -o size=$SIZE_MB none $WEIGHTS || exit 99; "
    '[ -z "$FILL_AFTER" ] || (until find $WEIGHTS/.arriving -name "*.incomplete" | grep -q .; do sleep 0.05; done; '
    "sleep $FILL_AFTER; cat /dev/zero > $WEIGHTS/filler) 2>/dev/null & "
    '"$@"; code=$?; ls -A $WEIGHTS $WEIGHTS/.arriving > $LEFT; exit $code'
)


def on_a_small_disk(room: Room, size: str, fill_after: str = "") -> tuple[Run, list[str]]:
    """Where the weights are a disk of its own; and what was left on it."""
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("user namespaces are not allowed here")
    left = room.home / "left"
    env = {"SIZE_MB": size, "WEIGHTS": str(room.weights), "FILL_AFTER": fill_after, "LEFT": str(left)}
    run = room.start("unshare", "-Urm", "sh", "-c", DISK, "sh", env=env).wait()
    return run, left.read_text().split()


def test_a_disk_that_is_too_small_is_refused_at_once(room: Room) -> None:
    run, left = on_a_small_disk(room, "20m")
    assert "MB free" in run.why and "are needed" in run.why
    assert not room.hub.requests("GET") and "mine" not in left


def test_a_disk_that_fills_up_costs_the_download_only(room: Room) -> None:
    room.hub.fault("/cdn/*", "drip", rate=1_500_000)
    run, left = on_a_small_disk(room, "80m", "0.2")
    assert "No space left" in run.why and "The incomplete file was removed" in run.why
    assert "mine" not in left and "filler" in left and left[-1] == "lock"


def killed_at(room: Room, seconds: float) -> None:
    """So long after it began to work, however long this machine took to start it."""
    run = room.start()
    until(lambda: bool(run.facts("started")))
    time.sleep(seconds)
    run.kill()


@pytest.mark.parametrize("times", [5, pytest.param(30, marks=pytest.mark.long)])
def test_killed_at_any_moment_it_is_whole_or_absent(times: int, room: Room) -> None:
    room.hub.fault("/cdn/*", "drip", rate=3_000_000)
    found, caught = [], []
    for number in range(times):
        killed_at(room, 0.8 * (number * 0.618 % 1))
        caught.append(bool(list(room.weights.rglob("*.incomplete"))))
        assert (room.weights / "mine").exists() == (run_ended := (room.weights / "mine" / FILE).exists())
        if run_ended:
            assert (room.weights / "mine" / FILE).read_bytes() == TOY.read_bytes()
            (room.weights / "mine").rename(room.home / f"kept{number}")
        found.append(run_ended)
    print(f"killed {times} times: {sum(found)} ended before, {sum(caught)} left a part behind")
    assert not all(found) and any(caught)
    assert room.start().wait().result and room.state() == "ready"  # and what was left behind is swept
    for kept in room.home.glob("kept*"):
        Variant.model_validate_json((kept / "variant.json").read_bytes())


def test_a_killed_transfer_is_swept_by_the_next(room: Room) -> None:
    room.hub.fault("/cdn/*", "drip", rate=1_000_000, times=1)
    run = room.start()
    while not list(room.weights.rglob("*.incomplete")):
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(run.process.pid, signal.SIGKILL)
    run.wait()
    assert list(room.weights.rglob("*.incomplete"))
    after = room.start().wait()
    assert "removed" in after.facts("step")[0]["note"] and after.result and room.state() == "ready"
