"""Where a variant runs (`ModelSpec`), and how its prompts are written (`PromptFormat`)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from backend.core.errors import LabError
from models.catalogue import Entry
from models.check import Header
from models.templates import templates

FormatChoice = Literal["as trained", "as its file says"]


@dataclass(frozen=True)
class ModelSpec:
    """The runtime and files of a variant.

    `name` and `base` are ids: of the variant, and of the base model it runs over. `model` is the base's GGUF, `adapter`
    the LoRA over it. `header` is the base's, for the estimate of memory; `context` is tokens per conversation.
    """

    name: str
    base: str
    runtime: str
    model: Path | None = None
    adapter: Path | None = None
    header: Header | None = field(default=None, compare=False)
    context: int = 0


@dataclass(frozen=True)
class PromptFormat:
    """A chat template: its name, its Jinja source (empty: the one in the GGUF), and its stop texts."""

    name: str = "own"
    source: str = ""
    stops: tuple[str, ...] = ()


def model_spec(entry: Entry, context: int) -> ModelSpec:
    """`context`: tokens of each conversation. LabError if the variant cannot run."""
    variant = entry.variant
    if not entry.runs:
        raise LabError(f"{variant.id} cannot run ({entry.state}): {entry.why}.", "not_loaded")
    base = variant.over if entry.adapter else variant.id
    header = entry.base_header or entry.header
    return ModelSpec(variant.id, base, variant.runtime, entry.model, entry.adapter, header, context)


def prompt_format(entry: Entry, choice: FormatChoice = "as trained") -> PromptFormat:
    """The format that the variant was trained with, or the one in its GGUF. LabError if the name is unknown."""
    name = entry.variant.template
    if name == "own" or choice == "as its file says":
        return PromptFormat()
    if name not in templates():
        raise LabError(
            f"{entry.variant.id} was trained with the template {name!r}, which is not in models/templates.toml. "
            "Add it there, or choose the prompt format “as its file says”."
        )
    return PromptFormat(name, templates()[name].source, templates()[name].stops)
