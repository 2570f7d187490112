"""The last step of everything that arrives: what it is, its record, its place."""

from pathlib import Path

from backend.core.errors import LabError, shown
from backend.gguf import llama
from backend.gguf.adapter import write_over
from backend.hub.names import ADAPTER, SETTINGS
from backend.library import weights_folder
from backend.library.checksums import digest_of
from backend.library.requests import Arriving
from models.catalogue import Entry, look
from models.check import BadFile, Header, read_header
from models.variant import Variant

KIND = "F16"
MOST_SETTINGS = 1_000_000  # bytes of adapter_config.json


def base_over(identifier: str, weights: Path) -> Entry:
    """The variant an adapter runs over. LabError when it is not here, or is no model itself."""
    entry = next((entry for entry in look(weights) if entry.variant.id == identifier), None)
    if not identifier:
        raise LabError("This is a LoRA adapter. Say which variant it runs over: the base it was trained on.")
    if entry is None or not entry.runs or entry.model is None or entry.header is None or entry.adapter:
        raise LabError(f"{identifier} is not a model that is here, so no adapter can run over it. Download it first.")
    return entry


def convert(folder: Path, out: Path, name: str, over: str, weights: Path) -> None:
    """Write `out` from the two files in `folder`. LabError for whatever a GGUF adapter cannot hold."""
    base = base_over(over, weights)
    assert base.header
    settings = folder / SETTINGS
    if settings.is_file() and settings.stat().st_size > MOST_SETTINGS:
        raise LabError(f"{SETTINGS} has {settings.stat().st_size:,} bytes, so it is none. Look for another adapter.")
    try:
        shape = llama.shape_in(base.header.keys)
        write_over(shape, folder, out, KIND, name, base.header.name or over)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise LabError(
            f"The adapter's files are garbled ({type(error).__name__}: {str(error)[:80]}). Save or download it again."
        ) from error


def header_of(path: Path, then: str = "It was removed again.") -> Header:
    """What a GGUF says of itself. LabError when it is none this app can use, with `then` as what follows from it."""
    try:
        return read_header(path)
    except BadFile as error:
        raise LabError(f"{shown(path.name)} is not a model this app can use: {error}. {then}") from error


def register(path: Path, staged: Path, spec: Arriving, sha256: str = "", **source: str) -> Variant:
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
