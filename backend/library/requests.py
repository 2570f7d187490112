"""What the library's workers are asked to do. The screen makes these; a wrong name is a LabError at once."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from backend.hub import names
from backend.library.weights_folder import checked_identifier
from models.variant import Method

Identifier = Annotated[str, AfterValidator(checked_identifier)]


class Arriving(BaseModel):
    """What is said of a variant that is to be placed in `weights`, a folder's absolute path."""

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


class DownloadRequest(Arriving):
    """A file of the Hub: a GGUF, or adapter_model.safetensors with its adapter_config.json beside it."""

    repo: Annotated[str, AfterValidator(names.checked_repo)]
    revision: Annotated[str, AfterValidator(names.checked_revision)] = "main"
    commit: str = Field("", pattern=r"^([0-9a-f]{40})?$")
    """What was seen when the file was chosen: if the revision has moved on since, this is fetched all the same."""
    file: Annotated[str, AfterValidator(names.checked_model)]
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """As it was listed; the file must have it."""
    patience: float = Field(60.0, gt=0, le=3600)
    """Seconds without a quarter of a megabyte after which a transfer counts as stalled."""


class ImportRequest(Arriving):
    """Files of this machine: one GGUF, or the two of a PEFT adapter."""

    paths: tuple[str, ...] = Field(min_length=1, max_length=2)
    """Absolute."""
    move: bool = False
    """Whether a GGUF is taken from where it is instead of copied."""


class VerifyRequest(BaseModel):
    """A variant whose file is to be read again and compared with what its record says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Identifier
    weights: str
