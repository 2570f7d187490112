"""One reading of the library, for all sections of its tab."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.markup import plain
from backend.core.errors import LabError
from backend.inference.engine import LoadedModel
from backend.lab import Lab
from backend.library.status import SpeedResult, TransferStatus
from models.catalogue import Entry


@dataclass(frozen=True)
class Snapshot:
    """`problem`: why leftovers could not be removed; empty if they could. Visitors do not see it."""

    entries: Sequence[Entry]
    transfers: Sequence[TransferStatus]
    loaded: Sequence[LoadedModel]
    speeds: Sequence[SpeedResult]
    problem: str
    owner: bool


def take_snapshot(lab: Lab, owner: bool) -> Snapshot:
    problem = _remove_leftovers(lab)
    transfers = lab.library.transfers()
    return Snapshot(
        lab.library.entries(transfers), transfers, lab.loaded(), lab.library.speeds(), problem if owner else "", owner
    )


def _remove_leftovers(lab: Lab) -> str:
    """Remove leftovers. Return the reason if that fails, so that the tab is shown anyway."""
    try:
        lab.library.reap_orphans()
    except LabError as error:
        return f"⚠ {plain(str(error))}"
    return ""
