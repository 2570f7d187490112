"""The last step of a download or an import: checks the file, writes its record and installs it."""

from pathlib import Path

from backend.core.errors import LabError, shown
from backend.core.files import digest_of
from backend.gguf import llama
from backend.gguf.adapter import write_adapter_for
from backend.hub.names import ADAPTER, SETTINGS
from backend.library import weights_folder
from backend.library.requests import MOST_SETTINGS, VariantRequest
from models.catalogue import Entry, list_variants
from models.check import BadFile, Header, read_header
from models.variant import Variant

KIND = "F16"


def base_over(identifier: str, weights: Path) -> Entry:
    """The variant that an adapter runs over. Raises LabError if it is not downloaded or is an adapter itself."""
    entry = next((entry for entry in list_variants(weights) if entry.variant.id == identifier), None)
    if not identifier:
        raise LabError("This is a LoRA adapter. Choose the variant that it runs over: the base it was trained on.")
    if entry is None or not entry.runs or entry.model is None or entry.header is None or entry.adapter:
        raise LabError(f"{identifier} is not a downloaded base model, so no adapter runs over it. Download it first.")
    return entry


def convert(folder: Path, out: Path, name: str, over: str, weights: Path) -> None:
    """Convert the two files of a PEFT adapter to the GGUF `out`. Raises LabError if that is not possible."""
    base = base_over(over, weights)
    assert base.header
    settings = folder / SETTINGS
    if settings.is_file() and settings.stat().st_size > MOST_SETTINGS:
        raise LabError(f"{SETTINGS} has {settings.stat().st_size:,} bytes, which is too large. Choose another adapter.")
    try:
        shape = llama.shape_from_header(base.header.keys)
        write_adapter_for(shape, folder, out, KIND, name, base.header.name or over)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise LabError(
            f"The adapter's files are damaged ({type(error).__name__}: {str(error)[:80]}). Save or download it again."
        ) from error


def header_of(path: Path, then: str = "It was removed again.") -> Header:
    """Read the header of a GGUF. Raises LabError, ending with the sentence `then`, if this app cannot use the file."""
    try:
        return read_header(path)
    except BadFile as error:
        raise LabError(f"{shown(path.name)} is not a model that this app can use: {error}. {then}") from error


def register(path: Path, staged: Path, request: VariantRequest, sha256: str = "", commit: str = "") -> Variant:
    """Install a GGUF, or a PEFT adapter converted to one, and return its complete record.

    `path`: the verified file in the staging folder of the run. `staged`: a new folder beside it. `sha256`: of `path`,
    if known. A LabError leaves the weights folder as it was.
    """
    new = request.variant
    staged.mkdir()
    if path.name == ADAPTER:
        file = staged / f"{new.id}.gguf"
        convert(path.parent, file, new.id, new.over, request.folder)
        sha256 = ""  # it belongs to the unconverted file
    else:
        file = path.rename(staged / path.name)
    header = header_of(file)
    facts = {
        "method": "lora" if header.is_adapter and new.method == "base" else new.method,
        "size": file.stat().st_size,
        "file": file.name,
        "commit": commit,
        "sha256": sha256 if len(sha256) == 64 else digest_of(file),
    }
    variant = new.model_copy(update=facts)
    weights_folder.install(staged, request.folder, variant)
    return variant
