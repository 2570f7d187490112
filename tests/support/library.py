"""The Library with a Hub double."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import TINY
from servers.hub import Hub

from backend.core.errors import LabError
from backend.core.files import digest_of
from backend.core.settings import Settings
from backend.jobs.run import Run, runs_in
from backend.lab import Lab
from backend.library.status import TransferStatus
from models.catalogue import Entry
from support.runs import alive
from support.session import until

FILE, NAME = "toy-Q4_K_M.gguf", "toy-Q4_K_M"
TOY = TINY / "tiny_base.gguf"
SUM = digest_of(TOY)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@dataclass
class LibraryFolders:
    """A lab's two folders, a repository of its own, and what is in them."""

    home: Path
    repo: str

    @property
    def settings(self) -> Settings:
        (self.home / "weights").mkdir(parents=True, exist_ok=True)
        return Settings(_env_file=None, lab_runs=self.home / "runs", lab_weights=self.home / "weights")

    @property
    def runs(self) -> list[Run]:
        return runs_in(self.home / "runs")

    def fetch(self) -> Run:
        with Lab(self.settings) as lab:
            listing = lab.library.list_files(self.repo)
            return lab.library.download_file(listing, listing.files[0])

    def transfers(self) -> list[TransferStatus]:
        """As a newly opened lab has them."""
        with Lab(self.settings) as lab:
            return lab.library.transfers()

    def entry(self, name: str = NAME) -> Entry | None:
        with Lab(self.settings) as lab:
            return next((entry for entry in lab.entries() if entry.variant.id == name), None)

    def whole(self, name: str = NAME) -> bool:
        """Whether the variant is here. Anything between whole and absent is asserted not to be."""
        folder = self.home / "weights" / name
        if not folder.exists():
            return False
        entry = self.entry(name)
        assert entry and entry.state == "ready" and entry.model and entry.model.parent == folder
        assert digest_of(entry.model) == entry.variant.sha256 == SUM
        assert len(os.listdir(folder)) == 2  # it and its record
        return True

    def busy(self) -> list[int]:
        """Every process that works for a run of this folders, by its command line or by its group."""
        found = {pid for run in self.runs for pid in alive(run)}
        for one in psutil.process_iter(["cmdline"]):
            if any(word.startswith(f"{(self.home / 'runs').resolve()}/") for word in one.info["cmdline"] or []):
                found.add(one.pid)
        return sorted(found)

    def tended(self) -> None:
        """A newly opened lab leaves nothing of what was killed."""
        with Lab(self.settings) as lab:
            lab.library.reap_orphans()
        weights = self.home / "weights"
        assert os.listdir(weights / ".arriving") == ["lock"]
        assert not list(weights.rglob("*.incomplete"))
        assert {path.name for path in weights.iterdir()} <= {".arriving", NAME}

    def again(self) -> None:
        """The same once more ends well, whatever happened before."""
        if self.whole():
            with pytest.raises(LabError, match="is already downloaded"):
                self.fetch()
            with Lab(self.settings) as lab:
                lab.library.remove(NAME)
        run = self.fetch()
        until(lambda: not run.live)
        assert (run.state, run.why) == ("done", "") and self.whole()
        until(lambda: self.busy() == [])
        self.tended()


JARGON = re.compile(r"Traceback|httpx|HTTPStatusError|HfHub|Errno|Exception|Error\b|<class|app has a bug")


def sentence(text: str) -> bool:
    """Whether this is for a person: whole sentences, nothing of a library's insides."""
    return (
        bool(re.fullmatch(r"[A-Za-z0-9_'/.].*[.!?]", text, re.S)) and len(text.split()) > 4 and not JARGON.search(text)
    )


@pytest.fixture
def folders(tmp_path: Path, hub: Hub) -> Iterator[LibraryFolders]:
    hub.add("owner/toy-GGUF", FILE, TOY)
    folders = LibraryFolders(tmp_path, "owner/toy-GGUF")
    yield folders
    for run in folders.runs:
        run.stop()
        run.stop()
    until(lambda: folders.busy() == [])


HOSTILE = [
    "../etc", "owner/..", "owner/name\nX: y", "-rf/name", "owner/-rf", "--revision=x/y", "o" * 150 + "/" + "n" * 150,
    "owner/n\u0430me", "\uff4fwner/name", "owner/na\u200bme", "owner/$(touch x)", "owner/name; touch x", "owner/`id`",
    "file:///etc/passwd", "http://evil.example/a/b", "~/name", "/etc/passwd", "owner/name\0", "owner/name/../../x", "",
]  # fmt: skip
