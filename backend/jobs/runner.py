"""`python -m backend.jobs.runner FOLDER LOCK`: waits in the queue, starts the worker, and writes how it ended.

It also writes the output of the worker into log.txt and handles requests to stop. It is a session leader, so it runs
on when the app ends. LOCK is the descriptor of the run's lock, already acquired; the worker inherits it.
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

MAX_LOG = 10 << 20  # bytes of log.txt before it becomes log.1.txt
MAX_LINE = 1 << 14
INTERVAL = 0.1  # seconds between two readings of the file `stop`
MAX_GRACE = 86_400.0  # seconds
NO_SPACE = ("no space left on device", "disk quota exceeded", "file too large", "the disk is full")
MIN_FREE = 1_000_000  # bytes; a disk with less free space counts as full
RESUME_SPACE = 1_000_000_000  # bytes that should be free before a run is resumed
RESERVED = 4096  # bytes allocated for exit.json at the start, so that it can be written on a full disk


class Runner:
    def __init__(self, run: Run, lock: int) -> None:
        self.run, self.lock = run, lock
        self.job = JOBS[run.spec.kind]
        self.me = (os.getpid(), machine.identity(os.getpid()))
        self.exit = _reserve(run.folder / "exit.part")
        self.secrets = tuple(os.environ[name] for name in self.job.secrets if os.environ.get(name))

    def main(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.run.stop())  # also when the machine shuts down
        self._write_processes(None)
        turn = self._wait_in_queue()
        if turn is None:
            self._end(Exit(state="stopped", why="Stopped before it was started."))
            return
        os.nice(self.job.nice)
        before = _killed_for_memory()
        worker = subprocess.Popen(
            [sys.executable, "-m", self.job.module, str(self.run.folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,  # never written to; the worker reads its end when this process dies
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(self.lock, turn.fileno()),
            process_group=0,
        )
        self._write_processes((worker.pid, machine.identity(worker.pid)))
        assert worker.stdout
        log = threading.Thread(target=self._write_log, args=(worker.stdout,), daemon=True)
        log.start()
        killed = self._watch(worker)
        with contextlib.suppress(ProcessLookupError):  # kill the processes that it has started
            os.killpg(worker.pid, signal.SIGKILL)
        log.join(5)
        self._end(self._outcome(worker.returncode, killed, _killed_for_memory() > before))

    def _wait_in_queue(self) -> BinaryIO | None:
        """Wait for the lock of the queue, in the order of creation; None if the run is stopped before."""
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
        """Seconds between SIGTERM and SIGKILL. A worker with long steps writes how many it needs into its events."""
        last = self.run.last("step")
        requested = last.facts.get("grace", 0) if last else 0
        return max(self.job.grace, min(requested, MAX_GRACE) if isinstance(requested, int | float) else 0)

    def _write_log(self, output: BinaryIO) -> None:
        """Read all output, so that the worker never waits for the pipe; store it up to a limit."""
        path = self.run.folder / "log.txt"
        while line := output.readline(MAX_LINE):
            text = redact(line.decode("utf-8", "replace"), self.secrets)
            with contextlib.suppress(OSError):  # on a full disk, lines of the log are lost and the run goes on
                with path.open("ab") as log:
                    log.write(text.encode("utf-8", "replace"))
                    full = log.tell() > MAX_LOG
                if full:
                    path.replace(path.with_name("log.1.txt"))

    def _outcome(self, code: int, killed: bool, out_of_memory: bool) -> Exit:
        """The state of the run. It is done only if the worker wrote an `ended` event: the exit code does not count."""
        if self.run.last("ended"):
            return Exit(state="done", code=code)
        if failed := self.run.last("failed"):
            return Exit(state="failed", why=failed.facts.get("why", ""), code=code)
        if self.run.stops:
            note = " It did not end in time, so it was killed." if killed else ""
            return Exit(state="stopped", why=f"Stopped by you.{note}", code=code)
        if code == DISK_FULL or (code and not out_of_memory and self._is_full()):
            return Exit(state="failed", why=self._full(), code=code)
        return Exit(state="failed", why=_why(code, out_of_memory), code=code)

    def _is_full(self) -> bool:
        """Whether the disk is full, or was according to the last lines of the log."""
        log = self.run.log(5).lower()
        return any(words in log for words in NO_SPACE) or _free(self.run.folder) < MIN_FREE

    def _full(self) -> str:
        folder, free = self.run.folder.parent.name, _free(self.run.folder)
        return (
            f"The disk is full: {free / 1e6:,.0f} MB are free in {folder}/. Free {RESUME_SPACE / 1e9:.0f} GB there, "
            "then resume or start it again. Everything that was saved is kept."
        )

    def _write_processes(self, worker: tuple[int, str] | None) -> None:
        part = self.run.folder / "runner.part"
        part.write_text(ProcessIds(runner=self.me, worker=worker).model_dump_json())
        part.replace(self.run.folder / "runner.json")

    def _end(self, exit: Exit) -> None:
        """Write exit.json into the space that was allocated at the start, then rename it."""
        ended = exit.model_copy(update={"at": time.time(), "why": redact(exit.why, self.secrets)[:600]})
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
    """How many processes of this control group were killed because memory ran out; 0 if unknown."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with contextlib.suppress(OSError):
            for line in Path(path).read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def _free(folder: Path) -> int:
    """Free bytes; RESUME_SPACE if the system does not say."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return RESUME_SPACE


def _why(code: int, out_of_memory: bool) -> str:
    """The sentence for a worker that ended without an event. Only the owner may see the log, so it is not quoted."""
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
