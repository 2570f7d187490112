"""A variant: a model you can talk to."""

import re
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
Method = Literal["base", "lora", "qlora", "none"]


class Variant(BaseModel):
    """A record of a variant: an entry of catalogue.toml, or a variant.json. The file itself may be missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=ID)
    about: str = ""
    runtime: Literal["llama", "echo"] = "llama"
    base: Annotated[str, AfterValidator(lambda text: PurePath(text).name if text.startswith("/") else text)] = ""
    """The base model, as its owner names it. Of a folder on this machine, only the last part is stored."""
    method: Method = "base"
    quantisation: str = ""
    size: int = Field(0, ge=0)
    """Size of the file in bytes."""
    licence: str = "unknown"
    template: str = "own"
    """The chat template that it was trained with: a name in templates.toml, or "own" for the one in its GGUF."""
    file: str = ""
    """The name of the GGUF in its folder; for an adapter, the adapter's."""
    over: str = ""
    """For an adapter: the id of the variant whose weights it runs over."""
    repo: str = ""
    revision: str = "main"
    commit: str = ""
    """The commit of `revision` at the download, 40 digits; empty if the file is not from the Hub."""
    sha256: str = ""
    """The sha256 of the file when it was installed."""


def sixteen_bit(name: str) -> str:
    """The repository with the 16-bit weights, which adapters are merged into, of a repository with 4-bit weights."""
    return re.sub(r"(-unsloth)?-bnb-4bit$", "", name)


def is_same_model(name: str, other: str) -> bool:
    """Whether two names are those of one base model: owner, 4-bit weights, case and separators do not matter."""
    plain, other_plain = (
        re.sub(r"[^a-z0-9]", "", sixteen_bit(text).rpartition("/")[2].casefold()) for text in (name, other)
    )
    return plain == other_plain != ""


def identifier(name: str) -> str:
    """Make an id from any name; `unnamed` if no usable character is left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-")[:90] or "unnamed"
