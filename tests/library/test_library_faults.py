"""The Library when several ask at once, when the Hub says no, when disks are small or read-only, when folders lie."""

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, start_app, stop_app
from servers import hub_answers
from servers.hub import Hub
from support.library import FILE, HOSTILE, NAME, TOY, LibraryFolders, folders, hub, sentence
from support.runs import over
from support.session import CAPITAL, Visitor, until

from backend.core.errors import LabError
from backend.hub import listing
from backend.jobs.run import Run, runs_in
from backend.lab import Lab

__all__ = ["folders", "hub"]  # the fixture

CANARIES = {"HF_TOKEN": "hf_canary5d1e7b", "OPENAI_API_KEY": "sk-canary90af3c"}


ANOTHER_SCREEN = """
import sys
from pathlib import Path
from backend.lab import Lab
from backend.core.settings import Settings
with Lab(Settings(_env_file=None, lab_runs=Path(sys.argv[1]), lab_weights=Path(sys.argv[2]))) as lab:
    listing = lab.library.list_files(sys.argv[3])
    print("listed", flush=True)
    sys.stdin.readline()
    print(lab.library.download_file(listing, listing.files[0]).id, flush=True)
    print(*[one.id for one in lab.library.transfers()])
"""


@pytest.mark.long
def test_all_who_ask_for_one_file_share_one_transfer_and_another_file_waits_for_it(
    folders: LibraryFolders, hub: Hub
) -> None:
    hub.fault("/cdn/*", "stall", after=1_000_000)
    places = [str(folders.settings.lab_runs), str(folders.settings.lab_weights), folders.repo]
    screens = [
        subprocess.Popen(
            [sys.executable, "-c", ANOTHER_SCREEN, *places],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert all(screen.stdout and screen.stdout.readline() == "listed\n" for screen in screens)
    with Lab(folders.settings) as lab:
        listing = lab.library.list_files(folders.repo)
        found: list[str] = []
        asking = [
            threading.Thread(target=lambda: found.append(lab.library.download_file(listing, listing.files[0]).id))
            for _ in range(2)
        ]
        for thread in asking:
            thread.start()
        told = [screen.communicate("go\n")[0].split() for screen in screens]
        for thread in asking:
            thread.join()
        (run,) = folders.runs
        assert found == [run.id] * 2 and told == [[run.id] * 2] * 2  # each was given it, and sees it and no other

        hub.add("owner/other-GGUF", "other.gguf", TOY)
        more = lab.library.list_files("owner/other-GGUF")
        other = lab.library.download_file(more, more.files[0])
        until(lambda: lab.library.transfers()[0].progress.get("state") == "downloading")
        first, second = lab.library.transfers()
        assert (first.id, first.state, second.id, second.state) == (run.id, "running", other.id, "queued")
        assert second.note == f"waits for {NAME}" and lab.entry("other").why == f"queued: waits for {NAME}"

        lab.library.cancel(other.id)
        until(lambda: over(other))
        assert (other.state, other.why) == ("stopped", "Stopped before it was started.") and run.state == "running"

        lab.library.cancel(run.id)
        until(lambda: over(run))
        assert (run.state, run.why) == ("stopped", "Stopped by you.")
        until(lambda: folders.busy() == [])
        assert len(hub.requests("GET", "/cdn/")) == 1 and not folders.whole()
        folders.tended()
        hub.clear()
    folders.again()
    assert len(hub.requests("GET", "/cdn/")) == 1


def told(run: Run) -> dict[str, str]:
    """The command lines and the environments of the processes of a run and of its group, by process."""
    found = {}
    for pid in {one.pid for one in psutil.process_iter() if str(run.folder) in " ".join(cmdline(one.pid))}:
        found[f"{pid} argv"] = " ".join(cmdline(pid))
        found[f"{pid} environment"] = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return found


def headers(hub: Hub, part: str) -> list[dict[str, str]]:
    """Of every request for a path with this in it; their names in small letters, however they were sent."""
    return [{name.lower(): value for name, value in sent.items()} for _, _, sent in hub.requests(part=part)]


def cmdline(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    return []


def test_a_token_reaches_the_hub_and_nothing_else(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert visitor.table("transfer")[0][0] == f"download {NAME}"  # and the page's list has it from now on
        visitor.client.predict(run.id, api_name="/cancel")
        until(lambda: run.state == "stopped")
        hub.faults.clear()
        visitor.client.predict(FILE, None, api_name="/fetch")
        until(lambda: NAME in [row[0] for row in visitor.table("variant") if row[1] == "ready"])
        visitor.client.predict("tiny_base", api_name="/chat_refresh")  # the page's list of variants
        assert "Paris" in visitor.said(visitor.chat(CAPITAL, NAME))[1]
        (engine,) = app.children().values()
        told_engine = Path(f"/proc/{engine}/environ").read_bytes().decode() + " ".join(cmdline(engine))
        assert "PATH=" in told_engine and token not in told_engine and key not in told_engine
    finally:
        stop_app(app)
    given = {
        part: {sent.get("authorization") for sent in headers(hub, part)} for part in ("/api/", "/resolve/", "/cdn/")
    }
    assert given == {"/api/": {f"Bearer {token}"}, "/resolve/": {f"Bearer {token}"}, "/cdn/": {None}}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"app.log", "spec.json", "events.jsonl", "exit.json", "variant.json"}
    assert not [path for path in files for canary in (token, key) if canary.encode() in path.read_bytes()]


REFUSALS = {
    "gated": "accept it there",
    "gone": "has no file gone.gguf",
    "away": "it is private",
    "wrong": "arrived twice",
}


@pytest.mark.parametrize("names", [("gated", "gone"), pytest.param(tuple(REFUSALS), marks=pytest.mark.long)])
def test_every_refusal_is_a_sentence_for_the_person_who_waits(
    names: tuple[str, ...], folders: LibraryFolders, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reasons of a download themselves: test_download.py."""
    expected = {name: REFUSALS[name] for name in names}
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    with Lab(folders.settings) as lab:
        for name in expected:
            hub.add(f"owner/{name}", f"{name}.gguf", TOY, gated=name == "gated")
            listing = lab.library.list_files(f"owner/{name}")
            lab.library.download_file(listing, listing.files[0])
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
    folders.tended()


@pytest.mark.long
def test_without_a_network_all_goes_on_but_the_hub(tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine.gguf").write_bytes(TOY.read_bytes())
    app = start_app(tmp_path, HF_HUB_OFFLINE="1")
    try:
        visitor = Visitor(app)
        assert "Paris" in visitor.said(visitor.chat(CAPITAL, "mine"))[1]
        assert {row[0]: row[1] for row in visitor.table("variant")}["mine"] == "ready"
        with pytest.raises(
            ValueError, match="HF_HUB_OFFLINE is set, so the Hub is not contacted.*Unset HF_HUB_OFFLINE"
        ) as no:
            visitor.client.predict("owner/toy-GGUF", "", api_name="/list_files")
        assert sentence(str(no.value))
        visitor.client.predict(api_name="/download_base_1b")
        until(lambda: visitor.table("transfer")[0][1] == "failed")
        why = visitor.table("transfer")[0][-1]
        assert "HF_HUB_OFFLINE is set" in why and sentence(why)
    finally:
        stop_app(app)
    assert hub.requests() == [] and not (tmp_path / "weights" / "base_1b").exists()


def test_names_that_mean_harm_start_no_process(
    folders: LibraryFolders, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    real = subprocess.Popen
    monkeypatch.setattr(listing.subprocess, "Popen", lambda words, **more: begun.append(words) or real(words, **more))
    with Lab(folders.settings) as lab:
        for name in HOSTILE:
            with pytest.raises(LabError) as no:
                lab.library.list_files(name)
            assert sentence(str(no.value)), no.value
        for revision in (name for name in HOSTILE if name.strip() and name not in ("owner/n", "owner/-rf")):
            with pytest.raises(LabError) as no:
                lab.library.list_files(folders.repo, revision)
            assert sentence(str(no.value)), no.value
        assert begun == [] and hub.requests() == []
        assert lab.library.list_files(folders.repo, " main ").files
    (words,) = begun
    assert words[-3:] == ["--revision=main", "--", folders.repo]
