"""What the machine is said to give, and how its amounts are written."""

import os

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


def test_a_child_is_told_of_the_network_only_if_it_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "HF_ENDPOINT" not in machine.environment()
    known = machine.environment(network=True)
    assert known["HF_ENDPOINT"] == "http://mirror" and "HF_TOKEN" not in known
