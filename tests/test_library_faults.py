"""The Library when several ask at once, when the Hub says no, when disks are small or read-only, when folders lie."""

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_answers
import psutil
import pytest
from conftest import ROOT, TINY, App, start_app, stop_app
from hub import Hub
from test_library_killed import FILE, NAME, TOY, Desk, hub
from test_runs import over
from visitor import CAPITAL, Visitor, until

from backend.errors import LabError
from backend.jobs.event import note
from backend.jobs.run import Exit, Run, Workers, runs_in
from backend.lab import Lab
from backend.library import ask
from backend.library.download import DownloadSpec
from models import marks

__all__ = ["hub"]  # the fixture

CANARIES = {"HF_TOKEN": "hf_canary5d1e7b", "OPENAI_API_KEY": "sk-canary90af3c"}
JARGON = re.compile(r"Traceback|httpx|HTTPStatusError|HfHub|Errno|Exception|Error\b|0x[0-9a-f]{6}|<class|fault of the app")


def sentence(text: str) -> bool:
    """Whether this is for a person: whole sentences, nothing of a library's insides."""
    return bool(re.fullmatch(r"[A-Za-z0-9_'/.].*[.!?]", text, re.S)) and len(text.split()) > 4 and not JARGON.search(text)


@pytest.fixture
def desk(tmp_path: Path, hub: Hub) -> Iterator[Desk]:
    hub.add("owner/toy-GGUF", FILE, TOY)
    desk = Desk(tmp_path, "owner/toy-GGUF")
    yield desk
    for run in desk.runs:
        run.stop()
        run.stop()
    until(lambda: desk.busy() == [])


ANOTHER_SCREEN = """
import sys
from pathlib import Path
from backend.lab import Lab
from backend.settings import Settings
with Lab(Settings(_env_file=None, lab_runs=Path(sys.argv[1]), lab_weights=Path(sys.argv[2]))) as lab:
    listing = lab.library.list_files(sys.argv[3])
    print("listed", flush=True)
    sys.stdin.readline()
    print(lab.library.fetch(listing, listing.files[0]).id, flush=True)
    print(*[one.id for one in lab.library.transfers()])
"""


