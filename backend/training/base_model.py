"""Where the base of a training lies: with the app, in a folder, or on the Hub."""

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
WANTED = ["*.json", "*.safetensors", "*.jinja"]
NUMBERS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")


@dataclass(frozen=True)
class Base:
    """`commit` is empty for a folder."""

    name: str
    folder: Path
    commit: str = ""


def sixteen_bit(name: str) -> str:
    """The repository with the whole weights of one that holds them in 4 bits: what adapters are merged into."""
    return re.sub(r"(-unsloth)?-bnb-4bit$", "", name)


def base_at(name: str, revision: str = "", say: Callable[[str], None] = lambda state: None) -> Base:
    """The base's folder, fetched if need be (only JSON, safetensors and templates). LabError if it is not to be had."""
    if name == EMBEDDED:
        return Base(name, checked(TINY / "base"))
    if Path(name).is_absolute():
        folder = checked(Path(name))
        if load_json(folder / "config.json").get("quantization_config"):
            raise LabError(f"{folder.name} holds 4-bit weights. Name the folder of the 16-bit base, and choose qlora.")
        return Base(name, folder)
    if not REPO.fullmatch(name):
        raise LabError(f"{name[:100]!r} names no base. Give owner/name of the Hub, or the whole path of a folder.")
    say("fetching the base")
    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=WANTED))
    except RepositoryNotFoundError:
        raise LabError(
            f"The Hub has no {name}, or it wants a token that may see it. Check the name, or put one into HF_TOKEN."
        ) from None
    except RevisionNotFoundError:
        raise LabError(f"{name} has no revision {revision!r}. Look at its page, and name another.") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise LabError(
            f"{name} could not be fetched ({_said(error)}). Check the network and HF_ENDPOINT, then try again."
        ) from None
    return Base(name, checked(folder), folder.name if re.fullmatch("[0-9a-f]{40}", folder.name) else "")


def checked(folder: Path) -> Path:
    """LabError unless the folder holds a Llama in safetensors that needs no code of its own."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise LabError(f"{folder.name} has no readable config.json, so it is no model. Choose another base.")
    if config.get("auto_map"):
        raise LabError(f"{folder.name} brings code of its own, which this app does not run. Choose another base.")
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


def _said(error: Exception) -> str:
    """In a word or two. All that the client says, with the address and the folders, is for the log alone."""
    print(error, file=sys.stderr, flush=True)
    if isinstance(error, HfHubHTTPError):
        return f"status {error.response.status_code}"
    return (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
