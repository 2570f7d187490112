"""Checks names of repositories, revisions and files against allow-lists. Uses no network and no disk."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from backend.core.errors import LabError, shown
from models import variant

REPO_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
COMMIT = re.compile(r"[0-9a-f]{40}")
STEP = re.compile(r"[A-Za-z0-9_.+=,@()\[\]][A-Za-z0-9_.+=,@()\[\]-]*")  # a folder or a file name; not starting with `-`
LONGEST_PATH = 255
LONGEST_TEXT = 1000
ENDINGS = (".gguf", ".safetensors", ".json")
ADAPTER, SETTINGS = "adapter_model.safetensors", "adapter_config.json"  # the names that PEFT uses for its two files
HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co")
HOW = "Type owner/name or owner/name@revision, or paste the address of its page"


@dataclass(frozen=True)
class HubPath:
    """A repository on the Hub at a revision, or one of its files."""

    repo: str
    revision: str = "main"
    file: str = ""


def parse(text: str, endpoint: str = "") -> HubPath:
    """Parse a name or an address that a person typed or pasted.

    `endpoint` is HF_ENDPOINT: addresses there are accepted, too. Raises LabError if the text is no valid name.
    """
    text = text.strip()
    if len(text) > LONGEST_TEXT:
        raise LabError(f"The name is {len(text):,} characters long, which is too long for a repository. {HOW}.")
    address = re.sub(r"^https?://", "", text, flags=re.IGNORECASE)
    for host in (*HOSTS, _host(endpoint)):
        if host and address.lower().startswith(host.lower() + "/"):
            return _of_page(address[len(host) + 1 :])
    if "://" in text:
        raise LabError(f"{shown(text)} is not an address of the Hugging Face Hub. {HOW}.")
    repo, _, revision = text.partition("@")
    if ":" in repo:
        raise LabError(f"{shown(text)} contains a colon. Remove it and what follows; the file is chosen later.")
    return HubPath(checked_repo(repo), checked_revision(revision) if "@" in text else "main")


def _host(endpoint: str) -> str:
    parts = urlsplit(endpoint.strip())
    return parts.netloc + parts.path.rstrip("/")


def _of_page(path: str) -> HubPath:
    """Parse `owner/name[/tree|blob|resolve/REVISION[/PATH]]`, the path of an address."""
    steps = [unquote(step) for step in re.split(r"[?#]", path, maxsplit=1)[0].strip("/").split("/")]
    repo = checked_repo("/".join(steps[:2]))
    match steps[2:]:
        case []:
            return HubPath(repo)
        case ["tree" | "blob" | "resolve" as kind, *rest] if rest:
            # only the Hub's own references, such as refs/pr/1, contain a slash
            length = 3 if rest[:1] == ["refs"] and "/" not in rest[0] else 1
            revision, file = checked_revision("/".join(rest[:length])), "/".join(rest[length:])
            return HubPath(repo, revision, checked_file(file) if file and kind != "tree" else "")
        case _:
            raise LabError(f"This address is neither a model's page nor one of its files. {HOW}.")


def checked_repo(text: str) -> str:
    """Return the id of a repository. Raises LabError if the Hub does not allow it."""
    parts = text.split("/")
    if len(parts) != 2 or not all(_is_part(part) for part in parts):
        raise LabError(f"{shown(text)} is not the name of a repository on the Hub. {HOW}.")
    return text


def _is_part(part: str) -> bool:
    return bool(REPO_PART.fullmatch(part)) and not re.search(r"--|\.\.|[.-]$|\.git$", part)


def checked_revision(text: str) -> str:
    """Return a branch, a tag or a commit. Raises LabError if it is not valid."""
    if not REVISION.fullmatch(text) or ".." in text or "//" in text or text.endswith(("/", ".", ".lock")):
        raise LabError(f"{shown(text)} is not a branch, a tag or a commit. Type main, or the 40 digits of a commit.")
    return text


def usable_file(path: str) -> bool:
    """Whether a file's path in a repository is safe to write to disk and has a known ending."""
    steps = path.split("/")
    return len(path) <= LONGEST_PATH and path.lower().endswith(ENDINGS) and all(_is_step(step) for step in steps)


def _is_step(step: str) -> bool:
    return bool(STEP.fullmatch(step)) and ".." not in step and step != "."


def checked_file(path: str) -> str:
    """Return a path inside a repository. Raises LabError if it is not safe to write to disk or has another ending."""
    if not usable_file(path):
        raise LabError(
            f"{shown(path)} is not a file that this app downloads: a plain name that ends in .gguf, or an adapter's "
            ".safetensors. Choose another file, or ask the owner to rename it."
        )
    return path


def checked_model(path: str) -> str:
    """Return the path of a GGUF or of an adapter's weights. Raises LabError for any other path."""
    if not path.lower().endswith(".gguf") and path.rpartition("/")[2] != ADAPTER:
        raise LabError(f"{shown(path)} is neither a .gguf file nor {ADAPTER}. Choose one of those.")
    return checked_file(path)


def identifier(file_or_repo: str) -> str:
    """An id for the variant made from a file or a repository; `unnamed` if no usable character is left."""
    name = file_or_repo.rstrip("/").rpartition("/")[2]
    name = re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE)
    return variant.identifier(name)
