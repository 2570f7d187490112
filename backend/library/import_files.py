"""python -m backend.library.import_files RUN: files of this machine become a variant: one GGUF, or a PEFT adapter."""

import os
import sys
import time
from pathlib import Path

from backend.core.errors import LabError, shown
from backend.hub import names
from backend.jobs.journal import Journal, run_worker
from backend.library import weights_folder
from backend.library.checksums import BLOCK
from backend.library.register import base_over, header_of, register
from backend.library.requests import ImportRequest


def copied(source: Path, out: Path, journal: Journal) -> Path:
    """A copy on the same disk as the models, with progress. LabError when there is no room."""
    size = source.stat().st_size
    weights_folder.room(out.parent, size)
    done = 0
    with source.open("rb") as read, out.open("xb") as written:
        while block := read.read(BLOCK):
            written.write(block)
            done += len(block)
            journal.step(state="copying", done=done, total=size)
    return out


def taken(source: Path, out: Path, journal: Journal) -> Path:
    """The same file under a second name, so that the first may go when all has ended well; else a copy."""
    try:
        os.link(os.path.realpath(source), out)
    except OSError:  # another disk
        return copied(source, out, journal)
    return out


def parts_of(paths: tuple[str, ...]) -> list[Path]:
    """The files, checked by name: one GGUF, or the adapter's two, its weights first. LabError otherwise."""
    found = [Path(path) for path in paths]
    for path in found:
        if path.suffix.lower() in (".bin", ".pt", ".pth"):
            raise LabError(
                f"{shown(path.name)} is a pickle, which can run any code when it is read. Save the adapter as "
                "safetensors instead: in PEFT, save_pretrained(..., safe_serialization=True)."
            )
        if not path.is_absolute() or not path.is_file():
            raise LabError(f"{shown(path.name)} is not a file that can be read here. Choose it once more.")
    if len(found) == 1 and found[0].suffix.lower() == ".gguf":
        return found
    if sorted(path.name for path in found) == sorted((names.ADAPTER, names.SETTINGS)):
        return sorted(found, key=lambda path: path.name != names.ADAPTER)
    raise LabError(f"Bring one .gguf file, or the two files of a PEFT adapter: {names.ADAPTER} and {names.SETTINGS}.")


def import_files(spec: ImportRequest, journal: Journal) -> None:
    """Everything that was asked, or a LabError and nothing."""
    begun, weights = time.monotonic(), Path(spec.weights)
    weights_folder.sweep(weights)
    weights_folder.refuse_if_here(weights, spec.id)
    sources = parts_of(spec.paths)
    if sources[0].suffix == ".safetensors":
        base_over(spec.over, weights)
    else:
        header_of(sources[0], "It stays where it is.")
    with weights_folder.arriving(weights, journal.folder.name) as folder:
        got = folder / "got"
        got.mkdir()
        if len(sources) > 1:
            path = [copied(source, got / source.name, journal) for source in sources][0]
        else:
            name = names.identifier(sources[0].name) + ".gguf"
            path = (taken if spec.move else copied)(sources[0], got / name, journal)
        journal.step(now=True, state="checking")
        variant = register(path, folder / "model", spec)
    if spec.move:
        for source in sources:
            source.unlink(missing_ok=True)
    facts = variant.model_dump(include={"id", "file", "size", "sha256"})
    journal.result(**facts, seconds=round(time.monotonic() - begun, 1))


if __name__ == "__main__":
    sys.exit(run_worker(ImportRequest, import_files))
