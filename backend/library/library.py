"""Lists the variants with their states, and starts the work on model files as runs."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from backend.core import machine
from backend.core.errors import LabError, short
from backend.core.settings import Settings
from backend.hub import names
from backend.hub.listing import RepositoryFile, RepositoryListing, list_repository
from backend.inference import memory
from backend.inference.engines import Engines
from backend.inference.placement import ModelSpec
from backend.jobs.launcher import launch
from backend.jobs.run import RECENT, Run, find, reap_orphans, runs_in
from backend.library import weights_folder
from backend.library.requests import MOST_SETTINGS, DownloadRequest, ImportRequest, VerifyRequest
from backend.library.status import SpeedResult, SpeedTestRequest, TransferStatus, speeds, transfers
from models import crash_marks
from models.catalogue import Entry, catalogue, list_variants
from models.variant import Variant, is_same_model

TRANSFERS = ("download", "bring")  # kinds of runs that create a variant


class Library:
    """The model files of this lab. Every method reads the current state from disk."""

    def __init__(self, settings: Settings, engines: Engines) -> None:
        self.settings, self._engines = settings, engines
        self.weights, self.runs = settings.lab_weights, settings.lab_runs

    def entries(self, transfers: Sequence[TransferStatus] | None = None) -> list[Entry]:
        """All variants with their current states, those that are being downloaded or imported included.

        `transfers`: the result of `transfers()`, if the caller has it already.
        """
        present = list_variants(self.weights)
        if transfers is None:
            transfers = self.transfers()
        arriving = {status.variant: status for status in transfers if status.live and status.kind in TRANSFERS}
        ids = {entry.variant.id for entry in present}
        new = [
            Entry(Variant(id=id), "arriving", _progress_text(status))
            for id, status in arriving.items()
            if id not in ids
        ]
        return [_with_transfer(entry, arriving.get(entry.variant.id)) for entry in present] + new

    def entry(self, variant: str) -> Entry:
        """The variant with this id. Raises LabError if there is none. If it runs, no transfers are read."""
        present = next((entry for entry in list_variants(self.weights) if entry.variant.id == variant), None)
        if present and present.runs:
            return present
        for entry in self.entries():
            if entry.variant.id == variant:
                return entry
        raise LabError(f"There is no variant named {str(variant)[:100]!r}. The Library tab lists all variants.")

    # Download and import.

    def list_files(self, pasted: str, revision: str = "") -> RepositoryListing:
        """List the files of a repository on the Hub. Raises LabError with the reason if that is not possible."""
        path = names.parse(pasted, os.environ.get("HF_ENDPOINT", ""))
        if revision.strip():
            path = replace(path, revision=names.checked_revision(revision.strip()))
        listing = list_repository(path, machine.environment(network=True) | self._secrets())
        return listing.model_copy(update={"wanted": path.file})

    def download(self, variant: str) -> Run:
        """Start the download of a variant of the catalogue."""
        known = next((known for known in catalogue() if known.id == variant and known.repo), None)
        if known is None:
            raise LabError(f"{variant!r} is not in the catalogue of downloads. Type its repository instead.")
        return self._download(known)

    def download_file(self, listing: RepositoryListing, file: RepositoryFile, over: str = "") -> Run:
        """Start the download of a listed file. `over`: for an adapter, the id of its base on this machine."""
        if file.why:
            raise LabError(f"{file.path} cannot be used: {file.why}. Choose another file.")
        if listing.architecture not in ("", "llama"):
            raise LabError(
                f"{listing.repo} has {listing.architecture} models, and this app runs only Llama models. Choose "
                "another repository."
            )
        if listing.kind == "adapter":
            over = over or self._base_named(listing.base)
        name = listing.repo if listing.kind == "adapter" else file.path
        variant = Variant(
            id=self._free_id(names.identifier(name), listing.repo, file.path),
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
        return self._download(variant)

    def _download(self, variant: Variant) -> Run:
        entry = next((entry for entry in list_variants(self.weights) if entry.variant.id == variant.id), None)
        if entry and entry.runs:
            raise LabError(f"{variant.id} is already downloaded. Remove it first to download it again.")
        if variant.size:
            weights_folder.check_space(self.weights, variant.size)
        spec = DownloadRequest(variant=variant, weights=str(self.weights.resolve()))
        key = f"{variant.repo}@{variant.commit or variant.revision}/{variant.file}"
        return launch(self.runs, "download", variant.id, spec, key, self._secrets())

    def import_files(self, paths: Sequence[Path], over: str = "", move: bool = False) -> Run:
        """Start the import of a GGUF, or of the two files of a PEFT adapter. `move`: remove the source files."""
        gguf = next((path for path in paths if path.suffix.lower() == ".gguf"), None)
        if gguf is None and not over:
            over = self._base_named(base_named_in(next((path for path in paths if path.name == names.SETTINGS), None)))
        name = names.identifier(gguf.name if gguf else f"{over}_adapter")
        variant = Variant(id=self._free_id(name, "", ""), over=over, method="lora" if over else "base")
        spec = ImportRequest(
            variant=variant,
            weights=str(self.weights.resolve()),
            paths=tuple(str(path.resolve()) for path in paths),
            move=move,
        )
        return launch(self.runs, "bring", variant.id, spec)

    def _base_named(self, name: str) -> str:
        """The id of the downloaded variant of the base that an adapter names. LabError if there is not just one.

        An adapter of a base with 4-bit weights runs over the same base with 16-bit weights, or a GGUF of that.
        """
        bases = [entry for entry in list_variants(self.weights) if entry.runs and entry.model and not entry.adapter]
        found = [
            entry.variant.id
            for entry in bases
            if is_same_model(entry.variant.base, name) or (entry.header and is_same_model(entry.header.name, name))
        ]
        if len(found) == 1:
            return found[0]
        trained = f"It was trained on {short(name)}, of which there {_are(found)} here. " if name else ""
        raise LabError(f"This is a LoRA adapter. {trained}Choose its base under “Base of an adapter”, then try again.")

    def _free_id(self, name: str, repo: str, file: str) -> str:
        """`name`, or `name` with a number if another variant has that id."""
        taken = {entry.variant.id: entry.variant for entry in self.entries()}
        downloading = self._ids_of_downloads(repo, file)
        for id in (name, *(f"{name}_{number}" for number in range(2, 1000))):
            known = taken.get(id)
            if known is None or id in downloading or (known.repo == repo != "" and known.file == Path(file).name):
                return id
        raise LabError(f"There are 999 variants named {name}. Remove some of them first.")

    def _ids_of_downloads(self, repo: str, file: str) -> set[str]:
        """Ids of live downloads of this file: a second request for it joins the first."""
        live = [run for run in runs_in(self.runs, "download", newest=RECENT) if run.live]
        records = {run.spec.name: run.spec.asked.get("variant", {}) for run in live}
        return {name for name, record in records.items() if (record.get("repo"), record.get("file")) == (repo, file)}

    def _secrets(self) -> dict[str, str]:
        token = self.settings.hf_token.get_secret_value()
        return {"HF_TOKEN": token} if token else {}

    # Verification, removal and speed test.

    def verify(self, variant: str) -> Run:
        """Start the comparison of the file with its checksum."""
        entry = self.entry(variant)
        if not entry.variant.sha256:
            raise LabError(f"{variant} has no checksum, so it cannot be verified. Choose another variant.")
        spec = VerifyRequest(id=variant, weights=str(self.weights.resolve()))
        return launch(self.runs, "verify", variant, spec, key=variant)

    def removable_size(self, variant: str) -> int:
        """Bytes that removing the variant frees. Raises LabError if it cannot be removed or an adapter needs it."""
        entry = self.entry(variant)
        if entry.state in ("embedded", "not downloaded", "arriving"):
            raise LabError(f"{variant} is {entry.state}, so there is nothing to remove. Choose another.")
        adapters = [other.variant.id for other in list_variants(self.weights) if other.variant.over == variant]
        if adapters:
            raise LabError(f"{', '.join(adapters)} runs over {variant}. Remove {', '.join(adapters)} first.")
        return weights_folder.freeable(weights_folder.path_of(self.weights, variant))

    def remove(self, variant: str) -> int:
        """Delete a variant's files, and return the freed bytes. Raises LabError as `removable_size` does."""
        self.removable_size(variant)
        entry = self.entry(variant)
        if file := entry.adapter or entry.model:
            self._engines.release(file)
            with _written(self.weights):
                crash_marks.unmark(self.weights, file)
        return weights_folder.remove(self.weights, variant)

    def unmark(self, variant: str) -> None:
        """Remove the mark of a file that crashed or was damaged, so that it can be loaded again."""
        entry = self.entry(variant)
        for file in filter(None, (entry.model, entry.adapter)):
            with _written(self.weights):
                crash_marks.unmark(self.weights, file)

    def record_crash(self, file: Path, how: str) -> None:
        """Record that a file crashed the process that loaded it. `how`: the name of the signal."""
        if file.is_file():
            crash_marks.record_crash(self.weights, file, how)

    def speed(self, variant: str) -> Run:
        """Start a speed test."""
        entry = self.entry(variant)
        if not entry.runs or entry.model is None:
            raise LabError(f"{variant} cannot be measured: it is {entry.state}. Choose a variant that can be loaded.")
        header = entry.base_header or entry.header
        self._engines.make_free(ModelSpec(variant, variant, "llama", entry.model, entry.adapter, header, 1024))
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
        """Results of speed tests, newest first."""
        return speeds(self.runs)

    # Status.

    def transfers(self) -> list[TransferStatus]:
        """Runs on model files: the live ones, then the newest ended ones."""
        return transfers(self.runs)

    def cancel(self, run: str) -> None:
        """Request that a run stops. Raises LabError if there is no run of that id."""
        live = find(self.runs, run)
        if live is None:
            raise LabError("No transfer is chosen. Choose one of the transfers in progress.")
        with _written(self.runs):
            live.stop()

    def reap_orphans(self) -> None:
        """End runs whose runner died, and remove the files that killed transfers left."""
        reap_orphans(self.runs)
        weights_folder.remove_leftovers(self.weights)

    def memory_free(self) -> int:
        """Bytes of memory that are free for models."""
        return self._engines.memory_free()

    def disk_free(self) -> int:
        """Free bytes on the disk of the weights folder, which need not exist yet."""
        folders = (self.weights, *self.weights.absolute().parents)
        return shutil.disk_usage(next(folder for folder in folders if folder.exists())).free

    def guess(self, size: int, context: int = 0) -> int:
        """Estimate the bytes of memory that a file of `size` bytes needs, without its header."""
        return memory.guess(size, context or self.settings.lab_context, self.settings.lab_slots)

    def need(self, entry: Entry, context: int) -> int:
        """Bytes of memory that a variant needs: computed from its header, or estimated from its size without one."""
        header = entry.base_header or entry.header
        if entry.variant.runtime != "llama":
            return 0
        if header is None or entry.model is None:
            return self.guess(entry.variant.size, context)
        size = entry.model.stat().st_size + (entry.adapter.stat().st_size if entry.adapter else 0)
        return memory.memory_need(header, size, context, self.settings.lab_slots).total


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Convert an OSError in the block to a LabError."""
    try:
        yield
    except OSError as error:
        raise LabError(
            f"A file in {folder.name}/ could not be written ({error.strerror}). Free disk space or allow writing in "
            "that folder, then try again."
        ) from error


def _with_transfer(entry: Entry, status: TransferStatus | None) -> Entry:
    return replace(entry, state="arriving", why=_progress_text(status)) if status and not entry.runs else entry


def _progress_text(status: TransferStatus) -> str:
    """For example "queued", "downloading 43%" or "checking"."""
    if status.state == "queued":
        return f"queued: {status.note}" if status.note else "queued"
    share = f" {status.done / status.total:.0%}" if status.total and status.activity == "downloading" else ""
    return f"{status.activity or 'starting'}{share}"


def base_named_in(settings: Path | None) -> str:
    """The base that adapter_config.json names; empty if it cannot be read."""
    try:
        if settings and settings.stat().st_size <= MOST_SETTINGS:
            return str(json.loads(settings.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return ""


def _are(found: Sequence[str]) -> str:
    return f"are several ({', '.join(found)})" if found else "is none"
