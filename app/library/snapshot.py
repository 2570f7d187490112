"""The library at one moment, read once for all parts of its tab."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.markup import plain
from backend.core.errors import LabError
from backend.inference.engine import Loaded
from backend.lab import Lab
from backend.library.status import Speed, Transfer
from models.catalogue import Entry


@dataclass(frozen=True)
class Sight:
    """`trouble` is what keeps the folders from being tidied, if anything does. Reasons are for the owner."""

    entries: Sequence[Entry]
    transfers: Sequence[Transfer]
    loaded: Sequence[Loaded]
    speeds: Sequence[Speed]
    trouble: str
    owner: bool


def sight(lab: Lab, owner: bool) -> Sight:
    trouble = _tended(lab)
    transfers = lab.library.transfers()
    shown = trouble if owner else ""
    return Sight(lab.library.entries(transfers), transfers, lab.loaded(), lab.library.speeds(), shown, owner)


def _tended(lab: Lab) -> str:
    """Whoever looks should not be kept from it by folders that cannot be tidied."""
    try:
        lab.library.tend()
    except LabError as error:
        return f"⚠ {plain(str(error))}"
    return ""
