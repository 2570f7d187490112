"""A variant: a model you can talk to."""

import re
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
Method = Literal["base", "lora", "qlora", "none"]


class Variant(BaseModel):
    """One entry of the catalogue, or one file found in `weights/`. A value: it says what, not whether it is here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=ID)
    about: str = ""
    runtime: Literal["llama", "echo"] = "llama"
    base: Annotated[str, AfterValidator(lambda text: PurePath(text).name if text.startswith("/") else text)] = ""
    """The model it was made from, as its makers name it; a folder of this machine by its last part."""
    method: Method = "base"
    quantisation: str = ""
    size: int = Field(0, ge=0)
    """Bytes to download or on disk."""
    licence: str = "unknown"
    template: str = "own"
    """The prompt template it was trained with: a name in templates.toml, or `own`: the one in its GGUF."""
    file: str = ""
    """The GGUF: a file name in its folder; for an adapter, the adapter's."""
    over: str = ""
    """For an adapter: the id of the variant whose weights it runs over."""
    repo: str = ""
    revision: str = "main"
    commit: str = ""
    """What `revision` was when it was downloaded, as 40 digits; empty for what did not come from the Hub."""
    sha256: str = ""
    """Of the file, when it was placed."""


def identifier(name: str) -> str:
    """An id made of any name; `unnamed` when nothing usable is left of it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-")[:90] or "unnamed"
