"""python -m backend.hub.list_files [--revision=REVISION] -- OWNER/NAME

Prints what a repository of the Hub holds as one JSON object (ask.Listing), or {"error": a sentence}.
"""

import argparse
import contextlib
import json
import re
import resource
import sys
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from backend.core.errors import LabError, shown
from backend.hub import client, names
from backend.hub.listing import RepositoryFile, RepositoryListing
from backend.hub.names import HubPath

MOST_FILES = 500
MOST_MEMORY = 2 << 30  # bytes of address space: a listing that never ends must not fill the machine
TIMEOUT = 8.0  # seconds without an answer; three attempts fit into the patience of who asks
QUANTISATION = re.compile(
    r"(?:^|[-_.])(I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|FP16|F32)(?=$|[-.])", re.I
)
SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.I)
HARMLESS = ("safe", "caution", "queued", "pending")  # words of the Hub's scan
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def quantisation_of(path: str) -> str:
    """`Q4_K_M` from the name of a file; empty when it says nothing."""
    stem = SHARD.sub("", path.rpartition("/")[2])
    found = QUANTISATION.findall(re.sub(r"\.gguf$", "", stem, flags=re.I))
    return re.sub("^FP", "F", found[-1].upper()) if found else ""


def why_not(path: str) -> str:
    """Why a GGUF cannot be a variant, as far as its name tells."""
    if shard := SHARD.search(path):
        return f"part {int(shard[1])} of {int(shard[2])}: models in several files do not run here"
    if re.search(r"(^|[-_./])mmproj", path, re.I):
        return "sees pictures for another model; it does not answer by itself"
    if re.search(r"imatrix", path, re.I):
        return "statistics for quantising, not a model"
    return ""


def flagged(info: ModelInfo) -> dict[str, str]:
    """Files that the Hub's own scan has something against, and its word for it; a word unknown here counts as bad."""
    status = info.security_repo_status if isinstance(info.security_repo_status, dict) else {}
    issues = [issue for issue in status.get("filesWithIssues") or [] if isinstance(issue, dict)]
    found = {str(issue.get("path")): str(issue.get("level"))[:20] for issue in issues}
    return {path: level for path, level in found.items() if level not in HARMLESS}


def file_of(sibling: RepoSibling, verdict: str) -> RepositoryFile:
    path = sibling.rfilename
    adapter = path.endswith(names.ADAPTER)
    return RepositoryFile(
        path=path,
        size=max(0, sibling.size or 0),
        sha256=sibling.lfs.sha256 if sibling.lfs else "",
        quantisation="" if adapter else quantisation_of(path),
        why=f"the Hub's scan calls it {shown(verdict)}" if verdict else "" if adapter else why_not(path),
    )


def listing_of(info: ModelInfo, place: HubPath) -> RepositoryListing:
    """What of the repository's files can be chosen. LabError when what answered is not the Hub."""
    if not names.COMMIT.fullmatch(info.sha or ""):
        raise LabError("What answers is not the Hub: it names no commit. Check HF_ENDPOINT, then try again.")
    siblings = info.siblings or []
    wanted = [one for one in siblings if names.usable_file(one.rfilename)]
    models = [one for one in wanted if one.rfilename.lower().endswith(".gguf")]
    paths = {one.rfilename for one in wanted}
    adapters = [one for one in wanted if is_adapter(one.rfilename, paths)]
    chosen = sorted(models or adapters, key=lambda one: one.rfilename)[:MOST_FILES]
    bad = flagged(info)
    gguf = info.gguf if isinstance(info.gguf, dict) else {}
    return RepositoryListing(
        repo=place.repo,
        revision=place.revision,
        commit=info.sha or "",
        licence=licence_of(info),
        gated=bool(info.gated),
        kind="gguf" if models else "adapter" if adapters else "neither",
        why="" if chosen else why_nothing(place.repo, [one.rfilename for one in siblings]),
        architecture=str(gguf.get("architecture") or "")[:100],
        base=base_of(info),
        files=tuple(file_of(one, bad.get(one.rfilename, "")) for one in chosen),
        left_out=len(siblings) - len(chosen),
    )


def is_adapter(path: str, paths: set[str]) -> bool:
    """Weights of a LoRA with its settings beside them."""
    folder, slash, name = path.rpartition("/")
    return name == names.ADAPTER and f"{folder}{slash}{names.SETTINGS}" in paths


def card_of(info: ModelInfo) -> dict[str, Any]:
    return dict(vars(info.card_data)) if info.card_data else {}


def licence_of(info: ModelInfo) -> str:
    found = card_of(info).get("license") or next(
        (tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")), "unknown"
    )
    return str(found)[:100]


def base_of(info: ModelInfo) -> str:
    """The model an adapter or a fine-tune was made from, as its owner names it."""
    found = card_of(info).get("base_model")
    config = info.config if isinstance(info.config, dict) else {}
    peft = config.get("peft")
    first = found[0] if isinstance(found, list) and found else found
    return str(first or (peft.get("base_model_name_or_path") if isinstance(peft, dict) else "") or "")[:200]


def why_nothing(repo: str, paths: list[str]) -> str:
    """What the repository has instead, and what to do."""
    if any(path.endswith("adapter_model.bin") for path in paths):
        return (
            f"{repo} holds an adapter as a pickle (.bin), which can run any code when it is read. Look for one saved "
            "as safetensors."
        )
    if any(path.endswith(".py") for path in paths):
        return f"{repo} needs program code of its own, which this app never runs. Look for a GGUF of that model."
    if any(path.endswith(".safetensors") for path in paths):
        return f"{repo} holds the model's weights but no GGUF. Search the Hub for its name with GGUF behind it."
    if any(path.endswith(PICKLES) for path in paths):
        return f"{repo} holds pickles only, which can run any code when they are read. Look for a GGUF of that model."
    return f"{repo} has no GGUF and no LoRA adapter this app could use. Choose another repository."


def told(place: HubPath) -> ModelInfo:
    """One request: everything at once."""
    return HfApi().model_info(
        place.repo, revision=place.revision, files_metadata=True, securityStatus=True, timeout=TIMEOUT
    )


def ask(place: HubPath) -> RepositoryListing:
    """What there is. LabError with the reason when it cannot be had."""
    try:
        return listing_of(client.retried(lambda: told(place)), place)
    except MemoryError:
        raise LabError(f"The list of {place.repo} is too long to be one of a model. Choose another.") from None
    except (KeyError, TypeError, AttributeError):
        raise LabError("What answers is not the Hub. Check HF_ENDPOINT, then try again.") from None
    except Exception as error:
        raise client.explained(error, place) from error


def main() -> int:
    parser = argparse.ArgumentParser(description="List a repository of the Hub.")
    parser.add_argument("repo")
    parser.add_argument("--revision", default="main")
    options = parser.parse_args()
    with contextlib.suppress(ValueError, OSError):  # macOS does not let one
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    client.prepare()
    try:
        place = HubPath(names.checked_repo(options.repo), names.checked_revision(options.revision))
        print(ask(place).model_dump_json())
    except LabError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
