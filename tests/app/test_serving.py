"""How the web server starts and ends: proxies, temporary files, a busy port, SIGTERM while answers stream."""

import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import gradio as gr
import pytest
from conftest import ROOT, TINY, start_app, stop_app
from servers.hub import Hub
from support.session import ENDLESS, SLOW, Visitor, until
from support.spaces import Session

HTTP, SOCKS = "http://127.0.0.1:9", "socks5://127.0.0.1:9"  # nothing listens there


@pytest.mark.long
@pytest.mark.parametrize("proxy", [SOCKS, HTTP])
def test_the_app_reaches_a_hub_on_loopback_past_any_proxy(tmp_path: Path, proxy: str) -> None:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    with Hub() as hub:
        hub.add("owner/toy-GGUF", "toy.gguf", TINY / "tiny_base.gguf")
        app = start_app(tmp_path, HF_ENDPOINT=hub.url, NO_PROXY="", no_proxy="", **dict.fromkeys(names, proxy))
        try:
            found, why = Session(app).call("list_files", "owner/toy-GGUF", "")  # by the Hub's client of the app itself
        finally:
            stop_app(app)
    assert why == "" and "toy.gguf" in str(found)


@pytest.mark.long
@pytest.mark.parametrize("proxy", [HTTP, SOCKS])
def test_the_app_answers_behind_any_proxy(tmp_path: Path, proxy: str) -> None:
    app = start_app(tmp_path, HTTP_PROXY=proxy, ALL_PROXY=proxy, NO_PROXY="", no_proxy="")
    try:
        assert "Paris" in str(Visitor(app).chat("What is the capital of France?").result(60)[1])
    finally:
        stop_app(app)
    assert "Traceback" not in (tmp_path / "app.log").read_text()


@pytest.mark.parametrize("streams", [6, pytest.param(24, marks=pytest.mark.long)])
def test_sigterm_ends_the_app_while_answers_stream(streams: int, tmp_path: Path) -> None:
    """It leaves no worker, no traceback and no uploads, neither its own nor those of an app that was killed."""
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = tmp_path / f"peft-lab-{killed.pid}-left"
    left.mkdir()
    app = start_app(tmp_path, LAB_WAITING="100", TMPDIR=str(tmp_path), GRADIO_TEMP_DIR=tempfile.gettempdir())
    own = [path for path in tmp_path.glob("peft-lab-*") if path != left]
    assert len(own) == 1 and own[0].stat().st_mode & 0o077 == 0
    visitors = [Visitor(app) for _ in range(streams)]
    jobs = [
        visitor.chat(SLOW * 9, "echo") if n % 2 else visitor.chat("Hello", **ENDLESS)
        for n, visitor in enumerate(visitors)
    ]
    until(lambda: all(job.outputs() for job in jobs))
    workers = app.children()
    app.process.send_signal(signal.SIGTERM)
    app.process.wait(20)
    assert app.process.returncode == 0 and workers
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers.values()))
    assert "Traceback" not in (tmp_path / "app.log").read_text()
    assert not list(tmp_path.glob("peft-lab-*"))


def test_gradio_keeps_no_statistics_of_calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Otherwise each call would cost a pandas summary of the 10,000 calls before it."""
    for name in ("GRADIO_ANALYTICS_CACHE_FREQUENCY", "GRADIO_ANALYTICS_MAX_EVENTS", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runpy.run_path(str(ROOT / "app.py"), run_name="started_elsewhere")
    queue = gr.Blocks()._queue
    queue.events_recorded = 10_000
    call = {"function": "chat", "status": "success", "process_time": 1.0}
    assert queue.compute_analytics_summary([call]) == {"functions": {}}
    assert queue.ANALYTICS_MAX_EVENTS == 1


def test_a_port_in_use_is_a_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        run = subprocess.run(
            [sys.executable, "app.py"], cwd=ROOT, env=os.environ | {"PORT": port}, capture_output=True, text=True
        )
    assert run.returncode == 1
    assert run.stderr.startswith(f"Port {port} of 127.0.0.1 cannot be used") and "Traceback" not in run.stderr
