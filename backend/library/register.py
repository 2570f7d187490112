"""The last step of everything that arrives: what it is, its record, its place."""

from pathlib import Path

from backend.core.errors import LabError, shown
from backend.hub.names import ADAPTER
from backend.library import weights_folder
from backend.library.adapter import convert
from backend.library.checksums import digest_of
from backend.library.requests import Arriving
from models.check import BadFile, Header, read_header
from models.variant import Variant


def header_of(path: Path, then: str = "It was removed again.") -> Header:
    """What a GGUF says of itself. LabError when it is none this app can use, with `then` as what follows from it."""
    try:
        return read_header(path)
    except BadFile as error:
        raise LabError(f"{shown(path.name)} is not a model this app can use: {error}. {then}") from error


def finish(path: Path, staged: Path, spec: Arriving, sha256: str = "", **source: str) -> Variant:
    """Place a GGUF, or what an adapter's two files become, and return its record.

    `path` is verified and inside the run's folder, `staged` a folder beside it that is not there yet. `sha256` is of
    `path` when it is known. LabError leaves `weights` as it was.
    """
    staged.mkdir()
    if path.name == ADAPTER:
        file = staged / f"{spec.id}.gguf"
        convert(path.parent, file, spec.id, spec.over, Path(spec.weights))
        sha256 = ""  # it was of another file
    else:
        file = path.rename(staged / path.name)
    header = header_of(file)
    variant = Variant(
        id=spec.id,
        about=spec.about,
        base=spec.base,
        method="lora" if header.is_adapter and spec.method == "base" else spec.method,
        quantisation=spec.quantisation,
        size=file.stat().st_size,
        licence=spec.licence,
        template=spec.template,
        file=file.name,
        over=spec.over,
        sha256=sha256 if len(sha256) == 64 else digest_of(file),
        **source,
    )
    weights_folder.place(staged, Path(spec.weights), variant)
    return variant
