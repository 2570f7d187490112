"""The worker's end of the pipes, in a process of its own because it takes over stdin and stdout."""

import subprocess
import sys

from conftest import ROOT

CODE = """
import os, signal, sys
from backend.inference.protocol import Heartbeat, Started, Text
from backend.inference.worker.pipe import Pipe
writes = []
real = os.write
os.write = lambda number, data: (writes.append(len(data)), real(number, data))[1]
signal.alarm(20)
pipe = Pipe()
for number in range(100):
    pipe.send(Text(id=number, text="ö" * 1000))
print("not an event")
before = len(writes)
pipe.take(wait=False)
after = len(writes)
pipe.send(Started(id=1))
pipe.take(wait=False)
print(before, after, len(writes), file=sys.stderr)
"""


def test_events_are_written_together_when_the_worker_looks_for_requests() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, input=b"", capture_output=True, timeout=60, check=True
    )
    before, after, at_end = map(int, done.stderr.decode().split()[-3:])
    assert before == 0 and after >= 1 and at_end == after + 1
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 101 and "not an event" not in lines
    assert lines[0].startswith('{"event":"text","id":0') and lines[100].startswith('{"event":"started"')
