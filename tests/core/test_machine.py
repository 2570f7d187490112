"""What the machine is said to give, and how its amounts are written."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from backend.core import machine
from backend.core.units import amount
from backend.remote.client import connect
from backend.remote.ledger import Ledger
from backend.remote.prices import FREE


@pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (999, "999 B"), (1000, "1.0 kB"), (807_700_000, "807.7 MB"), (2_019_400_000, "2.0 GB")]
)
def test_amounts_are_written_as_people_write_them(count: int, text: str) -> None:
    assert amount(count) == text


def test_there_is_memory_and_a_processor() -> None:
    assert 0 < machine.memory_free() <= psutil.virtual_memory().total
    assert machine.processor().endswith("cores") and 1 <= machine.threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("limit", "used", "statistics", "cached"),
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ],
)
def test_a_container_has_no_more_than_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, used: str, statistics: str, cached: str
) -> None:
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    whole = machine.memory_free()
    for name, text in ((limit, "50000000"), (used, "30000000"), (statistics, f"anon 1\n{cached} 10000000\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.memory_free() == 30_000_000
    (tmp_path / limit).write_text("max" if limit == "memory.max" else str(2**63 - 4096))
    assert machine.memory_free() > whole // 2


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "damaged"}, None),
        ({}, None),
    ],
)
def test_a_model_has_no_more_threads_than_the_container_is_given(
    files: dict[str, str], threads: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "none")
    whole = machine.threads()
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.threads() == (threads or whole)


def test_a_child_is_told_of_the_network_only_if_it_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "HF_ENDPOINT" not in machine.environment()
    known = machine.environment(network=True)
    assert known["HF_ENDPOINT"] == "http://mirror" and "HF_TOKEN" not in known


class Recorder:
    """A server that counts its connections and answers none."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.seen = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.seen += 1
            connection.close()


ASK = """
import sys
import httpx, httpx2
for client in (httpx.Client, httpx2.Client):
    with client() as made:
        for host in ("127.0.0.1", "localhost"):
            try:
                made.get(f"http://{host}:{sys.argv[1]}/")
            except (httpx.HTTPError, httpx2.HTTPError):
                pass
print("asked")
"""


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_loopback_never_goes_through_a_proxy(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = Recorder(), Recorder()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"{scheme}://127.0.0.1:{proxy.port}")
        monkeypatch.setenv(name.lower(), f"{scheme}://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "mirror.example")
    monkeypatch.delenv("NO_PROXY", raising=False)
    env = machine.environment(network=True)
    done = subprocess.run([sys.executable, "-c", ASK, str(server.port)], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "asked", done.stderr
    assert (proxy.seen, server.seen) == (0, 4)
    assert env["NO_PROXY"].split(",")[0] == "mirror.example"  # what the owner named stays


def test_a_proxy_for_nothing_stays_one_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("no_proxy", raising=False)
    assert machine.environment(network=True)["no_proxy"] == "*"


def test_a_client_of_a_judge_can_be_made_behind_a_socks_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    for address in ("https://api.openai.com/v1", "http://127.0.0.1:8080/v1", "https://judge/v1"):
        connect("m", address, "sk-abc", FREE, Ledger(tmp_path / "ledger.jsonl", 1.0, 1.0, "run")).close()
