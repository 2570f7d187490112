"""Starting a worker of a run as its runner does, in a run folder made by hand."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import ROOT

from backend.jobs.events import Event, events
from models.variant import Variant


@dataclass(frozen=True)
class Run:
    folder: Path
    process: subprocess.Popen[bytes]

    def wait(self, seconds: float = 60) -> "Run":
        try:
            self.process.wait(seconds)
        finally:
            self.kill()
        return self

    def kill(self) -> None:
        """It and its children, at once. Its stdin stays open until then: the worker leaves when that closes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def facts(self, kind: str) -> list[dict[str, Any]]:
        return [event.facts for event in self.events() if event.kind == kind]

    def events(self) -> list[Event]:
        return events(self.folder)

    @property
    def result(self) -> dict[str, Any]:
        assert self.process.returncode == 0, (self.facts("failed"), self.log)
        return self.facts("result")[-1]

    @property
    def why(self) -> str:
        """The sentence it failed with."""
        assert self.process.returncode == 1, (self.process.returncode, self.facts("result"), self.log)
        assert "Traceback" not in self.log, self.log
        return str(self.facts("failed")[-1]["why"])

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a worker of the library is given: nothing of this machine's Hugging Face, and a cache of its own."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "HF_HOME": str(home / "hf"), **more}


def variant_request(fields: dict[str, Any]) -> dict[str, Any]:
    """A request of the library's workers: the fields of a variant under its name, the others beside it."""
    variant = {name: value for name, value in fields.items() if name in Variant.model_fields}
    return {"variant": variant} | {name: value for name, value in fields.items() if name not in variant}


def start(module: str, asked: dict[str, Any], folder: Path, env: dict[str, str], *before: str) -> Run:
    """`before` are words of a command that starts it."""
    folder.mkdir(parents=True)
    request = asked if module in ("verify", "speed_test") else variant_request(asked)
    (folder / "spec.json").write_text(json.dumps({"asked": request}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", f"backend.library.{module}", str(folder)],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    return Run(folder, process)


def eventually(run: Run, state: str, seconds: float = 20) -> dict[str, Any]:
    """The first step with that state."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for facts in run.facts("step"):
            if facts.get("state") == state:
                return facts
        time.sleep(0.02)
    raise AssertionError((state, run.facts("step"), run.facts("failed"), run.log))
