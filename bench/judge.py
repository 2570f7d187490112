"""python -m bench.judge [--quick]: times 100 judgements at an address that takes half a second for each.

The address is a server on loopback, so `together` is set to the default for a remote address. The peer is the loop of
the lab report, which sends one request after another. Then the same run is killed in the middle and resumed, and the
server counts the calls.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from backend.core import jsonl
from backend.core.messages import Message
from backend.core.settings import Settings
from backend.evaluation import records
from backend.evaluation.imported_answers import ImportedAnswer, ImportedFile
from backend.evaluation.request import JudgeRequest
from backend.jobs.run import Run
from backend.judge import prompt
from backend.judge.rubric import rubrics
from backend.judge.score import Item
from backend.lab import Lab
from backend.remote.address import CONCURRENCY

ROOT = Path(__file__).parents[1]
ROWS, MODELS = 50, ("one", "two")
CALLS = ROWS * len(MODELS)
LATENCY = 0.5
DEFAULT = CONCURRENCY  # simultaneous calls to a remote address
TRIED = (4, 8, 10, 12, 16, 20)
FASTER = 8.0
GRADE = {"evidence": "It says so.", "correctness": 4, "completeness": 4, "faithfulness": 4}
REPLY = json.dumps(GRADE | {"flags": [], "cannot_judge": False})
TRIAL = "lemon"  # in the question that finds out which parameters the address accepts
SEQUENTIAL = """
import json, sys
from openai import OpenAI
client = OpenAI(api_key="none", base_url=sys.argv[1])
for messages in json.load(open(sys.argv[2])):
    response = client.chat.completions.create(model="judge", messages=messages, temperature=0, max_tokens=500)
    json.loads(response.choices[0].message.content)
"""


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.note(body["messages"][-1]["content"])
        time.sleep(LATENCY)
        message = {"role": "assistant", "content": REPLY}
        response = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050},
        }
        raw = json.dumps(response).encode()
        with contextlib.suppress(OSError):  # the client was killed
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Gives every answer the same grade. `requests`: the time and the text of each."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.requests: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore connections that a killed process has closed."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def calls(self) -> list[tuple[float, str]]:
        """The requests without trial questions."""
        return [(at, text) for at, text in self.requests if TRIAL not in text]

    def note(self, text: str) -> None:
        with self._lock:
            self.requests.append((time.monotonic(), text))


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


class Took(NamedTuple):
    """Seconds: with the start of the processes, and of the judging alone (first request to last reply)."""

    whole: float
    judging: float


def answers() -> list[ImportedAnswer]:
    return [
        ImportedAnswer(
            model=name,
            id=str(row),
            messages=[Message(role="user", content=f"What is {row} plus one? Explain how you know.")],
            reference=f"It is {row + 1}, because that is the number after {row}.",
            candidate=f"{name} says it is {row + 1}. " * 12,
        )
        for row in range(ROWS)
        for name in MODELS
    ]


def one_after_the_other(server: Server, folder: Path, calls: int) -> Took:
    """The lab's way, in a process of its own. `calls` are made, and the time is reckoned for all."""
    items = [Item(messages=one.messages, reference=one.reference, answer=one.candidate) for one in answers()]
    path = folder / "prompts.json"
    path.write_text(json.dumps([prompt.question(rubrics()["lab"], item) for item in items[:calls]]))
    begins = time.monotonic()
    subprocess.run([sys.executable, "-c", SEQUENTIAL, server.url, str(path)], cwd=ROOT, check=True)
    whole = time.monotonic() - begins
    judging = (server.calls[-1][0] + LATENCY - server.calls[0][0]) * CALLS / calls
    return Took(whole + judging * (1 - calls / CALLS), judging)


def started(server: Server, lab: Lab, together: int) -> Run:
    judge = JudgeRequest(kind="endpoint", rubric="lab", model="judge", address=server.url, free=True, together=together)
    imported = ImportedFile(answers())
    name = f"{together} at once"
    request = lab.evaluations.request(MODELS, judge, answers=imported, check=False, rejudged=0, name=name)
    return lab.evaluations.start(request, imported)


