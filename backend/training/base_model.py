"""Finds the files of a base model: embedded in the app, in a folder, or on the Hub."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from backend.core.errors import LabError
from backend.data.dataset import REPO
from backend.gguf.tensors import load_json, tensors_in
from models.catalogue import TINY

EMBEDDED = "tiny_base"
PATTERNS = ["*.json", "*.safetensors", "*.jinja"]
NUMBERS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")


@dataclass(frozen=True)
class Base:
    """The files of a base. `commit` is empty for a local folder."""

    name: str
    folder: Path
    commit: str = ""


def base_at(name: str, revision: str = "", say: Callable[[str], None] = lambda state: None) -> Base:
    """Return the folder of a base. From the Hub, JSON, safetensors and templates are downloaded.

    `say` gets a word for each state. LabError if the base cannot be found, downloaded or trained.
    """
    if name == EMBEDDED:
        return Base(name, checked(TINY / "base"))
    if Path(name).is_absolute():
        folder = checked(Path(name))
        if load_json(folder / "config.json").get("quantization_config"):
            raise LabError(f"{folder.name} has 4-bit weights. Enter the folder of the 16-bit base, and choose qlora.")
        return Base(name, folder)
    if not REPO.fullmatch(name):
        raise LabError(
            f"{name[:100]!r} is not a base. Enter owner/name of a model on the Hub, or the absolute path of a folder."
        )
    say("downloading the base")
    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=PATTERNS))
    except RepositoryNotFoundError:
        raise LabError(f"The Hub has no model {name}, or it needs a token. Check the name, or set HF_TOKEN.") from None
    except RevisionNotFoundError:
        raise LabError(
            f"{name} has no revision {revision!r}. Choose a revision that its page on the Hub lists."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise LabError(
            f"{name} could not be downloaded ({_reason(error)}). Check the network and HF_ENDPOINT, then try again."
        ) from None
    return Base(name, checked(folder), folder.name if re.fullmatch("[0-9a-f]{40}", folder.name) else "")


def checked(folder: Path) -> Path:
    """Return the folder. LabError unless it has a Llama model in safetensors that needs no code of its own."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise LabError(f"{folder.name} has no config.json that can be read, so it is not a model. Choose another base.")
    if config.get("auto_map"):
        raise LabError(f"{folder.name} needs its own Python code, which this app does not run. Choose another base.")
    if config.get("model_type") != "llama":
        raise LabError(
            f"{folder.name} is a {config.get('model_type')!s:.40} model, and this app trains Llama models. Choose "
            "another base."
        )
    if missing := [name for name in NUMBERS if not isinstance(config.get(name), int)]:
        raise LabError(f"config.json of {folder.name} lacks {missing[0]}. Download or save the base again.")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise LabError(f"{folder.name} has no safetensors weights. Choose another base, or save it as safetensors.")
    for file in files:
        tensors_in(file)
    return folder


def _reason(error: Exception) -> str:
    """A few words. The full message, which has addresses and folders, is printed into the log only."""
    print(error, file=sys.stderr, flush=True)
    if isinstance(error, HfHubHTTPError):
        return f"status {error.response.status_code}"
    return (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
