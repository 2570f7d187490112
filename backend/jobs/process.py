"""Who a process is. A process id is given again to others, so it counts only together with when it began."""

import contextlib
import os
import signal
from pathlib import Path

import psutil


def identity(pid: int) -> str:
    """When that process began, in the kernel's own count since this boot; empty if there is none."""
    try:
        if Path("/proc/self/stat").exists():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            return "" if fields[0] == "Z" else f"{boot} {fields[19]}"
        return str(psutil.Process(pid).create_time())
    except (OSError, psutil.Error):
        return ""


def is_still(pid: int, began: str) -> bool:
    """Whether that pid is the process it was."""
    return pid > 1 and bool(began) and identity(pid) == began


def kill_group(pid: int, began: str) -> bool:
    """SIGKILL to the whole group that this process leads, if it still is that process and leads one."""
    if not is_still(pid, began) or os.getpgid(pid) != pid or pid == os.getpid():
        return False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return True
