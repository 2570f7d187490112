"""python -m backend.jobs.runner FOLDER LOCK

Stands between the screen and the work: waits for its turn, starts the worker, keeps what it prints, obeys the wish to
stop, and writes down how it ended. It leads a session of its own and needs nobody: the screen may come and go.
LOCK is the descriptor of the run's lock, already held; the worker inherits it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from backend.core import machine
from backend.core.errors import redact
from backend.jobs.folders import Exit, ProcessIds
from backend.jobs.journal import DISK_FULL
from backend.jobs.launcher import JOBS, ROOT, waits_for
from backend.jobs.run import Run

LOG_MOST = 10 << 20  # bytes of log.txt before it becomes log.1.txt
LINE_MOST = 1 << 14
INTERVAL = 0.1  # seconds between two readings of the file `stop`
GRACE_MOST = 86_400.0  # seconds, whatever a worker says
NO_SPACE = ("no space left on device", "disk quota exceeded", "file too large", "the disk is full")
LEAST = 1_000_000  # bytes free, below which a disk counts as full
NEEDED = 1_000_000_000  # bytes that a full disk should have before a run goes on
RESERVED = 4096  # bytes kept for exit.json from the start, so that a full disk cannot hide how a run ended


class Runner:
    def __init__(self, run: Run, lock: int) -> None:
        self.run, self.lock = run, lock
        self.job = JOBS[run.spec.kind]
        self.me = (os.getpid(), machine.identity(os.getpid()))
        self.exit = _reserve(run.folder / "exit.part")
        self.secrets = tuple(os.environ[name] for name in self.job.secrets if os.environ.get(name))

    def main(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.run.stop())  # also when the machine shuts down
        self._say_who(None)
        turn = self._wait_for_its_turn()
        if turn is None:
            self._end(Exit(state="stopped", why="Stopped before it began."))
            return
        os.nice(self.job.nice)
        before = _killed_for_memory()
        worker = subprocess.Popen(
            [sys.executable, "-m", self.job.module, str(self.run.folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,  # held open: its end tells the worker that this process has died
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(self.lock, turn.fileno()),
            process_group=0,
        )
        self._say_who((worker.pid, machine.identity(worker.pid)))
        assert worker.stdout
        log = threading.Thread(target=self._keep_log, args=(worker.stdout,), daemon=True)
        log.start()
        killed = self._watch(worker)
        with contextlib.suppress(ProcessLookupError):  # those it started and left behind
            os.killpg(worker.pid, signal.SIGKILL)
        log.join(5)
        self._end(self._account(worker.returncode, killed, _killed_for_memory() > before))

    def _wait_for_its_turn(self) -> BinaryIO | None:
        """Wait for the lock of the queue; None if the run is stopped before. First come, first served."""
        lock = (self.run.folder.parent / f".queue-{self.job.queue}").open("ab")
        while not self.run.stops:
            if not waits_for(self.run):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return lock
            time.sleep(INTERVAL)
        return None

    def _watch(self, worker: "subprocess.Popen[bytes]") -> bool:
        """Wait until the worker ends. A stop sends SIGTERM, then SIGKILL. Returns whether it was killed."""
        deadline = 0.0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(INTERVAL)
                return False
            stops = self.run.stops
            if stops and not deadline:
                deadline = time.monotonic() + self._grace()
                os.killpg(worker.pid, signal.SIGTERM)
            if stops > 1 or (deadline and time.monotonic() > deadline):
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
                return True

    def _grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL. A worker with long steps says how many it needs."""
        last = self.run.last("step")
        wanted = last.facts.get("grace", 0) if last else 0
        return max(self.job.grace, min(wanted, GRACE_MOST) if isinstance(wanted, int | float) else 0)

    def _keep_log(self, printed: BinaryIO) -> None:
        """Read everything that is printed, so that the worker never waits for the pipe; store it up to a limit."""
        path = self.run.folder / "log.txt"
        while line := printed.readline(LINE_MOST):
            text = redact(line.decode("utf-8", "replace"), self.secrets)
            with contextlib.suppress(OSError):  # a full disk costs lines of the log, not the run
                with path.open("ab") as log:
                    log.write(text.encode("utf-8", "replace"))
                    full = log.tell() > LOG_MOST
                if full:
                    path.replace(path.with_name("log.1.txt"))

    def _account(self, code: int, killed: bool, out_of_memory: bool) -> Exit:
        """What its end was. A code of 0 is no success: only its own word at the end is, whatever came after it."""
        if self.run.last("ended"):
            return Exit(state="done", code=code)
        if failed := self.run.last("failed"):
            return Exit(state="failed", why=failed.facts.get("why", ""), code=code)
        if self.run.stops:
            how = " It did not end by itself in time, so it was ended." if killed else ""
            return Exit(state="stopped", why=f"Stopped by you.{how}", code=code)
        if code == DISK_FULL or (code and not out_of_memory and self._is_full()):
            return Exit(state="failed", why=self._full(), code=code)
        return Exit(state="failed", why=_why(code, out_of_memory), code=code)

    def _is_full(self) -> bool:
        """Whether the worker's last lines, or the disk itself, tell that there was no room."""
        said = self.run.log(5).lower()
        return any(words in said for words in NO_SPACE) or _free(self.run.folder) < LEAST

    def _full(self) -> str:
        place, free = self.run.folder.parent.name, _free(self.run.folder)
        return (
            f"The disk is full: {free / 1e6:,.0f} MB are free in {place}/. Free {NEEDED / 1e9:.0f} GB there, then "
            "resume or start it again; what was saved is kept."
        )

    def _say_who(self, worker: tuple[int, str] | None) -> None:
        part = self.run.folder / "runner.part"
        part.write_text(ProcessIds(runner=self.me, worker=worker).model_dump_json())
        part.replace(self.run.folder / "runner.json")

    def _end(self, how: Exit) -> None:
        """The last thing written, into room that was kept for it; whole or not at all."""
        ended = how.model_copy(update={"at": time.time(), "why": redact(how.why, self.secrets)[:600]})
        data = json.dumps(ended.model_dump()).encode()[:RESERVED]
        os.pwrite(self.exit, data, 0)
        os.ftruncate(self.exit, len(data))
        os.fsync(self.exit)
        (self.run.folder / "exit.part").rename(self.run.folder / "exit.json")


def _reserve(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(descriptor, b" " * RESERVED, 0)
    return descriptor


def _killed_for_memory() -> int:
    """How many processes of this container were killed for want of memory, as far as it can be told."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with contextlib.suppress(OSError):
            for line in Path(path).read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def _free(folder: Path) -> int:
    """Bytes; where the system does not tell, more than enough."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return NEEDED


def _why(code: int, out_of_memory: bool) -> str:
    """What it printed last is in its log alone, which only the owner sees."""
    if code >= 0:
        return f"The process ended with code {code} and without a result. Its log has more; start it again."
    name = _signal(-code)
    if out_of_memory:
        return "The system ended the process because memory ran out. Close what you can and start it again."
    if -code == signal.SIGKILL:
        return f"The process was killed ({name}) and no reason is known; often memory ran out. Start it again."
    return f"The process crashed ({name}). Its log has more; start it again."


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def main(arguments: list[str]) -> Any:
    Runner(Run(Path(arguments[0])), int(arguments[1])).main()


if __name__ == "__main__":
    main(sys.argv[1:])
