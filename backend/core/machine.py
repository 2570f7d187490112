"""What this machine gives us: cores and memory this process may really use, and what a child may know of it."""

import contextlib
import os
import platform
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
MEMORY_LIMITS = (  # version 2, then 1: the limit, what is used, statistics, and their word for files kept in memory
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "SYSTEMROOT",
    "CUDA_VISIBLE_DEVICES",
)
NETWORK = (
    "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "WANDB_BASE_URL", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "XDG_CACHE_HOME",
)  # fmt: skip


LOOPBACK = ("localhost", "127.0.0.1", "::1")


def threads() -> int:
    """Threads for one model: the physical cores (hyper-threads do not help), two at least where there are two."""
    allowed = min(_affinity(), _quota())
    physical = psutil.cpu_count(logical=False) or allowed
    return max(1, min(allowed, max(physical, 2)))


def memory_free() -> int:
    """Bytes that can be had without swapping: what the system says, and no more than a container is given."""
    free = int(psutil.virtual_memory().available)
    for limit, used, statistics, cached in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not this version of control groups, or no limit
            given = int((CGROUPS / limit).read_text())
            stats = dict(line.split() for line in (CGROUPS / statistics).read_text().splitlines())
            taken = int((CGROUPS / used).read_text()) - int(stats.get(cached, 0))  # files are given back when asked
            return max(0, min(free, given - taken))
    return free


def address_space() -> int:
    """Bytes of address space that this process uses; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0


@contextlib.contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """Let this process use at most `more` bytes more than now: then Python raises MemoryError. Linux only."""
    size, before = address_space(), resource.getrlimit(resource.RLIMIT_AS)
    wanted = size + more
    limited = size and (before[0] == resource.RLIM_INFINITY or wanted < before[0])
    try:
        if limited:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, before[1]))
        yield
    finally:
        if limited:
            resource.setrlimit(resource.RLIMIT_AS, before)


def environment(network: bool = False) -> dict[str, str]:
    """The environment of a child process: only variables that are listed here, and no secrets."""
    names = INHERITED + (NETWORK if network else ())
    more = {"OMP_WAIT_POLICY": "PASSIVE"}
    if network:
        more |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"} | past_proxies()
    return {name: os.environ[name] for name in names if name in os.environ} | more


def past_proxies() -> dict[str, str]:
    """NO_PROXY in both spellings, with loopback added, which must not go through a proxy."""
    present = ",".join(os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    names = dict.fromkeys([*filter(None, (name.strip() for name in present.split(","))), *LOOPBACK])
    return dict.fromkeys(("NO_PROXY", "no_proxy"), "*" if "*" in names else ",".join(names))


def _affinity() -> int:
    """The number of cores that this process may use. macOS does not say, so all cores are counted there."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> int:
    """A container's share of the machine (cgroup version 2 or 1), in whole cores."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (CGROUPS / "cpu.max").read_text().split()
        return _affinity() if quota == "max" else max(1, int(quota) // int(period))
    with contextlib.suppress(OSError, ValueError):
        limit, each = ((CGROUPS / "cpu" / name).read_text() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        return _affinity() if int(limit) <= 0 else max(1, int(limit) // int(each))
    return _affinity()


def processor() -> str:
    """What the processor calls itself, and how many cores of it this process may use."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {_affinity()} cores"
    return f"{platform.machine() or 'unknown processor'}, {_affinity()} cores"


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is several times slower than float32."""
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))
    return False


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
