"""Asking the Hub what a repository holds, without letting it into this process."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.core.errors import LabError
from backend.hub.names import HubPath

MOST_BYTES = 20_000_000
ROOT = Path(__file__).parents[2]


class RepositoryFile(BaseModel):
    """A file that could become a variant, or `why` it cannot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int = Field(ge=0)
    sha256: str = ""
    quantisation: str = ""
    """As its name says; empty when it does not."""
    why: str = ""


class RepositoryListing(BaseModel):
    """What a repository holds at a revision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repo: str
    revision: str
    commit: str
    licence: str = "unknown"
    gated: bool = False
    kind: Literal["gguf", "adapter", "neither"]
    why: str = ""
    """Why there is nothing to choose, when there is nothing."""
    architecture: str = ""
    base: str = ""
    files: tuple[RepositoryFile, ...] = ()
    wanted: str = ""
    """The file whose address was pasted, if it was a file's."""
    left_out: int = 0
    """Files that are of no use here, or whose names this app would not write to disk."""


def list_repository(place: HubPath, environment: dict[str, str], patience: float = 30.0) -> RepositoryListing:
    """What the repository holds, from a process of its own with this `environment`. LabError with the reason if it
    cannot be had within `patience` seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.hub.list_files", f"--revision={place.revision}", "--", place.repo],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout
    try:
        answer = _read(process.stdout, time.monotonic() + patience)
    finally:
        _kill(process)
    if answer is None:
        raise LabError(f"The Hub did not list {place.repo} within {patience:.0f} seconds. Try again in a while.")
    return _understood(answer, place)


def _read(pipe: IO[bytes], deadline: float) -> bytes | None:
    """Everything until the end; None when time is over."""
    found = bytearray()
    os.set_blocking(pipe.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            piece = pipe.read(1 << 16)
            if not piece:
                return bytes(found)
            found += piece
            if len(found) > MOST_BYTES:
                raise LabError("The Hub's list of files is too long to be one of a model. Choose another repository.")
    return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It may still be running; it has nothing to lose."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _understood(answer: bytes, place: HubPath) -> RepositoryListing:
    try:
        record = json.loads(answer)
        if isinstance(record, dict) and "error" in record:
            raise LabError(str(record["error"]))
        return RepositoryListing.model_validate(record)
    except (ValueError, RecursionError):
        raise LabError(
            f"{place.repo} could not be listed: the process that asked the Hub ended without an answer. Try again; if "
            "it stays so, the repository is too large to be listed."
        ) from None
