"""python -m backend.jobs.fake FOLDER

The fake that ships: it counts, and goes wrong on request, so that runs can be tried without any work being done.
"""

import os
import signal
import subprocess
import sys
import time

from backend.core.errors import LabError
from backend.jobs.events import FakeResult, FakeStep
from backend.jobs.fake_request import FakeRequest
from backend.jobs.journal import Journal, run_worker

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def run_fake(asked: FakeRequest, journal: Journal) -> None:
    prepare(asked)
    for step in range(1, asked.steps + 1):
        time.sleep(asked.pause)
        journal.step(FakeStep(step=step, steps=asked.steps), now=asked.manner == "breathless" or step == asked.steps)
        if step == asked.steps // 2:
            go_wrong(asked, journal)
    journal.result(FakeResult(steps=asked.steps))


def prepare(asked: FakeRequest) -> None:
    if asked.manner == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if asked.manner == "leaves children":
        subprocess.Popen([sys.executable, "-c", DEAF], pass_fds=())
    if asked.manner == "tells":
        print("\n".join(f"{name}={value}" for name, value in os.environ.items()), flush=True)


def go_wrong(asked: FakeRequest, journal: Journal) -> None:
    match asked.manner:
        case "fails":
            raise LabError("The rehearsal was asked to fail. Ask it for something else.")
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
