"""A PEFT adapter that came alone: converted with nothing of its base but the GGUF that is here."""

from pathlib import Path

from backend.core.errors import LabError
from backend.gguf import llama
from backend.gguf.adapter import write_over
from backend.hub.names import SETTINGS
from models.catalogue import Entry, look

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
