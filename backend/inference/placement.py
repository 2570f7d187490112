"""Where a variant of the catalogue sits, and how it is spoken to."""

from typing import Literal

from backend.core.errors import LabError
from backend.inference.engines import ModelSpec, PromptFormat
from models.catalogue import Entry
from models.templates import templates

FormatChoice = Literal["as trained", "as its file says"]


def model_spec(entry: Entry, context: int) -> ModelSpec:
    """`context`: tokens of each conversation. LabError if the variant cannot run."""
    variant = entry.variant
    if not entry.runs:
        raise LabError(f"{variant.id} cannot run: it is {entry.state} ({entry.why}).")
    base = variant.over if entry.adapter else variant.id
    header = entry.base_header or entry.header
    return ModelSpec(variant.id, base, variant.runtime, entry.model, entry.adapter, header, context)


def prompt_format(entry: Entry, spoken: FormatChoice = "as trained") -> PromptFormat:
    """How to speak to it: the way it was trained, unless the other way is asked for on purpose."""
    name = entry.variant.template
    if name == "own" or spoken == "as its file says":
        return PromptFormat()
    if name not in templates():
        raise LabError(
            f"{entry.variant.id} was trained with the template {name!r}, which is not in models/templates.toml. "
            "Add it there, or talk to it as its file says."
        )
    return PromptFormat(name, templates()[name].source, templates()[name].stops)
