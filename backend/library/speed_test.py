"""python -m backend.library.speed_test FOLDER

The speed test: one variant alone in a process, with the lane that answers in Chat. A prompt of random tokens is read
and random text is written, because a model's speed does not depend on what it says.
"""

import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from backend.core import machine
from backend.core.errors import LabError
from backend.inference.process import CRASHES
from backend.inference.sampling import Sampling
from backend.jobs.journal import Journal, run_worker
from backend.library.status import SpeedResult, SpeedTestRequest
from backend.llamacpp.context import Context, Task
from backend.llamacpp.model import Model
from models import crash_marks


class Taken(NamedTuple):
    """Tokens per second of one round."""

    prompt: float
    generation: float


def supervise(asked: SpeedTestRequest, journal: Journal) -> None:
    """Measure in a child. A file that ends it by a fault of its own is marked, as it is when somebody talks to it."""
    command = [sys.executable, "-m", "backend.library.speed_test", str(journal.folder), "here"]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if child.returncode in CRASHES:
        name = signal.Signals(-child.returncode).name
        crash_marks.crashed(Path(asked.weights), Path(asked.adapter or asked.model), name)
        raise LabError(f"{asked.id} ended the process that measured it ({name}). It is marked and left alone.")
    answer = json.loads((child.stdout.splitlines() or ["{}"])[-1])
    if "speed" not in answer:
        raise LabError(answer.get("error") or f"The measurement ended with code {child.returncode}. Try once more.")
    journal.result(**answer["speed"])


def here(folder: Path) -> None:
    """The child: prints the result, or why there is none, as its last line."""
    asked = SpeedTestRequest.model_validate(json.loads((folder / "spec.json").read_bytes())["asked"])
    try:
        print(json.dumps({"speed": measure(asked, Journal(folder)).model_dump(exclude={"at"})}))
    except LabError as error:
        print(json.dumps({"error": str(error)}))


def measure(asked: SpeedTestRequest, journal: Journal) -> SpeedResult:
    journal.step(now=True, state="loading")
    model = Model(asked.model)
    prompt = min(asked.prompt, model.context_trained // 2)
    generate = min(asked.generate, model.context_trained - prompt)
    lane = Context(model, model.adapter(asked.adapter) if asked.adapter else None, prompt + generate, 1, asked.threads)
    lane.try_out()
    one_round(model, lane, min(prompt, 64), 8, seed=0)  # so that the weights are in memory
    taken = []
    for number in range(asked.repeats):
        journal.step(now=True, state="measuring", done=number, total=asked.repeats)
        taken.append(one_round(model, lane, prompt, generate, seed=number + 1))
    return SpeedResult(
        id=asked.id,
        quantisation=asked.quantisation,
        size=sum(os.path.getsize(path) for path in (asked.model, asked.adapter) if path),
        prompt_speed=statistics.median(one.prompt for one in taken),
        generation_speed=statistics.median(one.generation for one in taken),
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        prompt=prompt,
        generate=generate,
        repeats=asked.repeats,
        threads=asked.threads,
        machine=machine.processor(),
    )


def one_round(model: Model, lane: Context, prompt: int, generate: int, seed: int) -> Taken:
    """Read `prompt` tokens, write `generate`. Each round's prompt is another, or it would still be cached."""
    chance = random.Random(seed)
    tokens = [chance.randrange(model.n_vocab) for _ in range(prompt)]
    task = Task(seed, tokens, prompt, model.sampler(Sampling(temperature=0)))
    began = time.perf_counter()
    lane.start(task)
    first = 0.0
    while len(task.tokens) < prompt + generate:
        gained = lane.step()
        if gained and not first:
            first = time.perf_counter()
    ended = time.perf_counter()
    lane.end(task)
    if not first or ended == first:
        raise LabError("Nothing could be measured. Try once more.")
    return Taken(prompt / (first - began), (generate - 1) / (ended - first))


if __name__ == "__main__":
    if sys.argv[2:] == ["here"]:
        here(Path(sys.argv[1]))
    else:
        sys.exit(run_worker(SpeedTestRequest, supervise))
