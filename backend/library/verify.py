"""python -m backend.library.verify RUN: reads a variant's file again and compares it with its record."""

import sys
from pathlib import Path

from backend.core.errors import LabError
from backend.jobs.journal import Journal, run_worker
from backend.library import weights_folder
from backend.library.checksums import digest_of
from backend.library.requests import VerifyRequest
from models import crash_marks
from models.variant import Variant


def record_of(folder: Path) -> Variant:
    """The record beside a model. LabError when there is none, or it does not know the checksum."""
    try:
        variant = Variant.model_validate_json((folder / weights_folder.RECORD).read_bytes())
    except (OSError, ValueError):
        raise LabError(f"{folder.name} has no record that can be read, so nothing is known to compare with.") from None
    if not variant.sha256:
        raise LabError(f"The record of {folder.name} holds no checksum: it was not this app that placed it.")
    return variant


def verify(spec: VerifyRequest, journal: Journal) -> None:
    """The result says `ok`; when it is not, a LabError says what to do."""
    folder = Path(spec.weights) / spec.id
    variant = record_of(folder)
    path = folder / Path(variant.file).name
    try:
        size = path.stat().st_size
        found = digest_of(path, progress=lambda done: journal.step(state="checking", done=done, total=size))
    except OSError as error:
        raise LabError(
            f"{path.name} cannot be read: {error.strerror}. Remove {spec.id} and download it again."
        ) from error
    ok = found == variant.sha256
    journal.result(ok=ok, id=spec.id, sha256=found, size=size)
    if not ok:
        crash_marks.mark(
            Path(spec.weights), path, "damaged", f"{path.name} is not what was placed here. Download it again"
        )
        raise LabError(
            f"{path.name} is not what was placed here: its content has changed. Remove {spec.id} and download it again."
        )


if __name__ == "__main__":
    sys.exit(run_worker(VerifyRequest, verify))
