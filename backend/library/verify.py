"""python -m backend.library.verify RUN: compares a variant's file with the checksum in its record."""

import sys
from pathlib import Path

from backend.core.errors import LabError
from backend.core.files import digest_of
from backend.jobs.events import StepFacts, VerifyResult
from backend.jobs.journal import Journal, run_worker
from backend.library import weights_folder
from backend.library.requests import VerifyRequest
from models import crash_marks
from models.variant import Variant


def record_of(folder: Path) -> Variant:
    """The record of a model. Raises LabError if there is none or if it has no checksum."""
    try:
        variant = Variant.model_validate_json((folder / weights_folder.RECORD).read_bytes())
    except (OSError, ValueError):
        raise LabError(
            f"The record {folder.name}/variant.json cannot be read, so the file cannot be verified. Download it again."
        ) from None
    if not variant.sha256:
        raise LabError(
            f"The record of {folder.name} has no checksum, so the file cannot be verified. Download it again."
        )
    return variant


def verify(spec: VerifyRequest, journal: Journal) -> None:
    """Compare the checksums, and mark a file that has changed. Then a LabError says what to do."""
    folder = Path(spec.weights) / spec.id
    variant = record_of(folder)
    path = folder / Path(variant.file).name
    try:
        size = path.stat().st_size
        digest = digest_of(path, progress=lambda done: journal.step(StepFacts(state="checking", done=done, total=size)))
    except OSError as error:
        raise LabError(
            f"{path.name} cannot be read: {error.strerror}. Remove {spec.id} and download it again."
        ) from error
    ok = digest == variant.sha256
    journal.result(VerifyResult(ok=ok, id=spec.id, sha256=digest, size=size))
    if not ok:
        crash_marks.mark(
            Path(spec.weights), path, "damaged", f"{path.name} has changed since it was installed. Download it again"
        )
        raise LabError(f"{path.name} has changed since it was installed. Remove {spec.id} and download it again.")


if __name__ == "__main__":
    sys.exit(run_worker(VerifyRequest, verify))
