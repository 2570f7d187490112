"""`python -m backend.jobs.fake FOLDER`: counts steps, and fails on request. For tests of runs without real work."""

import os
import signal
import subprocess
import sys
import time

from backend.core.errors import LabError
from backend.jobs.events import FakeResult, FakeStep
from backend.jobs.fake_request import FakeRequest
from backend.jobs.journal import Journal, run_worker

IGNORE_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def run_fake(request: FakeRequest, journal: Journal) -> None:
    prepare(request)
    for step in range(1, request.steps + 1):
        time.sleep(request.pause)
        journal.step(
            FakeStep(step=step, steps=request.steps), now=request.manner == "breathless" or step == request.steps
        )
        if step == request.steps // 2:
            fail(request, journal)
    journal.result(FakeResult(steps=request.steps))


def prepare(request: FakeRequest) -> None:
    if request.manner == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if request.manner == "leaves children":
        subprocess.Popen([sys.executable, "-c", IGNORE_SIGTERM], pass_fds=())
    if request.manner == "tells":
        print("\n".join(f"{name}={value}" for name, value in os.environ.items()), flush=True)


def fail(request: FakeRequest, journal: Journal) -> None:
    match request.manner:
        case "fails":
            raise LabError("The fake job was requested to fail. Request something else.")
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "prints":
            for number in range(200):
                print(f"{number} " + "x" * 100_000)
        case "torn":
            with (journal.folder / "events.jsonl").open("ab") as file:
                file.write(b'{"kind": "step", "at": 1, "fa')
        case "silent":
            os._exit(0)
        case "says nothing":
            os._exit(3)


if __name__ == "__main__":
    sys.exit(run_worker(FakeRequest, run_fake))
