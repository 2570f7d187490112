"""A judge behind a server that nobody here wrote: llama-cpp-python's own, serving the toy."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from support.evaluations import BARE, done, evaluated, lab, saved, scores

from backend.core import machine
from backend.evaluation import records
from backend.evaluation.request import JudgeRequest
from backend.gguf.model import write_base
from backend.lab import Lab

__all__ = ["lab"]  # the fixture
NAME = "the-toy"
CONTEXT = 1024
NAMED = {"ok", "bad_json", "bad_schema", "cannot_judge", "judge_truncated", "empty_reply", "over_context"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """It serves 16-bit weights: quantised ones it repacks for AMX, which some virtual machines announce and refuse."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    model, log = folder / "half.gguf", folder / "log.txt"
    write_base(TINY / "base", model, "F16", "half")
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model)]
    command += ["--model_alias", NAME, "--n_ctx", str(CONTEXT), "--n_threads", "1", "--host", "127.0.0.1"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=ROOT, env=machine.environment(), stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield ready(f"http://127.0.0.1:{port}/v1", process, log)
    finally:
        process.kill()
        process.wait()


def ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/models", timeout=5).close()
            return url
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(log.read_text())


@pytest.mark.long
def test_an_evaluation_by_a_strangers_server_ends_with_every_answer_accounted_for(server: str, lab: Lab) -> None:
    """The toy is no judge: what it says is mostly a failure, and each has its name."""
    columns = {"one": ["It is 1.", "It is 2."], "two": ["I do not know.", "Three!"]}
    judge = JudgeRequest(kind="endpoint", rubric="brief", model=NAME, address=server, free=True)
    run = evaluated(lab, lab.evaluations.request(("one", "two"), judge, answers=saved(lab, columns), **BARE))
    found = done(lab, run)
    assert found.by and found.by.agreed
    agreed = found.by.agreed
    assert (
        agreed.limit == "max_tokens" and agreed.usage and agreed.returned == NAME and agreed.steady["temperature"] == 0
    )
    assert found.identity.parameters == agreed.parameters and found.identity.address == server
    assert len(found.table.cells) == 4
    for key, cell in found.table.cells.items():
        assert cell.status in NAMED and (cell.status == "ok") == bool(cell.values)
        assert cell.status == "ok" or found.scores[key].why
    assert all(one.model in ("", NAME) and one.attempts >= 1 for one in scores(run))
    assert all(one.tokens_in for one in scores(run) if one.reply)
    failed = sum(cell.status != "ok" for cell in found.table.cells.values())
    assert lab.evaluations.status(run.id).failed == failed
    assert sum(sum(one.failures.values()) for one in found.verdict.variants) == failed
    assert (run.folder / records.REPLIES).read_text().count("\n") >= 4
