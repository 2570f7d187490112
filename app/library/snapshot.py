"""The library at one moment, read once for all parts of its tab."""

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
    """`trouble` is what keeps the folders from being tidied, if anything does. Reasons are for the owner."""

    entries: Sequence[Entry]
    transfers: Sequence[TransferStatus]
    loaded: Sequence[LoadedModel]
    speeds: Sequence[SpeedResult]
    trouble: str
    owner: bool


def take_snapshot(lab: Lab, owner: bool) -> Snapshot:
    trouble = _tended(lab)
    transfers = lab.library.transfers()
    shown = trouble if owner else ""
    return Snapshot(lab.library.entries(transfers), transfers, lab.loaded(), lab.library.speeds(), shown, owner)


def _tended(lab: Lab) -> str:
    """Remove leftovers; folders that cannot be cleaned up must not hide the tab."""
    try:
        lab.library.reap_orphans()
    except LabError as error:
        return f"⚠ {plain(str(error))}"
    return ""
