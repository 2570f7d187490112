"""The texts and tables of the Library tab: variants, transfers, loaded models, speeds. No gradio."""

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

LIBRARY = ["variant", "state", "about, or fault", "quantised", "size", "memory", "template", "method", "base",
           "licence"]  # fmt: skip
WIDTHS = ["11%", "9%", "24%", "8%", "7%", "7%", "7%", "6%", "12%", "9%"]
TRANSFERS = ["transfer", "state", "progress", "speed", "time left", "note"]
TRANSFER_WIDTHS = ["17%", "10%", "27%", "9%", "8%", "29%"]
LOADED = ["model", "state", "memory", "loaded for", "unused for", "answering"]
SPEEDS = ["variant", "quantised", "size", "prompt, tokens/s", "generation, tokens/s", "peak memory", "threads",
          "machine", "measured"]  # fmt: skip
KINDS = {
    "gguf": "GGUF models",
    "adapter": "a LoRA adapter, which is converted after the download",
    "neither": "no usable files",
}
VERBS = {"download": "download", "bring": "import", "verify": "verify", "speed": "speed test"}


def library(entries: Sequence[Entry], need: Callable[[Entry], int], owner: bool = True) -> list[list[Any]]:
    """A row per variant, those that can run first; headings are LIBRARY. `need` returns bytes of memory.

    Faults may have names of files on this machine, so only the owner sees them.
    """
    faulty = ("damaged", "crashes the loader", "needs its base") if owner else ()
    return [
        [
            entry.variant.id,
            state(entry),
            entry.why if entry.state in faulty else entry.variant.about,
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
    """The state of a variant; for one that is being downloaded, the progress."""
    return entry.why if entry.state == "arriving" else entry.state


def free_space(memory: int, disk: int) -> str:
    """Free memory and disk of this machine."""
    return f"Free on this machine: **{amount(memory) or '0 B'}** of memory, **{amount(disk) or '0 B'}** of disk."


def transfers(statuses: Sequence[TransferStatus], owner: bool = True) -> list[list[str]]:
    """A row per transfer; headings are TRANSFERS. Only the owner sees reasons, which may have names of files."""
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
    """The result of a transfer, in a sentence."""
    result = status.result
    match status.kind:
        case "download" if result.get("converted"):
            return f"converted to {amount(result.get('size', 0))} of GGUF; the sha256 of its source is that of the Hub"
        case "bring" if result:
            return f"{amount(result.get('size', 0))}, checked and registered"
        case "download" if result.get("from_cache"):
            return "it was in the Hugging Face cache already; its sha256 is that of the Hub"
        case "download" if result:
            size, seconds = amount(result.get("size", 0)), duration(result.get("seconds", 0))
            return f"{size} in {seconds}; its sha256 is that of the Hub"
        case "verify" if result:
            return "its sha256 has not changed"
        case "speed" if {"generation_speed", "prompt_speed"} <= result.keys():
            return f"generation {result['generation_speed']:.1f} tokens/s, prompt {result['prompt_speed']:.1f} tokens/s"
    return ""


def live(statuses: Sequence[TransferStatus]) -> list[tuple[str, str]]:
    """Label and id of the transfers that can be cancelled."""
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
    """A summary of a repository, in a line."""
    at = f"{plain(listing.revision)} (commit {plain(listing.commit[:12])})"
    facts = [f"**{plain(listing.repo)}** at {at}: {KINDS[listing.kind]}"]
    facts += [plain(listing.why)] if listing.why else []
    facts += [f"licence {plain(listing.licence)}"] if listing.licence != "unknown" else []
    facts += [f"architecture {plain(listing.architecture)}"] if listing.architecture else []
    facts += [f"base {plain(listing.base)}"] if listing.base else []
    facts += ["gated: accept its licence on its page first"] if listing.gated else []
    facts += [f"{listing.left_out} other files are not listed"] if listing.left_out else []
    if listing.files:
        facts.append(f"this machine has {amount(free)} of memory and {amount(disk)} of disk free")
    return " · ".join(facts)


def files(listing: RepositoryListing, free: int, disk: int, guess: Callable[[int], int]) -> list[tuple[str, str]]:
    """Label and path of the files of a listing, with their size and whether they fit. Unusable files come last."""
    ordered = sorted(listing.files, key=lambda file: (bool(file.why), file.size))
    return [(file_option(file, free, disk, guess), file.path) for file in ordered]


def file_option(file: RepositoryFile, free: int, disk: int, guess: Callable[[int], int]) -> str:
    facts = [file.path, file.quantisation, amount(file.size)]
    if file.why:
        facts.append(f"✗ {file.why}")
    elif file.size > disk:
        facts.append("✗ not enough free disk space")
    elif guess(file.size) > free:
        facts.append(f"✗ needs about {amount(guess(file.size))} of memory")
    else:
        facts.append(f"✓ fits (about {amount(guess(file.size))} of memory)")
    return " · ".join(filter(None, facts))


def description(details: VariantDetails, owner: bool = True) -> str:
    """The details of a variant, in Markdown. Only the owner sees its faults."""
    rows = [f"**{plain(details.id)}** · {state_of(details) if owner else plain(details.state)}"]
    rows += [f"- {plain(name)}: {plain(value)}" for name, value in details.facts.items() if value]
    if details.page:
        rows.append(f"- {link('Its page on the Hub', details.page)}")
    return "\n".join(rows)


def state_of(details: VariantDetails) -> str:
    return plain(f"{details.state}: {details.why}" if details.why else details.state)
