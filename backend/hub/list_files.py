"""python -m backend.hub.list_files [--revision=REVISION] -- OWNER/NAME

Prints the files of a Hub repository as one JSON object (`listing.RepositoryListing`), or {"error": a sentence}.
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
MOST_MEMORY = 2 << 30  # bytes of address space, because an endless listing could fill the memory
TIMEOUT = 8.0  # seconds; three attempts fit into the timeout of `list_repository`
QUANTISATION = re.compile(
    r"(?:^|[-_.])(I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|FP16|F32)(?=$|[-.])", re.I
)
SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.I)
HARMLESS = ("safe", "caution", "queued", "pending")  # levels of the Hub's security scan
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def quantisation_of(path: str) -> str:
    """The quantisation in a file name, such as `Q4_K_M`; empty if there is none."""
    stem = SHARD.sub("", path.rpartition("/")[2])
    matches = QUANTISATION.findall(re.sub(r"\.gguf$", "", stem, flags=re.I))
    return re.sub("^FP", "F", matches[-1].upper()) if matches else ""


def why_not(path: str) -> str:
    """Why a GGUF cannot be a variant, judging by its name; empty if it can."""
    if shard := SHARD.search(path):
        return f"part {int(shard[1])} of {int(shard[2])}: models in several files are not supported"
    if re.search(r"(^|[-_./])mmproj", path, re.I):
        return "image encoder for another model, not a language model"
    if re.search(r"imatrix", path, re.I):
        return "statistics for quantisation, not a model"
    return ""


def flagged(info: ModelInfo) -> dict[str, str]:
    """File -> level, for files that the Hub's security scan warns about. An unknown level counts as a warning."""
    status = info.security_repo_status if isinstance(info.security_repo_status, dict) else {}
    issues = [issue for issue in status.get("filesWithIssues") or [] if isinstance(issue, dict)]
    levels = {str(issue.get("path")): str(issue.get("level"))[:20] for issue in issues}
    return {path: level for path, level in levels.items() if level not in HARMLESS}


def file_of(sibling: RepoSibling, verdict: str) -> RepositoryFile:
    path = sibling.rfilename
    adapter = path.endswith(names.ADAPTER)
    return RepositoryFile(
        path=path,
        size=max(0, sibling.size or 0),
        sha256=sibling.lfs.sha256 if sibling.lfs else "",
        quantisation="" if adapter else quantisation_of(path),
        why=f"the Hub's security scan says {shown(verdict)}" if verdict else "" if adapter else why_not(path),
    )


def listing_of(info: ModelInfo, path: HubPath) -> RepositoryListing:
    """The files of the repository that can be chosen. Raises LabError if the response is not the Hub's."""
    if not names.COMMIT.fullmatch(info.sha or ""):
        raise LabError("The server is not the Hub: its response has no commit. Check HF_ENDPOINT, then try again.")
    siblings = info.siblings or []
    usable = [sibling for sibling in siblings if names.usable_file(sibling.rfilename)]
    models = [sibling for sibling in usable if sibling.rfilename.lower().endswith(".gguf")]
    paths = {sibling.rfilename for sibling in usable}
    adapters = [sibling for sibling in usable if is_adapter(sibling.rfilename, paths)]
    chosen = sorted(models or adapters, key=lambda sibling: sibling.rfilename)[:MOST_FILES]
    warnings = flagged(info)
    gguf = info.gguf if isinstance(info.gguf, dict) else {}
    return RepositoryListing(
        repo=path.repo,
        revision=path.revision,
        commit=info.sha or "",
        licence=licence_of(info),
        gated=bool(info.gated),
        kind="gguf" if models else "adapter" if adapters else "neither",
        why="" if chosen else why_nothing(path.repo, [sibling.rfilename for sibling in siblings]),
        architecture=str(gguf.get("architecture") or "")[:100],
        base=base_of(info),
        files=tuple(file_of(sibling, warnings.get(sibling.rfilename, "")) for sibling in chosen),
        left_out=len(siblings) - len(chosen),
    )


def is_adapter(path: str, paths: set[str]) -> bool:
    """Whether the path is the weights of a LoRA adapter with its settings in the same folder."""
    folder, slash, name = path.rpartition("/")
    return name == names.ADAPTER and f"{folder}{slash}{names.SETTINGS}" in paths


def card_of(info: ModelInfo) -> dict[str, Any]:
    return dict(vars(info.card_data)) if info.card_data else {}


def licence_of(info: ModelInfo) -> str:
    licence = card_of(info).get("license") or next(
        (tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")), "unknown"
    )
    return str(licence)[:100]


def base_of(info: ModelInfo) -> str:
    """The base model of an adapter or a fine-tune, as its owner names it; empty if it is not stated."""
    base = card_of(info).get("base_model")
    config = info.config if isinstance(info.config, dict) else {}
    peft = config.get("peft")
    first = base[0] if isinstance(base, list) and base else base
    return str(first or (peft.get("base_model_name_or_path") if isinstance(peft, dict) else "") or "")[:200]


def why_nothing(repo: str, paths: list[str]) -> str:
    """The sentence for a repository without a usable file: what it contains, and what to do."""
    if any(path.endswith("adapter_model.bin") for path in paths):
        return (
            f"{repo} has an adapter as a pickle (.bin), which can run any code when it is loaded. Look for one saved "
            "as safetensors."
        )
    if any(path.endswith(".py") for path in paths):
        return f"{repo} needs its own program code, which this app never runs. Look for a GGUF of that model."
    if any(path.endswith(".safetensors") for path in paths):
        return f"{repo} has the model's weights but no GGUF. Search the Hub for its name followed by GGUF."
    if any(path.endswith(PICKLES) for path in paths):
        return f"{repo} has only pickles, which can run any code when they are loaded. Look for a GGUF of that model."
    return f"{repo} has no GGUF and no LoRA adapter that this app can use. Choose another repository."


def model_info(path: HubPath) -> ModelInfo:
    """Get everything about the repository with one request."""
    return HfApi().model_info(
        path.repo, revision=path.revision, files_metadata=True, securityStatus=True, timeout=TIMEOUT
    )


def list_files(path: HubPath) -> RepositoryListing:
    """List the repository. Raises LabError with the reason if that is not possible."""
    try:
        return listing_of(client.with_retries(lambda: model_info(path)), path)
    except MemoryError:
        raise LabError(
            f"The file list of {path.repo} is too long for a model repository. Choose another repository."
        ) from None
    except (KeyError, TypeError, AttributeError):
        raise LabError("The server is not the Hub. Check HF_ENDPOINT, then try again.") from None
    except Exception as error:
        raise client.lab_error(error, path) from error


def main() -> int:
    parser = argparse.ArgumentParser(description="List a repository of the Hub.")
    parser.add_argument("repo")
    parser.add_argument("--revision", default="main")
    options = parser.parse_args()
    with contextlib.suppress(ValueError, OSError):  # macOS does not allow it
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    client.prepare()
    try:
        path = HubPath(names.checked_repo(options.repo), names.checked_revision(options.revision))
        print(list_files(path).model_dump_json())
    except LabError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
