"""python -m bench.start [--quick]: start-up time and memory of the app, beside a bare Gradio page."""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).parents[1]
BARE = """
import os
import gradio as gr
with gr.Blocks(analytics_enabled=False) as page:
    gr.Markdown("Hello")
    gr.Chatbot()
    gr.Textbox()
page.launch(server_port=int(os.environ["PORT"]), quiet=True, ssr_mode=False, enable_monitoring=False)
"""
APP, BARE_PAGE = (sys.executable, "app.py"), (sys.executable, "-c", BARE)
AIM = 1.5


class Sample(NamedTuple):
    seconds: float
    megabytes: float


@contextlib.contextmanager
def page(command: Sequence[str], **more: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address and the process of a page, when it answers. `more`: environment variables."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        places = {"PORT": str(port), "LAB_RUNS": f"{home}/runs", "LAB_WEIGHTS": f"{home}/weights"}
        environment = {**os.environ, **places, "GRADIO_ANALYTICS_ENABLED": "False", **more}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}/"
            answered(url, process)
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def measure(command: Sequence[str]) -> Sample:
    """Seconds from the command to the first response, and the resident memory then."""
    start = time.monotonic()
    with page(command) as (_, process):
        return Sample(time.monotonic() - start, process.memory_info().rss / 1e6)


def answered(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for the first response. RuntimeError if the process ends or after a minute."""
    for _ in range(2400):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as page:
            page.read()
            return
        if process.poll() is not None:
            break
        time.sleep(0.025)
    raise RuntimeError(f"no page at {url}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 2 if parser.parse_args().quick else 7
    peers = {"app.py": APP, "bare Gradio": BARE_PAGE}
    for command in peers.values():
        measure(command)  # once for the page cache
    taken: dict[str, list[Sample]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, command in peers.items():
            taken[name].append(measure(command))
    print(f"median of {rounds}, side by side\n\n| | seconds to the first page | MB resident |\n|---|--:|--:|")
    middle = {name: Sample(*map(statistics.median, zip(*samples, strict=True))) for name, samples in taken.items()}
    for name, sample in middle.items():
        print(f"| {name} | {sample.seconds:.2f} | {sample.megabytes:.0f} |")
    print()
    app, bare = middle.values()
    for what, ratio in (("start", app.seconds / bare.seconds), ("memory", app.megabytes / bare.megabytes)):
        print(f"aim {what}: {ratio:.2f}x (at most {AIM}x of a bare page) {'met' if ratio <= AIM else 'missed'}")


if __name__ == "__main__":
    main()
