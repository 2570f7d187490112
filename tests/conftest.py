"""Every test has a lab of its own in a temporary folder; the app itself is started once for each process of pytest.

`pytest -n 2` runs two processes. A file of tests stays in one of them (`--dist loadfile`), so that its fixtures are
made once; the slow files come first, so that both processes end at about the same time.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from backend.core.settings import Settings
from backend.inference.sampling import Generation
from backend.lab import Lab

ROOT = Path(__file__).parents[1]
TINY = ROOT / "models" / "tiny"
PICTURES = ROOT / "build" / "screenshots"

# The slowest files, the slowest first, the long tests counted too. Others follow in the order of their names.
SLOWEST = [
    "training/test_train_killed.py",
    "library/test_library_killed.py",
    "training/test_train_faults.py",
    "training/test_train.py",
    "app/test_privacy.py",
    "browser/test_judge_in_browser.py",
    "browser/test_markup_in_browser.py",
    "browser/test_library_in_browser.py",
    "browser/test_training_in_browser.py",
    "library/test_download.py",
    "browser/test_chat_in_browser.py",
    "evaluation/test_evaluation.py",
    "app/test_serving.py",
    "evaluation/test_evaluation_stops.py",
    "library/test_library_faults.py",
    "library/test_library_visitors.py",
    "app/test_app.py",
    "export/test_export_faults.py",
    "training/test_estimate.py",
    "jobs/test_runs.py",
    "evaluation/test_evaluation_winners.py",
    "export/test_export.py",
    "app/test_visitors.py",
    "inference/test_memory.py",
    "hub/test_listing.py",
    "jobs/test_resume.py",
]

GENERATION = Generation(
    prompt_tokens=3,
    tokens=2,
    waited=0,
    first_token=0.1,
    seconds=0.2,
    tokens_per_second=10,
    end="stop",
    context_used=5,
    context_size=100,
    seed=7,
)


def pytest_configure() -> None:
    """Give each process of `pytest -n` cores of its own. Threads of llama.cpp and of torch wait for each other by
    spinning: with a thread for every core, two processes would mostly wait."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if hasattr(os, "sched_setaffinity") and 1 < count <= len(cores := sorted(os.sched_getaffinity(0))):
        os.sched_setaffinity(0, cores[number::count])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / "tests" / name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "weights").mkdir()
    return Settings(_env_file=None, lab_runs=tmp_path / "runs", lab_weights=tmp_path / "weights")


@pytest.fixture
def lab(settings: Settings) -> Iterator[Lab]:
    with Lab(settings) as lab:
        yield lab


@dataclass(frozen=True)
class App:
    """The app as a process: its address, its process, its folders."""

    url: str
    process: subprocess.Popen[str]
    home: Path

    def children(self) -> dict[str, int]:
        """The model workers that run below it: module name and process id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == self.process.pid and "-m" in words:
                found[" ".join(words[words.index("-m") + 1 :])] = int(folder.name)
        return found


def start_app(home: Path, code: Path = ROOT, folder: str | None = None, cores: int = 0, **environment: str) -> App:
    """`python app.py` on a free port, ready to answer.

    `code`: the folder of the app. `folder`: the working directory, if it is another one. `cores`: how many it may use.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "weights").mkdir(parents=True, exist_ok=True)
    places = {"PORT": str(port), "LAB_RUNS": str(home / "runs"), "LAB_WEIGHTS": str(home / "weights")}
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    log = (home / "app.log").open("w")
    process = subprocess.Popen(
        [sys.executable, str(code / "app.py")],
        cwd=folder or code,
        env=inherited | places | environment,
        preexec_fn=(lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])) if cores else None,
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(url + "/config", timeout=5).close()
            return App(url, process, home)
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.2)
    process.kill()
    raise RuntimeError((home / "app.log").read_text())


def stop_app(app: App) -> None:
    app.process.terminate()
    try:
        app.process.wait(20)
    finally:
        app.process.kill()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One app for all the tests that only talk to it. A copy of the toy acts as a fine-tune on Alpaca."""
    home = tmp_path_factory.mktemp("app")
    other = home / "weights" / "tiny_alpaca"
    other.mkdir(parents=True)
    shutil.copy(TINY / "tiny_base.gguf", other)
    (other / "variant.json").write_text(
        '{"id": "tiny_alpaca", "about": "the toy, said to be trained on Alpaca", "file": "tiny_base.gguf", '
        '"template": "alpaca"}'
    )
    running = start_app(home)
    yield running
    stop_app(running)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one file of tests: Playwright keeps an event loop that others must not meet."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "Chromium is not installed: type `make browser`"
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """For the pages of one file of tests: from the second page on, the app's scripts come from the cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 1100})
    yield context
    context.close()
