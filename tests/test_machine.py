"""What the machine is said to give, and how its amounts are written."""

import os
from pathlib import Path

import psutil
import pytest

from backend import machine


@pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (999, "999 B"), (1000, "1.0 kB"), (807_700_000, "807.7 MB"), (2_019_400_000, "2.0 GB")]
)
def test_amounts_are_written_as_people_write_them(count: int, text: str) -> None:
    assert machine.amount(count) == text


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


def test_a_child_is_told_of_the_network_only_if_it_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "HF_ENDPOINT" not in machine.environment()
    known = machine.environment(network=True)
    assert known["HF_ENDPOINT"] == "http://mirror" and "HF_TOKEN" not in known
