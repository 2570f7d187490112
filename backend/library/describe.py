"""Everything that is known of one variant, for whoever wants to look closely."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backend.core.machine import amount
from backend.inference import memory
from models.catalogue import Entry

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class VariantDetails:
    """`facts` are sentences by name, `header` every field of the file as [name, value], `template` the file's own."""

    id: str
    state: str
    why: str
    page: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    header: list[list[str]] = field(default_factory=list)
    template: str = ""


def describe(entry: Entry, entries: Sequence[Entry], context: int, slots: int) -> VariantDetails:
    """What the record and the file's header say, and what follows from them."""
    variant, header = entry.variant, entry.header
    facts = {"About": variant.about, "Licence": variant.licence, "Base": variant.base, "Runs over": variant.over}
    if header is not None:
        facts |= {
            "Architecture": header.architecture + (", a LoRA adapter" if header.is_adapter else ""),
            "Parameters": f"{header.parameters:,}" if header.parameters else "",
            "Quantisation": variant.quantisation or mixture(header.types),
            "Vocabulary": f"{header.vocabulary:,} tokens" if header.vocabulary else "",
            "Context": f"trained for {header.context:,} tokens, {min(context, header.context):,} used here"
            if header.context
            else "",
            "Memory": sum_of(entry, context, slots),
            "Chat template": template_told(entry, entries),
        }
    facts |= {"Trained on the template": "" if variant.template == "own" else variant.template}
    if variant.sha256:
        facts["Verified"] = f"sha256 {variant.sha256}, {verified(entry)}"
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


def mixture(types: dict[str, int]) -> str:
    """Q4_K in 100 tensors, F32 in 49."""
    ordered = sorted(types.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} in {count} tensors" for name, count in ordered)


def sum_of(entry: Entry, context: int, slots: int) -> str:
    """The memory sum in words."""
    header = entry.base_header or entry.header
    if header is None or entry.model is None or not entry.model.exists():
        return ""
    found = memory.memory_need(header, entry.model.stat().st_size, context, slots)
    return (
        f"{amount(found.total)}: {amount(found.weights)} of weights, {amount(found.cache)} for {slots} "
        f"conversations of {min(context, header.context or context):,} tokens, {amount(found.compute)} to compute"
    )


def template_told(entry: Entry, entries: Sequence[Entry]) -> str:
    """Its chat template beside its base's own: same, different or missing, or why that cannot be told."""
    header = entry.header
    if header is None or header.is_adapter:
        return f"that of {entry.variant.over}, over which it runs" if entry.variant.over else ""
    if not header.template:
        return "missing: how it was trained to be spoken to is not known from the file"
    base = base_of(entry, entries)
    if base is None or base.header is None:
        return "its own; its base is not here beside it, so the two cannot be compared"
    same = base.header.template == header.template
    return f"the same as that of {base.variant.id}" if same else f"different from that of {base.variant.id}, its base"


def base_of(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    """Another variant here that is the model this one was made from."""
    wanted = entry.variant.base
    bases = [other for other in entries if other.runs and other.variant.method == "base" and other is not entry]
    return next((other for other in bases if wanted and wanted in (other.variant.base, other.variant.id)), None)


def verified(entry: Entry) -> str:
    """Since when."""
    record = (entry.adapter or entry.model or Path()).parent / "variant.json"
    try:
        return time.strftime("compared on %Y-%m-%d", time.localtime(record.stat().st_mtime))
    except OSError:
        return "compared when it arrived"


def fields(entry: Entry) -> list[list[str]]:
    """Every field of the header, in the file's order; lists by what they hold."""
    if entry.header is None:
        return []
    named = entry.header.keys | entry.header.lists
    return [[name, str(value)[:300]] for name, value in named.items()]
