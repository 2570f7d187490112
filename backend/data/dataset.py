"""Which rows: where they come from, how they are read, and which of them are held out."""

import re
from pathlib import PurePath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.core.errors import LabError, short

TINY = "tiny_habit"
"""The embedded data: questions the toy knows, answered as a small JSON object. Rows from TINY_HELD on are questions
that no training row asks."""
TINY_HELD = 10_000
Shape = Literal["sharegpt", "messages", "alpaca", "prompt_completion"]
Asked = Literal["auto", "sharegpt", "messages", "alpaca", "prompt_completion"]
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
HOW = (
    f"Give a data set of the Hub as owner/name, a file by its whole path ({', '.join(ENDINGS)}), or {TINY}, "
    "which comes with the app"
)


class DatasetSpec(BaseModel):
    """A value that is kept in the run: the same spec reads the same rows, or says that they have changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        "mlabonne/FineTome-100k",
        min_length=1,
        max_length=1000,
        title="Data",
        description="A data set of the Hub (owner/name), a file of this machine, or tiny_habit, which comes with the "
        "app.",
    )
    revision: str = Field(
        "", pattern=r"^[A-Za-z0-9_./-]{0,200}$", title="Revision of the data", description="Of the Hub; empty is main."
    )
    subset: str = Field(
        "",
        pattern=r"^[^<>:/\\|?*]{0,100}$",
        title="Subset",
        description="Of a data set of the Hub that has several; empty is its default one.",
    )
    split: str = Field("train", pattern=r"^[A-Za-z0-9_.-]{1,100}$", title="Split", description="Of the data set.")
    shape: Asked = Field("auto", title="Shape", description="How a row says who said what; auto looks at the columns.")
    conversation: str = Field(
        "", max_length=200, title="Column of turns", description="Empty: conversations, messages or turns."
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
        "", max_length=200, title="Column of the system message", description="Empty: system, if there is one."
    )
    first: int = Field(0, ge=0, le=10_000_000, title="First row", description="Rows count from 0.")
    rows: int = Field(1000, ge=1, le=1_000_000, title="Rows to train on", description="From the first row on.")
    held_first: int = Field(1000, ge=0, le=10_000_000, title="First row held out", description="Never trained on.")
    held_rows: int = Field(
        20, ge=0, le=10_000, title="Rows held out", description="For the evaluation loss, and for judging later."
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
