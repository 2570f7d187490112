"""The specification of a dataset: its source, the columns, and the rows of the training split and the eval split."""

import re
from pathlib import PurePath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.core.errors import LabError, short

TINY = "tiny_habit"
"""The embedded dataset: questions that the embedded model can answer, with a small JSON object as the answer."""
TINY_EVAL = 10_000
"""The first row of its eval split: from here on, no row has a question of the training split."""
Shape = Literal["sharegpt", "messages", "alpaca", "prompt_completion"]
ShapeChoice = Literal["auto", "sharegpt", "messages", "alpaca", "prompt_completion"]
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet", ".gz", ".zip")
REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
SOURCES = (
    f"Enter a dataset of the Hub as owner/name, the absolute path of a file ({', '.join(ENDINGS)}), or {TINY}, "
    "which is embedded in the app"
)


class DatasetSpec(BaseModel):
    """A dataset and its splits. It is stored with the run; a resumed run compares the rows by their sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        "mlabonne/FineTome-100k",
        min_length=1,
        max_length=1000,
        title="Dataset",
        description="A dataset of the Hub (owner/name), a file of this machine, or tiny_habit, which is embedded in "
        "the app.",
    )
    revision: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_./-]{0,200}$",
        title="Revision of the dataset",
        description="Branch, tag or commit on the Hub; empty: main.",
    )
    subset: str = Field(
        "",
        pattern=r"^[^<>:/\\|?*]{0,100}$",
        title="Subset",
        description="For a dataset of the Hub with several subsets; empty: the default.",
    )
    split: str = Field(
        "train", pattern=r"^[A-Za-z0-9_.-]{1,100}$", title="Split", description="Split of the dataset on the Hub."
    )
    shape: ShapeChoice = Field(
        "auto", title="Shape", description="How a row stores a conversation; auto: detected from the columns."
    )
    conversation: str = Field(
        "", max_length=200, title="Column of turns", description="Empty: conversations, messages, turns and the like."
    )
    prompt: str = Field(
        "", max_length=200, title="Column of the prompt", description="Empty: instruction, prompt or question."
    )
    context: str = Field(
        "", max_length=200, title="Column of the input", description="Joined to the prompt. Empty: input or context."
    )
    answer: str = Field(
        "", max_length=200, title="Column of the answer", description="Empty: output, completion, response or answer."
    )
    system: str = Field(
        "",
        max_length=200,
        title="Column of the system message",
        description="Empty: system, system_prompt or system_message, if it exists.",
    )
    encoding: Literal["auto", "windows-1252"] = Field(
        "auto",
        title="Encoding",
        description="Of a text file. auto: UTF-8, or UTF-16 or UTF-32 where the file shows it; windows-1252: for older "
        "files of Western languages.",
    )
    splits: Literal["numbers", "all"] = Field(
        "numbers",
        title="Choice of rows",
        description="numbers: the rows with the numbers below. all: every row of the dataset; the last 5 to 10 % of "
        "them are the eval split, and none where there are fewer than ten.",
    )
    first: int = Field(
        0, ge=0, le=10_000_000, title="First row", description="Counts from 0. This and the next three: for “numbers”."
    )
    rows: int = Field(1000, ge=1, le=10_000_000, title="Rows to train on", description="From the first row on.")
    held_first: int = Field(1000, ge=0, le=10_000_000, title="First eval row", description="Never trained on.")
    held_rows: int = Field(
        20, ge=0, le=1_000_000, title="Eval rows", description="For the evaluation loss and for later evaluations."
    )


def kind(source: str) -> Literal["tiny", "file", "hub"]:
    """The kind of a source. Raises LabError for any other text, such as an address, a script or a relative path."""
    ending = PurePath(source).suffix.lower()
    if source == TINY:
        return "tiny"
    if "://" in source or source.lower().startswith(("huggingface.co/", "hf.co/")):
        raise LabError(f"{shown(source)} is an address, and datasets are not read from addresses. {SOURCES}.")
    if source.startswith("/"):
        if ending not in ENDINGS:
            raise LabError(f"{shown(source)} has no known format. Choose a file that ends in {', '.join(ENDINGS)}.")
        return "file"
    if source.startswith((".", "~")) or "\\" in source or source.count("/") > 1 or ending in ENDINGS:
        raise LabError(f"{shown(source)} is not an absolute path, so the file is ambiguous. {SOURCES}.")
    if ending == ".py":
        raise LabError(f"{shown(source)} is a script, and datasets that run code are not loaded. {SOURCES}.")
    if not REPO.fullmatch(source) or re.search(r"--|\.\.|[.-]/|[.-]$|\.git$", source):
        raise LabError(f"{shown(source)} is not the name of a dataset. {SOURCES}.")
    return "hub"


def shown(text: str) -> str:
    """Quote a name for a sentence: a path as its last part, control characters escaped, 120 characters at most."""
    plain = ascii(short(text))[1:-1]
    return f"'{plain if len(plain) <= 120 else '...' + plain[-117:]}'"