def test_all_who_ask_for_one_file_share_one_transfer_and_another_file_waits_for_it(desk: Desk, hub: Hub) -> None:
    hub.fault("/cdn/*", "stall", after=1_000_000)
    places = [str(desk.settings.lab_runs), str(desk.settings.lab_weights), desk.repo]
    screens = [
        subprocess.Popen(
            [sys.executable, "-c", ANOTHER_SCREEN, *places],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert all(screen.stdout and screen.stdout.readline() == "listed\n" for screen in screens)
    with Lab(desk.settings) as lab:
        listing = lab.library.list_files(desk.repo)
        found: list[str] = []
        asking = [
            threading.Thread(target=lambda: found.append(lab.library.fetch(listing, listing.files[0]).id))
            for _ in range(2)
        ]
        for thread in asking:
            thread.start()
        told = [screen.communicate("go\n")[0].split() for screen in screens]
        for thread in asking:
            thread.join()
        (run,) = desk.runs
        assert found == [run.id] * 2 and told == [[run.id] * 2] * 2  # each was given it, and sees it and no other

        hub.add("owner/other-GGUF", "other.gguf", TOY)
        more = lab.library.list_files("owner/other-GGUF")
        other = lab.library.fetch(more, more.files[0])
        until(lambda: lab.library.transfers()[0].step == "downloading")
        first, second = lab.library.transfers()
        assert (first.id, first.state, second.id, second.state) == (run.id, "running", other.id, "queued")
        assert second.note == f"waits for {NAME}" and lab.entry("other").why == f"queued: waits for {NAME}"

        lab.library.cancel(other.id)
        until(lambda: over(other))
        assert (other.state, other.why) == ("stopped", "Stopped before it began.") and run.state == "running"

        lab.library.cancel(run.id)
        until(lambda: over(run))
        assert (run.state, run.why) == ("stopped", "Stopped by you.")
        until(lambda: desk.busy() == [])
        assert len(hub.requests("GET", "/cdn/")) == 1 and not desk.whole()
        desk.tended()
        hub.clear()
    desk.again()
    assert len(hub.requests("GET", "/cdn/")) == 1


def told(run: Run) -> dict[str, str]:
    """The command lines and the environments of the processes of a run and of its group, by process."""
    found = {}
    for pid in {one.pid for one in psutil.process_iter() if str(run.folder) in " ".join(cmdline(one.pid))}:
        found[f"{pid} argv"] = " ".join(cmdline(pid))
        found[f"{pid} environment"] = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return found


def cmdline(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    return []


def test_a_token_reaches_the_hub_and_nothing_else(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, key = CANARIES.values()
    monkeypatch.setattr(hub_answers, "TOKEN", token)
    hub.add("owner/toy-GGUF", FILE, TOY, gated=True)
    hub.fault("/cdn/*", "stall", after=1_000_000)
    app = start_app(tmp_path, **CANARIES)
    try:
        visitor = Visitor(app)
        assert visitor.table("variant") and hub.requests() == []  # starting up and looking ask nobody
        visitor.client.predict("owner/toy-GGUF", "", api_name="/list_files")
        visitor.client.predict(FILE, None, api_name="/fetch")
        (run,) = runs_in(tmp_path / "runs")
        until(lambda: len(hub.requests("GET", "/cdn/")) == 1)
        seen = told(run)
        assert len(seen) == 4  # runner and worker
        assert not [name for name, text in seen.items() if key in text]
        assert not [name for name, text in seen.items() if token in text and "argv" in name]
        assert all(f"HF_TOKEN={token}" in text for name, text in seen.items() if "environment" in name)
        assert visitor.table("what")[0][0] == f"download {NAME}"  # and the page's list has it from now on
        visitor.client.predict(run.id, api_name="/cancel")
        until(lambda: run.state == "stopped")
        hub.faults.clear()
        visitor.client.predict(FILE, None, api_name="/fetch")
        until(lambda: NAME in [row[0] for row in visitor.table("variant") if row[1] == "ready"])
        assert "Paris" in visitor.said(visitor.chat(CAPITAL, NAME))[1]
        (engine,) = app.children().values()
        told_engine = Path(f"/proc/{engine}/environ").read_bytes().decode() + " ".join(cmdline(engine))
        assert "PATH=" in told_engine and token not in told_engine and key not in told_engine
    finally:
        stop_app(app)
    asked = [headers.get("Authorization", "") for _, path, headers in hub.requests(part="/resolve/")]
    assert asked and set(asked) == {f"Bearer {token}"}
    assert all("Authorization" not in headers for _, _, headers in hub.requests(part="/cdn/"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"app.log", "spec.json", "events.jsonl", "exit.json", "variant.json"}
    assert not [path for path in files for canary in (token, key) if canary.encode() in path.read_bytes()]


def test_every_refusal_is_a_sentence_for_the_person_who_waits(
    desk: Desk, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {
        "gated": "accept it there",
        "gone": "has no file gone.gguf",
        "away": "it is private",
        "wrong": "more than once",
    }
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    with Lab(desk.settings) as lab:
        for name in expected:
            hub.add(f"owner/{name}", f"{name}.gguf", TOY, gated=name == "gated")
            listing = lab.library.list_files(f"owner/{name}")
            lab.library.fetch(listing, listing.files[0])
            if name == "gone":
                hub.repos["owner/gone"].commits[listing.commit].clear()
            elif name == "away":
                del hub.repos["owner/away"]
            elif name == "wrong":
                hub.fault("/cdn/owner/wrong/*", "wrong", times=2)
        until(lambda: not any(one.live for one in lab.library.transfers()))
        why = {one.variant: one.why for one in lab.library.transfers()}
        assert {one.state for one in lab.library.transfers()} == {"failed"}
        assert not [name for name, words in expected.items() if words not in why[name]], why
        assert [text for text in why.values() if not sentence(text)] == []
        assert not [entry.variant.id for entry in lab.entries() if entry.variant.id in expected]
    desk.tended()


ON_A_SMALL_DISK = """
import sys, time
from pathlib import Path
from backend.errors import LabError
from backend.lab import Lab
from backend.settings import Settings
with Lab(Settings(_env_file=None, lab_runs=Path(sys.argv[1]), lab_weights=Path(sys.argv[2]))) as lab:
    listing = lab.library.list_files(sys.argv[3])
    try:
        lab.library.fetch(listing, listing.files[0])
    except LabError as error:
        print(error)
    run = lab.library.fetch(listing, listing.files[0].model_copy(update={"size": 0}))  # the Hub need not say it
    while run.live:
        time.sleep(0.05)
    print(lab.library.transfers()[0].why)
    lab.library.tend()
    print(*[path.relative_to(sys.argv[2]) for path in Path(sys.argv[2]).rglob("*")])
"""


def in_a_namespace(mounts: str, *command: str) -> str:
    """What a command prints that sees the disks as `mounts`, a line of sh, makes them."""
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-ec", f'{mounts}; exec "$@"', "sh", *command],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_disk_that_is_too_small_is_told_before_and_by_the_transfer(desk: Desk, hub: Hub) -> None:
    settings = desk.settings
    places = [str(settings.lab_runs), str(settings.lab_weights), desk.repo]
    mounts = f"mount -t tmpfs -o size=20m none '{settings.lab_weights}'"
    refused, failed, left = in_a_namespace(mounts, sys.executable, "-c", ON_A_SMALL_DISK, *places).splitlines()
    assert sentence(refused) and refused == failed and "21 MB free" in failed and "66 MB are needed" in failed
    assert left == ".arriving .arriving/lock" and not hub.requests("GET", "/cdn/")


def test_without_a_network_all_goes_on_but_the_hub(tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine.gguf").write_bytes(TOY.read_bytes())
    app = start_app(tmp_path, HF_HUB_OFFLINE="1")
    try:
        visitor = Visitor(app)
        assert "Paris" in visitor.said(visitor.chat(CAPITAL, "mine"))[1]
        assert {row[0]: row[1] for row in visitor.table("variant")}["mine"] == "ready"
        with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set, so nothing is asked of the Hub.*Unset it") as no:
            visitor.client.predict("owner/toy-GGUF", "", api_name="/list_files")
        assert sentence(str(no.value))
        visitor.client.predict(api_name="/download_base_1b")
        until(lambda: visitor.table("what")[0][1] == "failed")
        why = visitor.table("what")[0][-1]
        assert "HF_HUB_OFFLINE is set" in why and sentence(why)
    finally:
        stop_app(app)
    assert hub.requests() == [] and not (tmp_path / "weights" / "base_1b").exists()


ON_READ_ONLY_FOLDERS = """
import json, sys
from pathlib import Path
from conftest import start_app, stop_app
from visitor import CAPITAL, Visitor
def refused(*values, name):
    try:
        visitor.client.predict(*values, api_name=name)
    except ValueError as error:
        return str(error)
    return ""
app = start_app(Path(sys.argv[1]))
try:
    visitor = Visitor(app)
    said = {"chat": visitor.said(visitor.chat(CAPITAL))[1], "rows": [row[0] for row in visitor.table("variant")]}
    said["page"] = [value for value in visitor.client.predict(api_name="/library") if isinstance(value, str)]
    visitor.compare("hello", "echo", "echo").result(60)
    for name, values in {
        "/vote_a_is_better": [], "/download_base_1b": [], "/remove": ["mine"], "/try_again": ["mine"],
        "/speed_test": ["tiny_base"], "/cancel": [sys.argv[2]],
    }.items():
        said[name] = refused(*values, name=name)
finally:
    stop_app(app)
print(json.dumps(said))
"""


def test_on_read_only_folders_the_toy_is_talked_to_and_the_rest_is_refused_in_a_sentence(tmp_path: Path) -> None:
    weights, runs = tmp_path / "weights", tmp_path / "runs"
    weights.mkdir()
    (weights / "mine.gguf").write_bytes(TOY.read_bytes())
    marks.mark(weights, weights / "mine.gguf", "crashes the loader", "It is left alone.")
    stage = Stages(runs)
    for step in stage.all[: stage.working + 1]:
        step()
    tests = str(Path(__file__).parent)
    with stage:
        mounts = "; ".join(f"mount -o ro,bind '{path}' '{path}'" for path in (weights, runs))
        command = ["env", f"PYTHONPATH={ROOT}:{tests}", sys.executable, "-c", ON_READ_ONLY_FOLDERS]
        said = json.loads(in_a_namespace(mounts, *command, str(tmp_path), stage.run.id).splitlines()[-1])
    assert "Paris" in said.pop("chat") and {"mine", "tiny_base"} <= set(said.pop("rows"))
    assert any("Read-only file system. Look after" in text for text in said.pop("page"))
    assert {name: text for name, text in said.items() if not sentence(text) or str(tmp_path) not in text} == {}
    assert "fault of the app" not in (tmp_path / "app.log").read_text()
    assert "bug" not in (tmp_path / "app.log").read_text()


HOSTILE = [
    "../etc", "owner/..", "owner/name\nX: y", "-rf/name", "owner/-rf", "--revision=x/y", "o" * 150 + "/" + "n" * 150,
    "owner/n\u0430me", "\uff4fwner/name", "owner/na\u200bme", "owner/$(touch x)", "owner/name; touch x", "owner/`id`",
    "file:///etc/passwd", "http://evil.example/a/b", "~/name", "/etc/passwd", "owner/name\0", "owner/name/../../x", "",
]  # fmt: skip


def test_names_that_mean_harm_start_no_process(desk: Desk, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    real = subprocess.Popen
    monkeypatch.setattr(ask.subprocess, "Popen", lambda words, **more: begun.append(words) or real(words, **more))
    with Lab(desk.settings) as lab:
        for name in HOSTILE:
            with pytest.raises(LabError) as no:
                lab.library.list_files(name)
            assert sentence(str(no.value)), no.value
        for revision in (name for name in HOSTILE if name.strip() and name not in ("owner/n", "owner/-rf")):
            with pytest.raises(LabError) as no:
                lab.library.list_files(desk.repo, revision)
            assert sentence(str(no.value)), no.value
        assert begun == [] and hub.requests() == []
        assert lab.library.list_files(desk.repo, " main ").files
    (words,) = begun
    assert words[-3:] == ["--revision=main", "--", desk.repo]


class Stages:
    """A run's folder as it comes into being, step by step; the lock is held while this is entered."""

    def __init__(self, runs: Path, kind: str = "download") -> None:
        self.folder = runs / "20300101-000000-000-download-new"
        self.kind, self.locks = kind, contextlib.ExitStack()
        self.all = [
            self.made, self.locked, self.writing, self.asked, self.run_by, self.worked_on, self.begun, self.torn,
            self.stepped, self.ending, self.ended,
        ]  # fmt: skip
        self.working = self.all.index(self.stepped)

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *_: object) -> None:
        self.locks.close()

    @property
    def run(self) -> Run:
        return Run(self.folder)

    def made(self) -> None:
        self.folder.mkdir(parents=True)

    def locked(self) -> None:
        lock = self.locks.enter_context((self.folder / "lock").open("ab"))
        fcntl.flock(lock, fcntl.LOCK_EX)

    def writing(self) -> None:
        (self.folder / "spec.part").write_text('{"kind": "down')

    def asked(self) -> None:
        spec = DownloadSpec(id="new", weights=str(self.folder), repo="owner/new", file="new.gguf")
        whole = {"kind": self.kind, "name": "new", "created": 1.0, "asked": spec.model_dump()}
        (self.folder / "spec.part").write_text(json.dumps(whole))
        (self.folder / "spec.part").rename(self.folder / "spec.json")

    def run_by(self) -> None:
        (self.folder / "exit.part").write_bytes(b" " * 4096)
        (self.folder / "runner.json").write_text(Workers(runner=(os.getpid(), "now")).model_dump_json())

    def worked_on(self) -> None:
        workers = Workers(runner=(os.getpid(), "now"), worker=(2**22 - 1, "now"))
        (self.folder / "runner.json").write_text(workers.model_dump_json())

    def begun(self) -> None:
        note(self.folder, "started")

    def torn(self) -> None:
        with (self.folder / "events.jsonl").open("ab") as file:
            file.write(b'{"kind": "step", "at": 1, "fa')

    def stepped(self) -> None:
        note(self.folder, "step", state="downloading", done=3, total=10)

    def ending(self) -> None:
        note(self.folder, "ended")

    def ended(self) -> None:
        (self.folder / "exit.json").write_text(Exit(state="done").model_dump_json())


def test_a_run_that_is_half_made_is_shown_as_far_as_it_is(tmp_path: Path, desk: Desk) -> None:
    seen = []
    with Lab(desk.settings) as lab, Stages(desk.settings.lab_runs) as stages:
        for step in stages.all:
            step()
            (one,) = lab.library.transfers() or [None]
            here = [entry.why for entry in lab.entries() if entry.variant.id == "new"]
            seen.append((one.state, one.done, here[0] if here else "") if one else None)
            lab.library.tend()
    queued, running, far = ("queued", 0, "queued"), ("running", 0, "starting"), ("running", 3, "downloading 30%")
    assert seen == [None, None, None, queued, queued, running, running, running, far, far, ("done", 0, "")]
