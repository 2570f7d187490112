"""Writing a file so that its name appears only when it is whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.core.errors import LabError


def need_space(out: Path, size: int) -> None:
    """Refuse before a long write that cannot end well."""
    free = shutil.disk_usage(out.parent).free
    if free < size:
        raise LabError(
            f"{out.name} needs {size / 1e6:.0f} MB and the disk has {free / 1e6:.0f} MB left. "
            "Free some space, or choose another folder."
        )


def settle(path: Path) -> None:
    """Make sure that what was written is on the disk, not only in memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


PARTLY = "the disk took only part of it"  # what numpy raises then has a count, but no reason


@contextmanager
def part_of(out: Path) -> Iterator[Path]:
    """A `.part` path to write to; it becomes `out` when the block ends well and vanishes when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    try:
        yield part
        settle(part)
        os.replace(part, out)
        settle(out.parent)
    except OSError as error:
        raise LabError(
            f"{out.name} could not be written: {error.strerror or PARTLY}. Check the folder and its free space."
        ) from error
    finally:
        part.unlink(missing_ok=True)
