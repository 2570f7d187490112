"""Where models lie: staged while they arrive, placed by one rename, removed by one.

weights/.arriving/lock             held for the moment in which a run's folder is made or swept
weights/.arriving/<run id>/lock    held by the run as long as it lives
weights/<id>/                      the model and its variant.json: whole and verified, or absent
"""

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.core.errors import LabError, shown
from backend.core.files import sync
from models.catalogue import look
from models.check import BadFile, read_header
from models.variant import ID, Variant

ARRIVING = ".arriving"
RECORD = "variant.json"
PATIENCE = 15.0  # seconds for what others do in a moment
FLOOR = 64_000_000  # bytes left free besides 5 % of what is to come


def checked_identifier(text: str) -> str:
    """The id of a variant. LabError otherwise."""
    if not re.fullmatch(ID, text):
        raise LabError(f"{shown(text)} cannot be the name of a variant: letters, digits, dots, dashes, 100 at most.")
    return text


def room(weights: Path, size: int) -> None:
    """LabError unless the disk has room for `size` bytes and a margin."""
    try:
        weights.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(weights).free, size + size // 20 + FLOOR
    except OSError as error:
        raise _refused(weights, error) from error
    if free < needed:
        raise LabError(
            f"The disk has {free / 1e6:,.0f} MB free, and {needed / 1e6:,.0f} MB are needed: {size / 1e6:,.0f} MB for "
            f"the file and the rest to spare. Free {(needed - free) / 1e6:,.0f} MB, then try again."
        )


@contextmanager
def arriving(weights: Path, run: str) -> Iterator[Path]:
    """A folder of its own for what a run fetches. It is gone when the block ends, however it ends."""
    folder = _arrivals(weights) / checked_identifier(run)
    with _alone(weights):
        try:
            folder.mkdir(exist_ok=True)
            lock = _locked(folder / "lock")
        except BlockingIOError:
            raise LabError("This is under way already. Wait for it, or stop it first.") from None
        except OSError as error:
            raise _refused(folder, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(weights: Path) -> int:
    """Remove what killed transfers left behind. Bytes that this freed."""
    freed = 0
    with _alone(weights):
        for folder in [path for path in _arrivals(weights).iterdir() if path.is_dir() and not path.is_symlink()]:
            try:
                os.close(_locked(folder / "lock"))
            except BlockingIOError:
                continue
            except OSError:  # a lock that cannot be opened is nobody's: its owner could not have opened it either
                pass
            freed += held(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return freed


def _arrivals(weights: Path) -> Path:
    folder = weights / ARRIVING
    if folder.is_symlink() or folder.is_file():
        what = "a link to another place" if folder.is_symlink() else "a file"
        raise LabError(f"{_called(folder)} is {what}, and a folder is needed there. Remove it, then try again.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from error
    return folder


def _called(path: Path) -> str:
    """A path by its last two parts: where the folder of models lies on this machine is private."""
    return f"{path.parent.name}/{path.name}"


def _refused(path: Path, error: OSError) -> LabError:
    return LabError(f"{_called(path)} cannot be used: {error.strerror}. Free space or allow writing there, then retry.")


@contextmanager
def _alone(weights: Path) -> Iterator[None]:
    """While one makes or sweeps folders, nobody else does."""
    end, path = time.monotonic() + PATIENCE, _arrivals(weights) / "lock"
    while True:
        try:
            lock = _locked(path)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise LabError(
                    f"Another process holds {_called(path)}. End it, or remove that file, then try again."
                ) from None
            time.sleep(0.05)
        except OSError as error:
            raise _refused(path, error) from error
    try:
        yield
    finally:
        os.close(lock)


def _locked(path: Path) -> int:
    """An open file that holds the lock. BlockingIOError when somebody else holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def held(path: Path) -> int:
    """Bytes that removing a file or a folder frees: those of files with no other name."""
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else iter([path])
    stats = [file.lstat() for file in files if file.is_symlink() or file.is_file()]
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)


def usable(folder: Path) -> bool:
    """Whether a folder holds a model that could be loaded."""
    for file in [path for path in folder.glob("*") if path.suffix.lower() == ".gguf"]:
        with contextlib.suppress(BadFile, OSError):
            read_header(file)
            return True
    return False


def refuse_if_here(weights: Path, identifier: str) -> None:
    """LabError when there is a usable variant of that name: it is never written over."""
    if usable(weights / identifier):
        raise LabError(f"{identifier} is here already. Remove it first, or give the new one another name.")


def place(staged: Path, weights: Path, variant: Variant) -> Path:
    """Write the record beside what is staged and give the folder its place. The file's new path.

    LabError when a usable variant of that name is here; a damaged one makes way.
    """
    target = weights / variant.id
    record = staged / RECORD
    record.write_text(variant.model_dump_json(indent=1, exclude_defaults=True), encoding="utf-8")
    for path in (*staged.iterdir(), staged):
        sync(path)
    refuse_if_here(weights, variant.id)
    if target.is_symlink() or target.exists():
        _refuse_if_foreign(target, variant.file)
        os.rename(target, staged.with_name(f"{staged.name}.older"))
    try:
        os.rename(staged, target)
    except OSError as error:
        raise LabError(
            f"{variant.id} could not be put into its folder: {error.strerror}. Somebody else may have put one there in "
            "the meantime; look at the list again."
        ) from error
    sync(weights)
    return target / variant.file


def _refuse_if_foreign(target: Path, file: str) -> None:
    """What no app of ours put there is nobody's to remove."""
    found = sorted(os.listdir(target)) if target.is_dir() and not target.is_symlink() else []
    foreign = [name for name in found if name not in (RECORD, file, ".cache")]
    if foreign and RECORD not in found:
        raise LabError(f"The folder {target.name} holds other files ({foreign[0][:60]}). Move it away, then try again.")


def remove(weights: Path, identifier: str) -> int:
    """Take a variant away. Bytes that this freed. LabError when there is none that could be removed."""
    path = where(weights, checked_identifier(identifier))
    with arriving(weights, f"removing-{os.getpid()}-{identifier}"[:100]) as folder:
        freed = held(path)
        try:
            os.rename(path, folder / "gone")
        except OSError as error:
            raise LabError(
                f"{identifier} could not be removed: {error.strerror}. Allow writing in its folder, then try again."
            ) from error
    return freed


def where(weights: Path, identifier: str) -> Path:
    """The folder of a variant that has one of its own, or the file somebody dropped. LabError if neither is here."""
    entry = next((entry for entry in look(weights) if entry.variant.id == identifier), None)
    if entry and entry.state == "embedded":
        raise LabError(f"{identifier} comes with the app and stays. Choose another to remove.")
    path = entry.path if entry else None
    if path and path.parent == weights and (path.exists() or path.is_symlink()):
        return path
    folder = path.parent if path else weights / identifier
    if (
        folder.parent == weights
        and folder.name != ARRIVING
        and ((folder / RECORD).exists() or (path and path.exists()))
    ):
        return folder
    raise LabError(f"{identifier} is not here, so there is nothing to remove. Look at the list again.")
