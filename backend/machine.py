"""What this machine gives us: cores, as many as this process may really use."""

import os
from pathlib import Path

import psutil


def threads() -> int:
    """Threads for one model: the physical cores (hyper-threads do not help), two at least where there are two."""
    allowed = min(_affinity(), _quota())
    physical = psutil.cpu_count(logical=False) or allowed
    return max(1, min(allowed, max(physical, 2)))


def _affinity() -> int:
    """Cores the scheduler may put us on; macOS does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> int:
    """A container's share of the machine (cgroup v2), in whole cores."""
    file = Path("/sys/fs/cgroup/cpu.max")
    quota, _, period = file.read_text().partition(" ") if file.exists() else ("max", "", "1")
    return _affinity() if quota == "max" else max(1, int(quota) // int(period))
