"""The Library on disks that are too small or read-only, and over folders of runs that are half made or held."""

import contextlib
import fcntl
import html
import json
import os
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from servers.hub import Hub
from support.library import TOY, LibraryFolders, folders, hub, sentence
from support.namespaces import in_a_namespace

from backend.core.errors import LabError
from backend.jobs import launcher
from backend.jobs.events import append_event
from backend.jobs.folders import Exit, ProcessIds
from backend.jobs.run import Run
from backend.lab import Lab
from backend.library.requests import DownloadRequest
from models import crash_marks
from models.variant import Variant

__all__ = ["folders", "hub"]  # the fixtures


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
        spec = DownloadRequest(variant=Variant(id="new", repo="owner/new", file="new.gguf"), weights=str(self.folder))
        whole = {"kind": self.kind, "name": "new", "created": time.time(), "asked": spec.model_dump()}
        (self.folder / "spec.part").write_text(json.dumps(whole))
        (self.folder / "spec.part").rename(self.folder / "spec.json")

    def run_by(self) -> None:
        (self.folder / "exit.part").write_bytes(b" " * 4096)
        (self.folder / "runner.json").write_text(ProcessIds(runner=(os.getpid(), "now")).model_dump_json())

    def worked_on(self) -> None:
        workers = ProcessIds(runner=(os.getpid(), "now"), worker=(2**22 - 1, "now"))
        (self.folder / "runner.json").write_text(workers.model_dump_json())

    def begun(self) -> None:
        append_event(self.folder, "started")

    def torn(self) -> None:
        with (self.folder / "events.jsonl").open("ab") as file:
            file.write(b'{"kind": "step", "at": 1, "fa')

    def stepped(self) -> None:
        append_event(self.folder, "step", state="downloading", done=3, total=10)

    def ending(self) -> None:
        append_event(self.folder, "ended")

    def ended(self) -> None:
        (self.folder / "exit.json").write_text(Exit(state="done").model_dump_json())


ON_A_SMALL_DISK = """
import sys, time
from pathlib import Path
from backend.core.errors import LabError
from backend.lab import Lab
from backend.core.settings import Settings
with Lab(Settings(_env_file=None, lab_runs=Path(sys.argv[1]), lab_weights=Path(sys.argv[2]))) as lab:
    listing = lab.library.list_files(sys.argv[3])
    try:
        lab.library.download_file(listing, listing.files[0])
    except LabError as error:
        print(error)
    run = lab.library.download_file(listing, listing.files[0].model_copy(update={"size": 0}))  # the Hub need not say it
    while run.live:
        time.sleep(0.05)
    print(lab.library.transfers()[0].why)
    lab.library.reap_orphans()
    print(*[path.relative_to(sys.argv[2]) for path in Path(sys.argv[2]).rglob("*")])
"""


def test_a_disk_that_is_too_small_is_told_before_and_by_the_transfer(folders: LibraryFolders, hub: Hub) -> None:
    settings = folders.settings
    places = [str(settings.lab_runs), str(settings.lab_weights), folders.repo]
    mounts = f"mount -t tmpfs -o size=20m none '{settings.lab_weights}'"
    refused, failed, left = in_a_namespace(mounts, sys.executable, "-c", ON_A_SMALL_DISK, *places).splitlines()
    assert sentence(refused) and refused == failed and "21 MB free" in failed and "66 MB are needed" in failed
    assert left == ".arriving .arriving/lock" and not hub.requests("GET", "/cdn/")


ON_READ_ONLY_FOLDERS = """
import json, sys
from pathlib import Path
from conftest import start_app, stop_app
from support.session import CAPITAL, Visitor
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


@pytest.mark.long
def test_on_read_only_folders_the_toy_is_talked_to_and_the_rest_is_refused_in_a_sentence(tmp_path: Path) -> None:
    weights, runs = tmp_path / "weights", tmp_path / "runs"
    weights.mkdir()
    (weights / "mine.gguf").write_bytes(TOY.read_bytes())
    crash_marks.mark(weights, weights / "mine.gguf", "crashes the loader", "It is left alone.")
    stage = Stages(runs)
    for step in stage.all[: stage.working + 1]:
        step()
    tests = ROOT / "tests"
    with stage:
        mounts = "; ".join(f"mount -o ro,bind '{path}' '{path}'" for path in (weights, runs))
        command = ["env", f"PYTHONPATH={ROOT}:{tests}", sys.executable, "-c", ON_READ_ONLY_FOLDERS]
        said = json.loads(in_a_namespace(mounts, *command, str(tmp_path), stage.run.id).splitlines()[-1])
    assert "Paris" in said.pop("chat") and {"mine", "tiny_base"} <= set(said.pop("rows"))
    page = said.pop("page")
    assert any("Read-only file system. Free disk space or allow writing" in html.unescape(text) for text in page), page
    assert {name: text for name, text in said.items() if not sentence(text) or str(tmp_path) in text} == {}
    assert {name: text for name, text in said.items() if "weights" not in text and "runs/" not in text} == {}
    assert "app has a bug" not in (tmp_path / "app.log").read_text()
    assert "bug" not in (tmp_path / "app.log").read_text()


def test_a_run_that_is_half_made_is_shown_as_far_as_it_is(tmp_path: Path, folders: LibraryFolders) -> None:
    seen = []
    with Lab(folders.settings) as lab, Stages(folders.settings.lab_runs) as stages:
        for step in stages.all:
            step()
            (one,) = lab.library.transfers() or [None]
            here = [entry.why for entry in lab.entries() if entry.variant.id == "new"]
            seen.append((one.state, one.done, here[0] if here else "") if one else None)
            lab.library.reap_orphans()
    queued, running, far = ("queued", 0, "queued"), ("running", 0, "starting"), ("running", 3, "downloading 30%")
    assert seen == [None, None, None, queued, queued, running, running, running, far, far, ("done", 0, "")]


def test_a_lock_that_another_screen_never_lets_go_of_is_told(
    folders: LibraryFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "TIMEOUT", 0.2)
    with Lab(folders.settings) as lab:
        listing = lab.library.list_files(folders.repo)
        folders.settings.lab_runs.mkdir()
        with (folders.settings.lab_runs / ".launching").open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(LabError, match="Another process holds") as no:
                lab.library.download_file(listing, listing.files[0])
        assert sentence(str(no.value)) and folders.runs == []
    folders.again()
