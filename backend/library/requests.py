"""Requests to the library's workers. A wrong name raises LabError when the request is created."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from backend.hub import names
from backend.library.weights_folder import checked_identifier
from models.variant import Variant

MOST_SETTINGS = 1_000_000  # bytes of adapter_config.json
Identifier = Annotated[str, AfterValidator(checked_identifier)]


class VariantRequest(BaseModel):
    """A new variant: its record as far as it is known, and the weights folder (an absolute path)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: Variant
    """For a download, `file` is the path in the repository, and `sha256` is the Hub's; size is not needed."""
    weights: str

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        checked_identifier(self.variant.id)
        if self.variant.over:
            checked_identifier(self.variant.over)
        return self

    @property
    def folder(self) -> Path:
        """The weights folder."""
        return Path(self.weights)


class DownloadRequest(VariantRequest):
    """Download a file of the Hub: a GGUF, or adapter_model.safetensors with adapter_config.json in the same folder.

    `variant.commit` is the commit when the file was listed: it is downloaded even if the revision has changed since.
    """

    timeout: float = Field(60.0, gt=0, le=3600)
    """A transfer counts as stalled after so many seconds without a quarter of a megabyte."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names.checked_repo(self.variant.repo)
        names.checked_revision(self.variant.revision)
        names.checked_model(self.variant.file)
        if not re.fullmatch(r"([0-9a-f]{40})?", self.variant.commit):
            raise ValueError("a commit has 40 hexadecimal digits")
        if not re.fullmatch(r"([0-9a-f]{64})?", self.variant.sha256):
            raise ValueError("a sha256 has 64 hexadecimal digits")
        return self


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
