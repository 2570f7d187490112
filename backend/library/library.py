"""The library's desk: what is here and what is arriving, and everything that can be asked for."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from backend.core import machine
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.hub import names
from backend.hub.listing import RepositoryFile, RepositoryListing, list_repository
from backend.inference import memory
from backend.inference.engines import Engines
from backend.inference.placement import ModelSpec
from backend.jobs.launcher import launch
from backend.jobs.run import RECENT, Run, find, reap_orphans, runs_in
from backend.library import weights_folder
from backend.library.requests import DownloadRequest, ImportRequest, VerifyRequest
from backend.library.status import SpeedResult, SpeedTestRequest, TransferStatus, speeds, transfers
from models import crash_marks
from models.catalogue import Entry, catalogue, look
from models.variant import Variant


class Library:
    """Holds nothing but where things are: every answer is read from disk."""

    def __init__(self, settings: Settings, engines: Engines) -> None:
        self.settings, self._engines = settings, engines
        self.weights, self.runs = settings.lab_weights, settings.lab_runs

    def entries(self, moving: Sequence[TransferStatus] | None = None) -> list[Entry]:
        """Every variant and its state, as the disk has it now; those on their way stand among them.

        `moving` are the transfers, if whoever asks has read them already.
        """
        here = look(self.weights)
        found = self.transfers() if moving is None else moving
        coming = {one.variant: one for one in found if one.live and one.kind in ("download", "bring")}
        named = {entry.variant.id for entry in here}
        new = [Entry(Variant(id=name), "arriving", _standing(one)) for name, one in coming.items() if name not in named]
        return [_coming(entry, coming.get(entry.variant.id)) for entry in here] + new

    def entry(self, variant: str) -> Entry:
        """LabError if there is no such variant. For one that runs, nothing is read of what is on its way."""
        here = next((entry for entry in look(self.weights) if entry.variant.id == variant), None)
        if here and here.runs:
            return here
        for entry in self.entries():
            if entry.variant.id == variant:
                return entry
        raise LabError(f"There is no variant named {str(variant)[:100]!r}. The Library tab lists those there are.")

    # getting

    def list_files(self, pasted: str, revision: str = "") -> RepositoryListing:
        """The files of a repository on the Hub. LabError says why not."""
        place = names.parse(pasted, os.environ.get("HF_ENDPOINT", ""))
        if revision.strip():
            place = replace(place, revision=names.checked_revision(revision.strip()))
        found = list_repository(place, machine.environment(network=True) | self._secrets())
        return found.model_copy(update={"wanted": place.file})

    def download(self, variant: str) -> Run:
        """Fetch a variant of the catalogue."""
        wanted = next((known for known in catalogue() if known.id == variant and known.repo), None)
        if wanted is None:
            raise LabError(f"{variant!r} is not in the catalogue of downloads. Name its repository instead.")
        return self._fetch(wanted)

    def fetch(self, listing: RepositoryListing, file: RepositoryFile, over: str = "") -> Run:
        """Fetch any file of a listing; an adapter is converted on arrival and runs `over` a variant that is here."""
        if file.why:
            raise LabError(f"{file.path} cannot be used here: {file.why}. Choose another file.")
        if listing.architecture not in ("", "llama"):
            raise LabError(f"{listing.repo} holds {listing.architecture} models, and only Llamas run here.")
        if listing.kind == "adapter" and not over:
            raise LabError(
                "This is a LoRA adapter. Choose the variant it runs over, which must be here, then download."
            )
        named = listing.repo if listing.kind == "adapter" else file.path
        wanted = Variant(
            id=self._free(names.identifier(named), listing.repo, file.path),
            base=listing.base,
            method="lora" if listing.kind == "adapter" else "base",
            quantisation=file.quantisation,
            size=file.size,
            licence=listing.licence or "unknown",
            file=file.path,
            over=over,
            repo=listing.repo,
            revision=listing.revision,
            commit=listing.commit,
            sha256=file.sha256,
        )
        return self._fetch(wanted)

    def _fetch(self, wanted: Variant) -> Run:
        entry = next((entry for entry in look(self.weights) if entry.variant.id == wanted.id), None)
        if entry and entry.runs:
            raise LabError(f"{wanted.id} is already here. Remove it first to fetch it again.")
        if wanted.size:
            weights_folder.room(self.weights, wanted.size)
        spec = DownloadRequest(
            weights=str(self.weights.resolve()),
            **wanted.model_dump(include=set(DownloadRequest.model_fields) - {"weights", "patience"}),
        )
        key = f"{wanted.repo}@{wanted.commit or wanted.revision}/{wanted.file}"
        return launch(self.runs, "download", wanted.id, spec, key, self._secrets())

    def bring(self, paths: Sequence[Path], over: str = "", move: bool = False) -> Run:
        """Take in files of this machine: a GGUF, or the two of a PEFT adapter, which is converted."""
        named = next((path for path in paths if path.suffix.lower() == ".gguf"), None)
        if named is None and not over:
            raise LabError(
                "An adapter needs its base. Choose the variant it runs over, then bring its two files again."
            )
        name = names.identifier(named.name if named else f"{over}_adapter")
        spec = ImportRequest(
            id=self._free(name, "", ""),
            weights=str(self.weights.resolve()),
            paths=tuple(str(path.resolve()) for path in paths),
            over=over,
            method="lora" if over else "base",
            move=move,
        )
        return launch(self.runs, "bring", spec.id, spec)

    def _free(self, name: str, repo: str, file: str) -> str:
        """The id itself, unless another model has it: then with a number."""
        taken = {entry.variant.id: entry.variant for entry in self.entries()}
        mine = self._named(repo, file)
        for one in (name, *(f"{name}_{number}" for number in range(2, 1000))):
            known = taken.get(one)
            if known is None or one in mine or (known.repo == repo != "" and known.file == Path(file).name):
                return one
        raise LabError(f"There are a thousand variants named {name}. Remove some of them first.")

    def _named(self, repo: str, file: str) -> set[str]:
        """Ids under which this very file is arriving: who asks for it again gets the same transfer."""
        live = [run for run in runs_in(self.runs, "download", newest=RECENT) if run.live]
        wanted = {"repo": repo, "file": file}
        return {run.spec.name for run in live if run.spec.asked.items() >= wanted.items()}

    def _secrets(self) -> dict[str, str]:
        token = self.settings.hf_token.get_secret_value()
        return {"HF_TOKEN": token} if token else {}

    # keeping

    def verify(self, variant: str) -> Run:
        """Read the file again and compare it with what was downloaded."""
        entry = self.entry(variant)
        if not entry.variant.sha256:
            raise LabError(f"{variant} came without a checksum, so there is nothing to compare it with.")
        spec = VerifyRequest(id=variant, weights=str(self.weights.resolve()))
        return launch(self.runs, "verify", variant, spec, key=variant)

    def frees(self, variant: str) -> int:
        """Bytes that removing it would free. LabError if it cannot be removed, or others need it."""
        entry = self.entry(variant)
        if entry.state in ("embedded", "not here", "arriving"):
            raise LabError(f"{variant} is {entry.state}, so there is nothing to remove. Choose another.")
        needed = [other.variant.id for other in look(self.weights) if other.variant.over == variant]
        if needed:
            raise LabError(f"{', '.join(needed)} runs over {variant}. Remove that first.")
        return weights_folder.held(weights_folder.where(self.weights, variant))

    def remove(self, variant: str) -> int:
        """Delete a variant's files; returns the bytes that this freed. LabError as `frees`."""
        self.frees(variant)
        entry = self.entry(variant)
        if file := entry.adapter or entry.model:
            self._engines.release(file)
            with _written(self.weights):
                crash_marks.unmark(self.weights, file)
        return weights_folder.remove(self.weights, variant)

    def forgive(self, variant: str) -> None:
        """Let a file that is left alone be tried once more."""
        entry = self.entry(variant)
        for file in filter(None, (entry.model, entry.adapter)):
            with _written(self.weights):
                crash_marks.unmark(self.weights, file)

    def crashed(self, file: Path, how: str) -> None:
        """Remember that this file ended its loader."""
        if file.is_file():
            crash_marks.crashed(self.weights, file, how)

    def speed(self, variant: str) -> Run:
        """Measure how fast it is on this machine."""
        entry = self.entry(variant)
        if not entry.runs or entry.model is None:
            raise LabError(f"{variant} cannot be measured: it is {entry.state}. Choose a variant that runs.")
        seat = ModelSpec(variant, variant, "llama", entry.model, entry.adapter, entry.base_header or entry.header, 1024)
        self._engines.make_free(seat)
        spec = SpeedTestRequest(
            id=variant,
            weights=str(self.weights.resolve()),
            model=str(entry.model.absolute()),
            adapter=str(entry.adapter.absolute()) if entry.adapter else "",
            quantisation=entry.variant.quantisation,
            threads=self.settings.lab_threads or machine.threads(),
        )
        return launch(self.runs, "speed", variant, spec, key=variant)

    def speeds(self) -> list[SpeedResult]:
        """What speed tests found, newest first."""
        return speeds(self.runs)

    # watching

    def transfers(self) -> list[TransferStatus]:
        """Work on model files: live, then newest ended."""
        return transfers(self.runs)

    def cancel(self, run: str) -> None:
        """Wish a transfer to stop. LabError if there is none of that name."""
        found = find(self.runs, run)
        if found is None:
            raise LabError("No transfer is chosen. Choose one of those that are on their way.")
        with _written(self.runs):
            found.stop()

    def tend(self) -> None:
        """End what lost its runner, and sweep what killed transfers left."""
        reap_orphans(self.runs)
        weights_folder.sweep(self.weights)

    def memory_free(self) -> int:
        """Bytes of memory that a model may still take."""
        return self._engines.memory_free()

    def disk_free(self) -> int:
        """Bytes left where models are kept, or will be."""
        places = (self.weights, *self.weights.absolute().parents)
        return shutil.disk_usage(next(place for place in places if place.exists())).free

    def guess(self, size: int, context: int = 0) -> int:
        """Bytes of memory that a file of this size will need, before its header is here."""
        return memory.guess(size, context or self.settings.lab_context, self.settings.lab_slots)

    def need(self, entry: Entry, context: int) -> int:
        """Bytes of memory to talk to it: reckoned from its header, or guessed from its size before it is here."""
        header = entry.base_header or entry.header
        if entry.variant.runtime != "llama":
            return 0
        if header is None or entry.model is None:
            return self.guess(entry.variant.size, context)
        size = entry.model.stat().st_size + (entry.adapter.stat().st_size if entry.adapter else 0)
        return memory.memory_need(header, size, context, self.settings.lab_slots).total


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """What the disk refuses in the block is a LabError."""
    try:
        yield
    except OSError as error:
        raise LabError(
            f"This could not be written ({error.strerror}). Free space or allow writing in {folder.name}/, then retry."
        ) from error


def _coming(entry: Entry, one: TransferStatus | None) -> Entry:
    return replace(entry, state="arriving", why=_standing(one)) if one and not entry.runs else entry


def _standing(one: TransferStatus) -> str:
    """queued, downloading 43 %, checking."""
    if one.state == "queued":
        return f"queued: {one.note}" if one.note else "queued"
    share = f" {one.done / one.total:.0%}" if one.total and one.step == "downloading" else ""
    return f"{one.step or 'starting'}{share}"
