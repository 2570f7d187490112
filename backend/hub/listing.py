"""Lists the files of a Hub repository in a process of its own, so that a hostile response cannot harm this one."""

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
    """A file of a repository that can become a variant; or not, then `why` has the reason. `size` in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int = Field(ge=0)
    sha256: str = ""
    quantisation: str = ""
    """As its name states it; empty if it does not."""
    why: str = ""


class RepositoryListing(BaseModel):
    """The files of a repository at a revision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repo: str
    revision: str
    commit: str
    licence: str = "unknown"
    gated: bool = False
    kind: Literal["gguf", "adapter", "neither"]
    why: str = ""
    """Why there is no file to choose; empty if there is one."""
    architecture: str = ""
    base: str = ""
    files: tuple[RepositoryFile, ...] = ()
    wanted: str = ""
    """The file whose address was pasted; empty if the address was not a file's."""
    left_out: int = 0
    """Number of files that this app cannot use, or whose names it refuses to write to disk."""


def list_repository(path: HubPath, environment: dict[str, str], timeout: float = 30.0) -> RepositoryListing:
    """List a repository in a process with this `environment`.

    Raises LabError with the reason if that is not possible within `timeout` seconds.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.hub.list_files", f"--revision={path.revision}", "--", path.repo],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout
    try:
        output = _read(process.stdout, time.monotonic() + timeout)
    finally:
        _kill(process)
    if output is None:
        raise LabError(f"The Hub did not list {path.repo} within {timeout:.0f} seconds. Try again later.")
    return _parse(output, path)


def _read(pipe: IO[bytes], deadline: float) -> bytes | None:
    """Read the pipe to its end; None if the deadline passes first."""
    output = bytearray()
    os.set_blocking(pipe.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            piece = pipe.read(1 << 16)
            if not piece:
                return bytes(output)
            output += piece
            if len(output) > MOST_BYTES:
                raise LabError("The Hub's file list is too long for a model repository. Choose another repository.")
    return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process, which may still be running, and close its pipe."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _parse(output: bytes, path: HubPath) -> RepositoryListing:
    try:
        record = json.loads(output)
        if isinstance(record, dict) and "error" in record:
            raise LabError(str(record["error"]))
        return RepositoryListing.model_validate(record)
    except (ValueError, RecursionError):
        raise LabError(
            f"{path.repo} could not be listed: the process that lists it ended without a result. Try again. If that "
            "happens every time, the repository is too large to be listed."
        ) from None
