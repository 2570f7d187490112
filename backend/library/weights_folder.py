"""The weights folder: new models are staged, then installed by one rename; models are removed by one rename, too.

weights/.arriving/lock             locked while a run's folder is created or leftovers are removed
weights/.arriving/<run id>/lock    locked by the run as long as it lives
weights/<id>/                      a complete and verified model with its variant.json
"""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from backend.core.errors import LabError, shown
from backend.core.files import locked, sync
from models.catalogue import list_variants
from models.check import BadFile, read_header
from models.variant import ID, Variant

STAGING = ".arriving"
RECORD = "variant.json"
LOCK_TIMEOUT = 15.0  # seconds; other processes hold the lock for a moment only
RESERVE = 64_000_000  # bytes that stay free, in addition to 5 % of the new file


def checked_identifier(text: str) -> str:
    """Return the id of a variant. Raises LabError if it is not valid."""
    if not re.fullmatch(ID, text):
        raise LabError(
            f"{shown(text)} is not valid as the name of a variant. Use letters, digits, dots and dashes, 100 at most."
        )
    return text


def check_space(weights: Path, size: int) -> None:
    """Raise LabError unless the disk has free space for `size` bytes and a margin."""
    try:
        weights.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(weights).free, size + size // 20 + RESERVE
    except OSError as error:
        raise _refused(weights, error) from error
    if free < needed:
        raise LabError(
            f"The disk has {free / 1e6:,.0f} MB free, and {needed / 1e6:,.0f} MB are needed: {size / 1e6:,.0f} MB for "
            f"the file and a margin. Free {(needed - free) / 1e6:,.0f} MB, then try again."
        )


@contextmanager
def staging(weights: Path, run: str) -> Iterator[Path]:
    """A folder for the files of a run. It is deleted when the block ends, also after an error."""
    folder = _staging_root(weights) / checked_identifier(run)
    with _root_lock(weights):
        try:
            folder.mkdir(exist_ok=True)
            lock = _locked(folder / "lock")
        except BlockingIOError:
            raise LabError(f"{run} is already in progress. Wait until it ends, or stop it first.") from None
        except OSError as error:
            raise _refused(folder, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(weights: Path) -> int:
    """Delete the staging folders of killed runs. Returns the freed bytes."""
    freed = 0
    with _root_lock(weights):
        for folder in [path for path in _staging_root(weights).iterdir() if path.is_dir() and not path.is_symlink()]:
            try:
                os.close(_locked(folder / "lock"))
            except BlockingIOError:
                continue
            except OSError:  # no live run holds this lock, because none could open it
                pass
            freed += freeable(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return freed


def _staging_root(weights: Path) -> Path:
    folder = weights / STAGING
    if folder.is_symlink() or folder.is_file():
        what = "a link" if folder.is_symlink() else "a file"
        raise LabError(f"{_short(folder)} is {what}, but must be a folder. Remove it, then try again.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from error
    return folder


def _short(path: Path) -> str:
    """The last two parts of a path, for a sentence: the path of the weights folder is private."""
    return f"{path.parent.name}/{path.name}"


def _refused(path: Path, error: OSError) -> LabError:
    return LabError(
        f"{_short(path)} cannot be used: {error.strerror}. Free disk space or allow writing there, then try again."
    )


@contextmanager
def _root_lock(weights: Path) -> Iterator[None]:
    """Lock the staging folder while a run's folder is created or leftovers are removed."""
    path = _staging_root(weights) / "lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path, LOCK_TIMEOUT))
        except OSError as error:
            raise _refused(path, error) from error
        yield


def _locked(path: Path) -> int:
    """Open and lock a file. Raises BlockingIOError if another process has locked it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def freeable(path: Path) -> int:
    """Bytes that removing a file or a folder frees. Files with another hard link do not count."""
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else iter([path])
    stats = [file.lstat() for file in files if file.is_symlink() or file.is_file()]
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)


def usable(folder: Path) -> bool:
    """Whether a folder has a GGUF with a valid header."""
    for file in [path for path in folder.glob("*") if path.suffix.lower() == ".gguf"]:
        with contextlib.suppress(BadFile, OSError):
            read_header(file)
            return True
    return False


def refuse_if_exists(weights: Path, identifier: str) -> None:
    """Raise LabError if there is a usable variant of that name, because it must not be overwritten."""
    if usable(weights / identifier):
        raise LabError(f"{identifier} already exists. Remove it first, or choose another name for the new variant.")


def install(staged: Path, weights: Path, variant: Variant) -> Path:
    """Write the record into the staged folder, rename the folder to its final path, and return the model's path.

    A damaged variant of the same name is replaced. Raises LabError if a usable one exists.
    """
    target = weights / variant.id
    record = staged / RECORD
    record.write_text(variant.model_dump_json(indent=1, exclude_defaults=True), encoding="utf-8")
    for path in (*staged.iterdir(), staged):
        sync(path)
    refuse_if_exists(weights, variant.id)
    if target.is_symlink() or target.exists():
        _refuse_if_foreign(target, variant.file)
        os.rename(target, staged.with_name(f"{staged.name}.older"))
    try:
        os.rename(staged, target)
    except OSError as error:
        raise LabError(
            f"{variant.id} could not be moved to its folder: {error.strerror}. Another process may have created one in "
            "the meantime. Reload the list of variants."
        ) from error
    sync(weights)
    return target / variant.file


def _refuse_if_foreign(target: Path, file: str) -> None:
    """Raise LabError if the folder has files that this app did not create."""
    present = sorted(os.listdir(target)) if target.is_dir() and not target.is_symlink() else []
    foreign = [name for name in present if name not in (RECORD, file, ".cache")]
    if foreign and RECORD not in present:
        raise LabError(
            f"The folder {target.name} has files that are not of this app, such as {foreign[0][:60]}. Move the folder, "
            "then try again."
        )


def remove(weights: Path, identifier: str) -> int:
    """Delete a variant, and return the freed bytes. Raises LabError if there is none that can be removed."""
    path = path_of(weights, checked_identifier(identifier))
    with staging(weights, f"removing-{os.getpid()}-{identifier}"[:100]) as folder:
        freed = freeable(path)
        try:
            os.rename(path, folder / "gone")
        except OSError as error:
            raise LabError(
                f"{identifier} could not be removed: {error.strerror}. Allow writing in its folder, then try again."
            ) from error
    return freed


def path_of(weights: Path, identifier: str) -> Path:
    """The folder of a variant, or a GGUF that a person put into the weights folder. Raises LabError for no variant."""
    entry = next((entry for entry in list_variants(weights) if entry.variant.id == identifier), None)
    if entry and entry.state == "embedded":
        raise LabError(f"{identifier} is part of the app and cannot be removed. Choose another variant.")
    path = entry.path if entry else None
    if path and path.parent == weights and (path.exists() or path.is_symlink()):
        return path
    folder = path.parent if path else weights / identifier
    if folder.parent == weights and folder.name != STAGING and ((folder / RECORD).exists() or (path and path.exists())):
        return folder
    raise LabError(f"{identifier} is not downloaded, so there is nothing to remove. Reload the list of variants.")
