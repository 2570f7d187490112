"""python -m backend.library.speed_test FOLDER

Measures the tokens per second of one variant, alone in a process, with the same code that answers in Chat. Reads a
prompt of random tokens and generates text, because the speed does not depend on the content.
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
from backend.jobs.events import SpeedTestResult, StepFacts
from backend.jobs.journal import Journal, run_worker
from backend.library.status import SpeedTestRequest
from backend.llamacpp.context import Context, Task
from backend.llamacpp.model import Model
from models import crash_marks


class Speeds(NamedTuple):
    """Tokens per second of one round."""

    prompt: float
    generation: float


def run(request: SpeedTestRequest, journal: Journal) -> None:
    """Measure in a child process. A file that crashes the child is marked, as it is when it crashes an engine."""
    command = [sys.executable, "-m", "backend.library.speed_test", str(journal.folder), "here"]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if child.returncode in CRASHES:
        name = signal.Signals(-child.returncode).name
        crash_marks.record_crash(Path(request.weights), Path(request.adapter or request.model), name)
        raise LabError(f"{request.id} crashed the measuring process ({name}). It is marked and not loaded again.")
    answer = json.loads((child.stdout.splitlines() or ["{}"])[-1])
    if "speed" not in answer:
        raise LabError(answer.get("error") or f"The measurement ended with code {child.returncode}. Try again.")
    journal.result(SpeedTestResult.model_validate(answer["speed"]))


def run_child(folder: Path) -> None:
    """In the child process: print the result, or an error, as the last line."""
    request = SpeedTestRequest.model_validate(json.loads((folder / "spec.json").read_bytes())["asked"])
    try:
        print(json.dumps({"speed": measure(request, Journal(folder)).model_dump()}))
    except LabError as error:
        print(json.dumps({"error": str(error)}))


def measure(request: SpeedTestRequest, journal: Journal) -> SpeedTestResult:
    journal.step(StepFacts(state="loading"), now=True)
    model = Model(request.model)
    prompt = min(request.prompt, model.context_trained // 2)
    generate = min(request.generate, model.context_trained - prompt)
    adapter = model.adapter(request.adapter) if request.adapter else None
    context = Context(model, adapter, prompt + generate, 1, request.threads)
    context.try_out()
    measure_round(model, context, min(prompt, 64), 8, seed=0)  # loads the weights into memory
    rounds = []
    for number in range(request.repeats):
        journal.step(StepFacts(state="measuring", done=number, total=request.repeats), now=True)
        rounds.append(measure_round(model, context, prompt, generate, seed=number + 1))
    return SpeedTestResult(
        id=request.id,
        quantisation=request.quantisation,
        size=sum(os.path.getsize(path) for path in (request.model, request.adapter) if path),
        prompt_speed=statistics.median(speeds.prompt for speeds in rounds),
        generation_speed=statistics.median(speeds.generation for speeds in rounds),
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        prompt=prompt,
        generate=generate,
        repeats=request.repeats,
        threads=request.threads,
        machine=machine.processor(),
    )


def measure_round(model: Model, context: Context, prompt: int, generate: int, seed: int) -> Speeds:
    """Read `prompt` tokens and generate `generate`. Each round has another prompt, because a prompt stays cached."""
    rng = random.Random(seed)
    tokens = [rng.randrange(model.n_vocab) for _ in range(prompt)]
    task = Task(seed, tokens, prompt, model.sampler(Sampling(temperature=0)))
    start = time.perf_counter()
    context.start(task)
    first = 0.0
    while len(task.tokens) < prompt + generate:
        generated = context.step()
        if generated and not first:
            first = time.perf_counter()
    end = time.perf_counter()
    context.end(task)
    if not first or end == first:
        raise LabError("The model generated too few tokens to measure its speed. Try again.")
    return Speeds(prompt / (first - start), (generate - 1) / (end - first))


if __name__ == "__main__":
    if sys.argv[2:] == ["here"]:
        run_child(Path(sys.argv[1]))
    else:
        sys.exit(run_worker(SpeedTestRequest, run))
