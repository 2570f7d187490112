"""Requests to the library's workers. A wrong name raises LabError when the request is created."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from backend.hub import names
from backend.library.weights_folder import checked_identifier
from models.variant import Method

Identifier = Annotated[str, AfterValidator(checked_identifier)]


class VariantRequest(BaseModel):
    """The record of a new variant, and the weights folder (an absolute path) for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Identifier
    weights: str
    template: str = "own"
    about: str = ""
    base: str = ""
    method: Method = "base"
    quantisation: str = ""
    licence: str = "unknown"
    over: Annotated[str, AfterValidator(lambda text: checked_identifier(text) if text else "")] = ""
    """For an adapter: the id of the variant it runs over."""


class DownloadRequest(VariantRequest):
    """Download a file of the Hub: a GGUF, or adapter_model.safetensors with adapter_config.json in the same folder."""

    repo: Annotated[str, AfterValidator(names.checked_repo)]
    revision: Annotated[str, AfterValidator(names.checked_revision)] = "main"
    commit: str = Field("", pattern=r"^([0-9a-f]{40})?$")
    """The commit when the file was listed. It is downloaded even if the revision has changed since."""
    file: Annotated[str, AfterValidator(names.checked_model)]
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """As listed by the Hub. The file must have this checksum."""
    patience: float = Field(60.0, gt=0, le=3600)
    """Timeout: a transfer counts as stalled after so many seconds without a quarter of a megabyte."""


class ImportRequest(VariantRequest):
    """Import files of this machine: one GGUF, or the two files of a PEFT adapter."""

    paths: tuple[str, ...] = Field(min_length=1, max_length=2)
    """Absolute paths."""
    move: bool = False
    """Whether the source files are removed after the import."""


class VerifyRequest(BaseModel):
    """Compare the file of a variant with the checksum in its record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Identifier
    weights: str
