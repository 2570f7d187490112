"""python -m backend.library.speed FOLDER

The speed test: one variant alone in this process, with the lane that answers in Chat. A prompt of random tokens is read
and random text is written, because a model's speed does not depend on what it says.
"""

import os
import random
import resource
import statistics
import sys
import time
from typing import NamedTuple

from backend import machine
from backend.errors import LabError
from backend.inference.lane import Lane, Task
from backend.inference.model import Model
from backend.inference.sampling import Sampling
from backend.jobs.work import Journal, work
from backend.library.speeds import Speed, SpeedSpec


class Taken(NamedTuple):
    """Tokens per second of one round."""

    prompt: float
    generation: float


def measure(asked: SpeedSpec, journal: Journal) -> None:
    journal.step(now=True, state="loading")
    model = Model(asked.model)
    prompt = min(asked.prompt, model.context_trained // 2)
    generate = min(asked.generate, model.context_trained - prompt)
    lane = Lane(model, model.adapter(asked.adapter) if asked.adapter else None, prompt + generate, 1, asked.threads)
    lane.try_out()
    one_round(model, lane, min(prompt, 64), 8, seed=0)  # so that the weights are in memory
    taken = []
    for number in range(asked.repeats):
        journal.step(now=True, state="measuring", done=number, total=asked.repeats)
        taken.append(one_round(model, lane, prompt, generate, seed=number + 1))
    found = Speed(
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
    journal.result(**found.model_dump(exclude={"at"}))


def one_round(model: Model, lane: Lane, prompt: int, generate: int, seed: int) -> Taken:
    """Read `prompt` tokens, write `generate`. Each round's prompt is another, or it would still be cached."""
    chance = random.Random(seed)
    tokens = [chance.randrange(model.n_vocab) for _ in range(prompt)]
    task = Task(seed, tokens, prompt, model.sampler(Sampling(temperature=0).model_dump()))
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
    sys.exit(work(SpeedSpec, measure))
