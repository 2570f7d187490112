"""python -m bench.library [--quick]

A file of a Hub's double on this machine, fetched by the app (list, click, wait until the variant is ready: transfer,
sha256, header check, fsync), by huggingface_hub's own download, by the same with `sha256sum` after it (the client does
not verify the content), and by curl, in turns; the memory of the app's process meanwhile; and the header check of the
toy and of a file in the true shape of Llama 3.2 3B.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from gradio_client import Client

from bench.shapes import write_shape
from bench.start import answered
from models.check import read_header

ROOT = Path(__file__).parents[1]
TOY = ROOT / "models" / "tiny" / "tiny_base.gguf"
REPO = "bench/shape-GGUF"
CLIENT = """
import sys
from huggingface_hub import hf_hub_download
hf_hub_download(sys.argv[1], sys.argv[2], local_dir=sys.argv[3])
"""
TIME_AIM, MEMORY_AIM, HEADER_AIM = 1.15, 20.0, 500.0


class Place:
    """The Hub double, the app, and an empty folder for each peer."""

    def __init__(self, home: Path, shape: str) -> None:
        self.home = home
        folder = home / "hub" / REPO
        folder.mkdir(parents=True)
        self.file = folder / f"shape-{shape}-Q4_K_M.gguf"
        self.size = write_shape(self.file, shape)
        double = [sys.executable, "-m", "servers.hub", "--folder", str(home / "hub")]
        self.hub = subprocess.Popen(double, cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True)
        assert self.hub.stdout
        self.url = f"http://127.0.0.1:{int(self.hub.stdout.readline())}"
        known = {"HF_ENDPOINT": self.url, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1"}
        self.environment = os.environ | known
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        places = {"PORT": str(port), "LAB_RUNS": str(home / "runs"), "LAB_WEIGHTS": str(home / "weights")}
        self.app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=self.environment | places,
                                    stdout=subprocess.DEVNULL)  # fmt: skip
        answered(f"http://127.0.0.1:{port}/", self.app)
        self.client = Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)

    def close(self) -> None:
        for process in (self.app, self.hub):
            process.terminate()
            process.wait()

    def by_app(self) -> None:
        """Download with the app, until the variant is verified and registered."""
        ready = self.home / "weights" / self.file.stem / "variant.json"
        self.client.predict(self.file.name, None, api_name="/fetch")
        while not ready.exists():
            time.sleep(0.01)

    def by_client(self) -> None:
        command = [sys.executable, "-c", CLIENT, REPO, self.file.name, str(self.home / "client")]
        subprocess.run(command, env=self.environment, check=True, stderr=subprocess.DEVNULL)

    def by_client_and_sum(self) -> None:
        self.by_client()
        subprocess.run(["sha256sum", str(self.home / "client" / self.file.name)], check=True, stdout=subprocess.DEVNULL)

    def by_curl(self) -> None:
        url = f"{self.url}/{REPO}/resolve/main/{self.file.name}"
        subprocess.run(["curl", "-sSLf", "-o", str(self.home / "curl.gguf"), url], check=True)

    def empty(self) -> None:
        """Delete the downloads and sync the disk, so that all peers start equally."""
        while any(self.client_busy()):
            time.sleep(0.05)
        shutil.rmtree(self.home / "weights" / self.file.stem, ignore_errors=True)
        shutil.rmtree(self.home / "client", ignore_errors=True)
        (self.home / "curl.gguf").unlink(missing_ok=True)
        os.sync()

    def client_busy(self) -> list[Path]:
        """Downloads of the app whose runner has not ended yet."""
        return [run for run in (self.home / "runs").glob("*-download-*") if not (run / "exit.json").exists()]


def timed(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def watched(do: Callable[[], None], pid: int) -> float:
    """The growth in MB of a process during a download."""
    process, over = psutil.Process(pid), threading.Event()
    before = process.memory_info().rss
    peak = [before]

    def watch() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        do()
    finally:
        over.set()
        thread.join()
    return float(peak[0] - before) / 1e6


def download(shape: str, rounds: int) -> list[str]:
    """Time the four, print the table. Return the lines of the aims."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as home:
        place = Place(Path(home), shape)
        try:
            place.client.predict(f"{place.url}/{REPO}", "", api_name="/list_files")
            peers = {
                "the app, verified and synced": place.by_app,
                "huggingface_hub": place.by_client,
                "huggingface_hub, then sha256sum": place.by_client_and_sum,
                "curl": place.by_curl,
            }
            taken: dict[str, list[float]] = {name: [] for name in peers}
            grown = []
            for number in range(rounds):
                for name in sorted(peers, key=lambda name: (list(peers).index(name) + number) % len(peers)):
                    place.empty()
                    do = peers[name]
                    if name.startswith("the app"):
                        grown.append(watched(lambda: taken[name].append(timed(do)), place.app.pid))  # noqa: B023
                    else:
                        taken[name].append(timed(do))
        finally:
            place.close()
        print(f"{place.size / 1e9:.2f} GB over loopback, median of {rounds}, in turns\n")
    print("| | seconds | MB/s |\n|---|--:|--:|")
    middle = {name: statistics.median(times) for name, times in taken.items()}
    for name, seconds in middle.items():
        print(f"| {name} | {seconds:.2f} | {place.size / 1e6 / seconds:.0f} |")
    ours, client, verified, curl = middle.values()
    growth = max(grown)
    print(f"\nthe app beside curl: {ours / curl:.2f}x")
    return [
        aim("download", f"{ours / client:.2f}x", f"at most {TIME_AIM}x of huggingface_hub", ours / client <= TIME_AIM),
        aim(
            "verified download",
            f"{ours / verified:.2f}x",
            f"at most {TIME_AIM}x of huggingface_hub with sha256sum",
            ours / verified <= TIME_AIM,
        ),
        aim("memory", f"{growth:.1f} MB", f"the screen grows by at most {MEMORY_AIM:.0f} MB", growth <= MEMORY_AIM),
    ]


def headers() -> list[str]:
    """Time the header check in ms. Return the line of its aim."""
    with tempfile.TemporaryDirectory() as folder:
        shape = Path(folder) / "shape.gguf"
        write_shape(shape, "3B")
        files = {"tiny_base.gguf": TOY, "the shape of Llama 3.2 3B": shape}
        middle = {name: 1000 * statistics.median(timed(lambda: read_header(path)) for _ in range(7))  # noqa: B023
                  for name, path in files.items()}  # fmt: skip
    print("\n| header check | ms |\n|---|--:|")
    for name, milliseconds in middle.items():
        print(f"| {name} | {milliseconds:.1f} |")
    slowest = max(middle.values())
    return [aim("header", f"{slowest:.0f} ms", f"at most {HEADER_AIM:.0f} ms", slowest <= HEADER_AIM)]


def aim(name: str, value: str, bound: str, met: bool) -> str:
    return f"aim {name}: {value} ({bound}) {'met' if met else 'missed'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller file, one round")
    quick = parser.parse_args().quick
    (ROOT / "build").mkdir(exist_ok=True)
    lines = download("1B" if quick else "3B", 1 if quick else 5)
    lines += headers()
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
