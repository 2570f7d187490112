"""python -m backend.library.import_files RUN: imports files of this machine as a variant: a GGUF or a PEFT adapter."""

import os
import sys
import time
from pathlib import Path

from backend.core.errors import LabError, shown
from backend.core.files import BLOCK
from backend.hub import names
from backend.jobs.events import ImportResult, StepFacts
from backend.jobs.journal import Journal, run_worker
from backend.library import weights_folder
from backend.library.register import base_over, header_of, register
from backend.library.requests import ImportRequest


def copy_file(source: Path, out: Path, journal: Journal) -> Path:
    """Copy a file, with progress. Raises LabError if the disk has not enough free space."""
    size = source.stat().st_size
    weights_folder.check_space(out.parent, size)
    done = 0
    with source.open("rb") as reader, out.open("xb") as writer:
        while block := reader.read(BLOCK):
            writer.write(block)
            done += len(block)
            journal.step(StepFacts(state="copying", done=done, total=size))
    return out


def link_or_copy(source: Path, out: Path, journal: Journal) -> Path:
    """Make a hard link to the file, or a copy on another disk. The source is removed later, when all has succeeded."""
    try:
        os.link(os.path.realpath(source), out)
    except OSError:  # another disk
        return copy_file(source, out, journal)
    return out


def source_files(paths: tuple[str, ...]) -> list[Path]:
    """Check the names of the files: one GGUF, or the two files of an adapter. Returns the weights first.

    Raises LabError for anything else.
    """
    files = [Path(path) for path in paths]
    for path in files:
        if path.suffix.lower() in (".bin", ".pt", ".pth"):
            raise LabError(
                f"{shown(path.name)} is a pickle, which can run any code when it is loaded. Save the adapter as "
                "safetensors instead: in PEFT, save_pretrained(..., safe_serialization=True)."
            )
        if not path.is_absolute() or not path.is_file():
            raise LabError(f"{shown(path.name)} is not a file that can be read. Choose it again.")
    if len(files) == 1 and files[0].suffix.lower() == ".gguf":
        return files
    if sorted(path.name for path in files) == sorted((names.ADAPTER, names.SETTINGS)):
        return sorted(files, key=lambda path: path.name != names.ADAPTER)
    raise LabError(f"Choose one .gguf file, or the two files of a PEFT adapter: {names.ADAPTER} and {names.SETTINGS}.")


def import_files(spec: ImportRequest, journal: Journal) -> None:
    """Import and register the files. A LabError leaves the weights folder as it was."""
    start, weights = time.monotonic(), Path(spec.weights)
    weights_folder.remove_leftovers(weights)
    weights_folder.refuse_if_exists(weights, spec.variant.id)
    sources = source_files(spec.paths)
    if sources[0].suffix == ".safetensors":
        base_over(spec.variant.over, weights)
    else:
        header_of(sources[0], "It was not changed.")
    with weights_folder.staging(weights, journal.folder.name) as folder:
        got = folder / "got"
        got.mkdir()
        if len(sources) > 1:
            path = [copy_file(source, got / source.name, journal) for source in sources][0]
        else:
            name = names.identifier(sources[0].name) + ".gguf"
            path = (link_or_copy if spec.move else copy_file)(sources[0], got / name, journal)
        journal.step(StepFacts(state="checking"), now=True)
        variant = register(path, folder / "model", spec)
    if spec.move:
        for source in sources:
            source.unlink(missing_ok=True)
    seconds = round(time.monotonic() - start, 1)
    journal.result(
        ImportResult(id=variant.id, file=variant.file, size=variant.size, sha256=variant.sha256, seconds=seconds)
    )


if __name__ == "__main__":
    sys.exit(run_worker(ImportRequest, import_files))
