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


def transfers(statuses: Sequence[TransferStatus], owner: bool = True) -> list[list[str]]:
    """A row for each under the headings of TRANSFERS. Why one failed may name files: that is for the owner."""
    return [
        [
            f"{VERBS.get(status.kind, status.kind)} {status.variant}",
            status.activity if status.state == "running" and status.activity else status.state,
            progress(status),
            f"{amount(int(status.speed))}/s" if status.speed and status.state == "running" else "",
            duration(status.left) if status.left and status.state == "running" else "",
            (owner and (status.why or status.note)) or outcome(status),
        ]
        for status in statuses
    ]


def progress(status: TransferStatus) -> str:
    if not status.total or not status.live:
        return ""
    share = min(1.0, status.done / status.total)
    bytes_done = f"{amount(status.done) or '0 B'} of {amount(status.total)}"
    counted = f"{status.done} of {status.total}" if status.kind == "speed" else bytes_done
    return f"{'█' * round(share * 12)}{'░' * (12 - round(share * 12))} {share:.0%} · {counted}"


def outcome(status: TransferStatus) -> str:
    """What came of it."""
    result = status.result
    match status.kind:
        case "download" if result.get("converted"):
            return (
                f"converted: {amount(result.get('size', 0))} over its base; what it was made from has the Hub's sha256"
            )
        case "bring" if result:
            return f"{amount(result.get('size', 0))}, checked and placed"
        case "download" if result.get("from_cache"):
            return "it was in the Hugging Face cache already; its sha256 is the Hub's"
        case "download" if result:
            return f"{amount(result.get('size', 0))} in {duration(result.get('seconds', 0))}; its sha256 is the Hub's"
        case "verify" if result:
            return "its sha256 is the one it came with"
        case "speed" if {"generation_speed", "prompt_speed"} <= result.keys():
            return f"writes {result['generation_speed']:.1f} tokens/s, reads {result['prompt_speed']:.1f}"
    return ""


def may_stop(statuses: Sequence[TransferStatus]) -> list[tuple[str, str]]:
    """The transfers that can be cancelled, as a list shows them and by id."""
    return [
        (f"{VERBS.get(status.kind, status.kind)} {status.variant}", status.id) for status in statuses if status.live
    ]


def loaded(models: Sequence[LoadedModel]) -> list[list[str]]:
    now = time.time()
    return [
        [
            model.name,
            "ready" if model.ready else "loading",
            amount(model.memory),
            duration(now - model.since),
            "in use" if model.answering else duration(now - model.used),
            str(model.answering or ""),
        ]
        for model in models
    ]


def speeds(speeds: Sequence[SpeedResult]) -> list[list[str]]:
    return [
        [
            speed.id,
            speed.quantisation,
            amount(speed.size),
            f"{speed.prompt_speed:.1f}",
            f"{speed.generation_speed:.1f}",
            amount(speed.memory),
            str(speed.threads),
            speed.machine,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(speed.at)),
        ]
        for speed in speeds
    ]


def listing(listing: RepositoryListing, free: int, disk: int) -> str:
    """What a repository holds, above the list of its files."""
    at = f"{plain(listing.revision)} (commit {plain(listing.commit[:12])})"
    facts = [f"**{plain(listing.repo)}** at {at}: {KINDS[listing.kind]}"]
    facts += [plain(listing.why)] if listing.why else []
    facts += [f"licence {plain(listing.licence)}"] if listing.licence != "unknown" else []
    facts += [f"architecture {plain(listing.architecture)}"] if listing.architecture else []
    facts += [f"made from {plain(listing.base)}"] if listing.base else []
    facts += ["gated: its licence must be accepted on its page first"] if listing.gated else []
    facts += [f"{listing.left_out} other files are left out"] if listing.left_out else []
    if listing.files:
        facts.append(f"this machine has {amount(free)} of memory and {amount(disk)} of disk free")
    return " · ".join(facts)


def files(listing: RepositoryListing, free: int, disk: int, guess: Callable[[int], int]) -> list[tuple[str, str]]:
    """The files of a listing, each with what it costs and whether it fits; those that cannot be used come last."""
    ordered = sorted(listing.files, key=lambda file: (bool(file.why), file.size))
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


def description(details: VariantDetails, owner: bool = True) -> str:
    """A variant's details as markdown. What is wrong with it is for the owner."""
    rows = [f"**{plain(details.id)}** · {state_of(details) if owner else plain(details.state)}"]
    rows += [f"- {plain(name)}: {plain(value)}" for name, value in details.facts.items() if value]
    if details.page:
        rows.append(f"- {link('Its page on the Hub', details.page)}")
    return "\n".join(rows)


def state_of(details: VariantDetails) -> str:
    return plain(f"{details.state}: {details.why}" if details.why else details.state)
