"""Pure formatting for the Library: variants, transfers, loaded models, speeds. Knows no gradio."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from app.markup import link, plain
from backend.core.units import amount, duration
from backend.hub.listing import RepositoryFile, RepositoryListing
from backend.inference.engine import LoadedModel
from backend.library.describe import VariantDetails
from backend.library.status import SpeedResult, TransferStatus
from models.catalogue import Entry

LIBRARY = ["variant", "state", "about, or what to do", "quantised", "size", "memory", "template", "method", "base",
           "licence"]  # fmt: skip
WIDTHS = ["11%", "9%", "24%", "8%", "7%", "7%", "7%", "6%", "12%", "9%"]
TRANSFERS = ["what", "state", "progress", "speed", "time left", "what to know"]
TRANSFER_WIDTHS = ["17%", "10%", "27%", "9%", "8%", "29%"]
LOADED = ["model", "state", "memory", "loaded for", "unused for", "answering"]
SPEEDS = ["variant", "quantised", "size", "reads, tokens/s", "writes, tokens/s", "peak memory", "threads", "machine",
          "measured"]  # fmt: skip
KINDS = {"gguf": "GGUF models", "adapter": "a LoRA adapter, converted on arrival", "neither": "nothing to use"}
VERBS = {"download": "download", "bring": "bring", "verify": "verify", "speed": "speed test"}


def library(entries: Sequence[Entry], need: Callable[[Entry], int], owner: bool = True) -> list[list[Any]]:
    """A row per variant, those that run first, under the headings of LIBRARY. `need` tells bytes of memory. What is
    wrong with a file may name files of this machine: that is for the owner."""
    wrong = ("damaged", "crashes the loader", "needs its base") if owner else ()
    return [
        [
            entry.variant.id,
            state(entry),
            entry.why if entry.state in wrong else entry.variant.about,
            entry.variant.quantisation,
            amount(entry.variant.size),
            amount(need(entry)),
            "its own" if entry.variant.template == "own" else entry.variant.template,
            entry.variant.method,
            f"over {entry.variant.over}" if entry.variant.over else entry.variant.base,
            entry.variant.licence,
        ]
        for entry in sorted(entries, key=lambda entry: not entry.runs)
    ]


def state(entry: Entry) -> str:
    """In a word or two: what arrives says how far it is."""
    return entry.why if entry.state == "arriving" else entry.state


def room(memory: int, disk: int) -> str:
    """What this machine has left."""
    return f"Free on this machine: **{amount(memory) or '0 B'}** of memory, **{amount(disk) or '0 B'}** of disk."


def transfers(found: Sequence[TransferStatus], owner: bool = True) -> list[list[str]]:
    """A row for each under the headings of TRANSFERS. Why one failed may name files: that is for the owner."""
    return [
        [
            f"{VERBS.get(one.kind, one.kind)} {one.variant}",
            one.activity if one.state == "running" and one.activity else one.state,
            progress(one),
            f"{amount(int(one.speed))}/s" if one.speed and one.state == "running" else "",
            duration(one.left) if one.left and one.state == "running" else "",
            (owner and (one.why or one.note)) or outcome(one),
        ]
        for one in found
    ]


def progress(one: TransferStatus) -> str:
    if not one.total or not one.live:
        return ""
    share = min(1.0, one.done / one.total)
    bytes_done = f"{amount(one.done) or '0 B'} of {amount(one.total)}"
    counted = f"{one.done} of {one.total}" if one.kind == "speed" else bytes_done
    return f"{'█' * round(share * 12)}{'░' * (12 - round(share * 12))} {share:.0%} · {counted}"


def outcome(one: TransferStatus) -> str:
    """What came of it."""
    found = one.result
    match one.kind:
        case "download" if found.get("converted"):
            return (
                f"converted: {amount(found.get('size', 0))} over its base; what it was made from has the Hub's sha256"
            )
        case "bring" if found:
            return f"{amount(found.get('size', 0))}, checked and placed"
        case "download" if found.get("from_cache"):
            return "it was in the Hugging Face cache already; its sha256 is the Hub's"
        case "download" if found:
            return f"{amount(found.get('size', 0))} in {duration(found.get('seconds', 0))}; its sha256 is the Hub's"
        case "verify" if found:
            return "its sha256 is the one it came with"
        case "speed" if {"generation_speed", "prompt_speed"} <= found.keys():
            return f"writes {found['generation_speed']:.1f} tokens/s, reads {found['prompt_speed']:.1f}"
    return ""


def may_stop(found: Sequence[TransferStatus]) -> list[tuple[str, str]]:
    """The transfers that can be cancelled, as a list shows them and by id."""
    return [(f"{VERBS.get(one.kind, one.kind)} {one.variant}", one.id) for one in found if one.live]


def loaded(found: Sequence[LoadedModel]) -> list[list[str]]:
    now = time.time()
    return [
        [
            one.name,
            "ready" if one.ready else "loading",
            amount(one.memory),
            duration(now - one.since),
            "in use" if one.answering else duration(now - one.used),
            str(one.answering or ""),
        ]
        for one in found
    ]


def speeds(found: Sequence[SpeedResult]) -> list[list[str]]:
    return [
        [
            one.id,
            one.quantisation,
            amount(one.size),
            f"{one.prompt_speed:.1f}",
            f"{one.generation_speed:.1f}",
            amount(one.memory),
            str(one.threads),
            one.machine,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(one.at)),
        ]
        for one in found
    ]


def listing(found: RepositoryListing, free: int, disk: int) -> str:
    """What a repository holds, above the list of its files."""
    at = f"{plain(found.revision)} (commit {plain(found.commit[:12])})"
    facts = [f"**{plain(found.repo)}** at {at}: {KINDS[found.kind]}"]
    facts += [plain(found.why)] if found.why else []
    facts += [f"licence {plain(found.licence)}"] if found.licence != "unknown" else []
    facts += [f"architecture {plain(found.architecture)}"] if found.architecture else []
    facts += [f"made from {plain(found.base)}"] if found.base else []
    facts += ["gated: its licence must be accepted on its page first"] if found.gated else []
    facts += [f"{found.left_out} other files are left out"] if found.left_out else []
    if found.files:
        facts.append(f"this machine has {amount(free)} of memory and {amount(disk)} of disk free")
    return " · ".join(facts)


def files(found: RepositoryListing, free: int, disk: int, guess: Callable[[int], int]) -> list[tuple[str, str]]:
    """The files of a listing, each with what it costs and whether it fits; those that cannot be used come last."""
    ordered = sorted(found.files, key=lambda file: (bool(file.why), file.size))
    return [(file_option(file, free, disk, guess), file.path) for file in ordered]


def file_option(file: RepositoryFile, free: int, disk: int, guess: Callable[[int], int]) -> str:
    facts = [file.path, file.quantisation, amount(file.size)]
    if file.why:
        facts.append(f"✗ {file.why}")
    elif file.size > disk:
        facts.append("✗ the disk is too full for it")
    elif guess(file.size) > free:
        facts.append(f"✗ needs about {amount(guess(file.size))} of memory")
    else:
        facts.append(f"✓ fits (about {amount(guess(file.size))} of memory)")
    return " · ".join(filter(None, facts))


def description(found: VariantDetails, owner: bool = True) -> str:
    """A variant's details as markdown. What is wrong with it is for the owner."""
    rows = [f"**{plain(found.id)}** · {state_of(found) if owner else plain(found.state)}"]
    rows += [f"- {plain(name)}: {plain(value)}" for name, value in found.facts.items() if value]
    if found.page:
        rows.append(f"- {link('Its page on the Hub', found.page)}")
    return "\n".join(rows)


def state_of(found: VariantDetails) -> str:
    return plain(f"{found.state}: {found.why}" if found.why else found.state)