def wait(run: Run, lab: Lab) -> None:
    """Until it has ended; RuntimeError unless every answer has a score then."""
    while run.live:
        time.sleep(0.01)
    cells = lab.evaluations.result(run.id).table.cells
    if run.state != "done" or [cell.status for cell in cells.values()] != ["ok"] * CALLS:
        raise RuntimeError(f"{run.state}: {run.why} {run.log()}")


def at_once(server: Server, lab: Lab, together: int) -> Took:
    """Our way, with that many at once."""
    begins = time.monotonic()
    run = started(server, lab, together)
    wait(run, lab)
    whole = time.monotonic() - begins
    return Took(whole, server.calls[-1][0] + LATENCY - server.calls[0][0])


class Killed(NamedTuple):
    """Calls at the server, trial questions left out."""

    before: int
    stored: int
    """Of those, how many replies had been written down."""
    after: int
    again: int
    """Asked again although their reply had been stored."""
    flying: int
    """Asked again because they were under way."""


def killed(server: Server, lab: Lab, together: int) -> Killed:
    """Runner and worker killed when half is stored, then resumed."""
    run = started(server, lab, together)
    replies = run.folder / records.REPLIES
    while len(list(jsonl.read(replies))) < CALLS // 2 and run.live:
        time.sleep(0.01)
    workers = run.workers
    for one in (workers.worker, workers.runner) if workers else ():
        if one:
            os.killpg(one[0], signal.SIGKILL)
    while run.alive:
        time.sleep(0.01)
    stored = {str(one["what"]).partition(".")[0] for one in jsonl.read(replies)}
    before = len(server.calls)
    lab.evaluations.resume(run.id)
    wait(run, lab)
    key_of = {one.prompt[-1]["content"]: key for key, (one, *_) in records.scores(run.folder).items()}
    first, later = ([key_of[text] for _, text in part] for part in (server.calls[:before], server.calls[before:]))
    again = Counter(later)
    twice = sum(again[key] for key in set(again) & set(first))
    seen = sum(again[key] for key in set(again) & stored)
    return Killed(before, len(stored), len(later), seen, twice - seen)


def aim(name: str, value: float, bound: str, met: bool) -> None:
    """One line that a machine can read."""
    print(f"aim {name}: {value:g} ({bound}) {'met' if met else 'missed'}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how long judging takes, and what a kill costs.")
    parser.add_argument("--quick", action="store_true", help="fewer calls one after the other, and the default alone")
    quick = parser.parse_args().quick
    print(f"{CALLS} judgements, {LATENCY * 1000:.0f} ms each\n")
    print("| asked at once | whole, s | judging alone, s | faster | judging alone faster |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as home:
        with serving() as server:
            lab_way = one_after_the_other(server, Path(home), 10 if quick else CALLS)
        row("1, a loop", lab_way, lab_way)
        took: dict[int, Took] = {}
        for together in (DEFAULT,) if quick else sorted({*TRIED, DEFAULT}):
            with serving() as server, opened(Path(home, str(together))) as lab:
                took[together] = at_once(server, lab, together)
            row(f"{together}{', the default' if together == DEFAULT else ''}", took[together], lab_way)
        with serving() as server, opened(Path(home, "killed")) as lab:
            found = killed(server, lab, DEFAULT)
    if quick:
        print("\nThe loop made 10 calls; its time is reckoned for all.")
    print(
        f"\nKilled after {found.before} calls, {found.stored} of them stored: {found.after} more after that, of which"
    )
    print(f"{found.flying} were under way when the kill came and {found.again} had been stored.\n")
    faster = lab_way.whole / took[DEFAULT].whole
    aim("faster than one after the other", round(faster, 2), f">= {FASTER:g}", faster >= FASTER)
    aim("asked again after a kill", found.again, "<= 0", found.again == 0)
    aim("asked again because under way", found.flying, f"<= {DEFAULT}", found.flying <= DEFAULT)


def row(name: str, took: Took, beside: Took) -> None:
    ratios = f"{beside.whole / took.whole:.1f}x | {beside.judging / took.judging:.1f}x"
    print(f"| {name} | {took.whole:.1f} | {took.judging:.1f} | {ratios} |", flush=True)


@contextmanager
def opened(home: Path) -> Iterator[Lab]:
    (home / "weights").mkdir(parents=True)
    with Lab(Settings(_env_file=None, lab_runs=home / "runs", lab_weights=home / "weights")) as lab:
        yield lab


if __name__ == "__main__":
    main()
