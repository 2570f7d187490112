"""What a source can be: the toy's data, a file by its whole path, or a data set of the Hub. Nothing is opened here."""

import re
from pathlib import PurePath
from typing import Literal

from backend.core.errors import LabError, short
from backend.data.dataset import TINY

ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
HOW = (
    f"Give a data set of the Hub as owner/name, a file by its whole path ({', '.join(ENDINGS)}), or {TINY}, "
    "which comes with the app"
)


def kind(source: str) -> Literal["tiny", "file", "hub"]:
    """LabError for what is none of the three, a path that depends on where the app was started among them."""
    ending = PurePath(source).suffix.lower()
    if source == TINY:
        return "tiny"
    if "://" in source or source.lower().startswith(("huggingface.co/", "hf.co/")):
        raise LabError(f"{shown(source)} is an address, and data is not read from addresses. {HOW}.")
    if source.startswith("/"):
        if ending not in ENDINGS:
            raise LabError(f"{shown(source)} does not end in {', '.join(ENDINGS)}, so nobody knows how to read it.")
        return "file"
    if source.startswith((".", "~")) or "\\" in source or source.count("/") > 1 or ending in ENDINGS:
        raise LabError(f"{shown(source)} is not a whole path: it means another file in another folder. {HOW}.")
    if ending == ".py":
        raise LabError(f"{shown(source)} is a script, and data that runs code is not loaded. {HOW}.")
    if not REPO.fullmatch(source) or re.search(r"--|\.\.|[.-]/|[.-]$|\.git$", source):
        raise LabError(f"{shown(source)} is not the name of a data set. {HOW}.")
    return "hub"


def shown(text: str) -> str:
    """A name from outside as it can be put into a sentence: a path by its last part, nothing invisible, and its end
    where it is long."""
    plain = ascii(short(text))[1:-1]
    return f"'{plain if len(plain) <= 120 else '...' + plain[-117:]}'"
