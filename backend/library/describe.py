"""Collects everything that is known about one variant, for the details panel."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backend.core.units import amount
from backend.inference import memory
from models.catalogue import Entry
from models.check import Header

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class VariantDetails:
    """The details of a variant. `facts`: name -> text. `header`: [name, value] of each field of the file."""

    id: str
    state: str
    why: str
    page: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    header: list[list[str]] = field(default_factory=list)
    template: str = ""


def describe(entry: Entry, entries: Sequence[Entry], context: int, slots: int) -> VariantDetails:
    """Collect the details from the record and the header. `context`: tokens. `slots`: concurrent conversations."""
    variant, header = entry.variant, entry.header
    facts = {"About": variant.about, "Licence": variant.licence, "Base": variant.base, "Runs over": variant.over}
    if header is not None:
        facts |= {
            "Architecture": header.architecture + (", a LoRA adapter" if header.is_adapter else ""),
            "Parameters": f"{header.parameters:,}" if header.parameters else "",
            "Quantisation": variant.quantisation or tensor_types(header.types),
            "Vocabulary": f"{header.vocabulary:,} tokens" if header.vocabulary else "",
            "Pre-tokenizer": pre_tokenizer_note(header),
            "Context": f"trained for {header.context:,} tokens, {min(context, header.context):,} used here"
            if header.context
            else "",
            "Memory": memory_text(entry, context, slots),
            "Chat template": template_note(entry, entries),
        }
    facts |= {"Trained on the template": "" if variant.template == "own" else variant.template}
    if variant.sha256:
        facts["Verified"] = f"sha256 {variant.sha256}, {verified_date(entry)}"
    if variant.repo:
        at = f" (commit {variant.commit})" if variant.commit else ""
        facts["From"] = f"{variant.repo}, {variant.revision}{at}"
    return VariantDetails(
        id=variant.id,
        state=entry.state,
        why=entry.why,
        page=f"{HUB}/{variant.repo}" if variant.repo else "",  # a mirror in HF_ENDPOINT is private
        facts=facts,
        header=fields(entry),
        template=header.template if header else "",
    )


def tensor_types(types: dict[str, int]) -> str:
    """For example "Q4_K in 100 tensors, F32 in 49 tensors"."""
    ordered = sorted(types.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} in {count} tensors" for name, count in ordered)


def memory_text(entry: Entry, context: int, slots: int) -> str:
    """The memory that the variant needs, in words; empty if it is not known."""
    header = entry.base_header or entry.header
    if header is None or entry.model is None or not entry.model.exists():
        return ""
    need = memory.memory_need(header, entry.model.stat().st_size, context, slots)
    return (
        f"{amount(need.total)}: {amount(need.weights)} of weights, {amount(need.cache)} for {slots} conversations of "
        f"{min(context, header.context or context):,} tokens, {amount(need.compute)} to compute"
    )


def template_note(entry: Entry, entries: Sequence[Entry]) -> str:
    """Compares the variant's chat template with that of its base, in words."""
    header = entry.header
    if header is None or header.is_adapter:
        return f"that of {entry.variant.over}, over which it runs" if entry.variant.over else ""
    if not header.template:
        return "missing: the file does not state the prompt format that it was trained on"
    base = base_of(entry, entries)
    if base is None or base.header is None:
        return "in the file; its base is not downloaded, so the two templates cannot be compared"
    same = base.header.template == header.template
    return f"the same as that of {base.variant.id}" if same else f"different from that of {base.variant.id}, its base"


def pre_tokenizer_note(header: Header) -> str:
    """A warning if the file does not name the rules that split text before BPE; otherwise empty."""
    if header.keys.get("tokenizer.ggml.model") != "gpt2" or header.keys.get("tokenizer.ggml.pre"):
        return ""
    return (
        "not named in the file, so llama.cpp uses its default: it may split numbers and spaces in another way than in "
        "the training, which makes answers worse. Convert the model again with a newer converter."
    )


def base_of(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    """The variant on this machine that is the base model of this one; None if there is none."""
    name = entry.variant.base
    bases = [other for other in entries if other.runs and other.variant.method == "base" and other is not entry]
    return next((other for other in bases if name and name in (other.variant.base, other.variant.id)), None)


def verified_date(entry: Entry) -> str:
    """When the checksum was compared, in words."""
    record = (entry.adapter or entry.model or Path()).parent / "variant.json"
    try:
        return time.strftime("compared on %Y-%m-%d", time.localtime(record.stat().st_mtime))
    except OSError:
        return "compared when it was downloaded"


def fields(entry: Entry) -> list[list[str]]:
    """[name, value] of every field of the header, in the file's order. A list is described, not shown."""
    if entry.header is None:
        return []
    values = entry.header.keys | entry.header.lists
    return [[name, str(value)[:300]] for name, value in values.items()]
