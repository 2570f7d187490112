"""python -m bench.engine_kernels [--shape 1B|3B|small] [--model FILE]

What llama.cpp's steps cost in a chat and in an evaluation: prompts by their length, steps of a prompt after 4,000
tokens, answers by their number, and making a context. These figures are behind the sizes of steps, flash attention, the
number of slots and GOMP_SPINCOUNT (docs/decisions.md, 44, 46, 47 and 48).
"""

import argparse
import subprocess
import sys
from pathlib import Path

from bench.engine_models import BASE, model_folder
from bench.engine_peers import environment

SPINS = ("0", "1000", "10000", "100000")
# A process of its own, because llama.cpp runs in no process that is not a worker.
STEPS = """
import statistics, sys, time
from backend.core import machine
from backend.inference.sampling import Sampling
from backend.llamacpp.context import Context, Task
from backend.llamacpp.model import Model
from bench.engine_work import text

def milliseconds(work, times):
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - began))
    return statistics.median(found)

def started(count, length, cells, throughput=False):
    context = Context(model, None, cells, count, machine.threads(), throughput)
    for number in range(count):
        tokens = model.words(text(2 * length, number))[: length + 1]
        context.start(Task(number, tokens, len(tokens), model.sampler(Sampling(temperature=0, seed=1))))
    return context

def prompt(length, throughput):
    context = started(1, length, 1024, throughput)
    found = milliseconds(context.step, 1)
    context.close()
    return found

def late(throughput):
    context, found = started(1, 4400, 4608, throughput), []
    while len(context.slots[0].cells) < 4000:
        context.step(512 if throughput else 128)
    for rows in (16, 32, 64, 128):
        found.append(f"{rows} rows {milliseconds(lambda: context.step(rows), 1):.0f} ms")
    context.close()
    return ", ".join(found)

def answers(count, throughput=True):
    context = started(count, 100, 256, throughput)
    while context.prefilling:
        context.step()
    found = milliseconds(context.step, 15)
    context.close()
    return found

model = Model(sys.argv[1])
if "one" in sys.argv:
    sys.exit(print(f"{answers(1, False):.0f} ms a token"))
kinds = (("chat", False), ("evaluation", True))
for name, throughput in kinds:
    for length in (16, 32, 64, 128, 256, 512):
        taken = statistics.median(prompt(length, throughput) for _ in range(3))
        print(f"{name}, prompt of {length}: {taken:.0f} ms, {1000 * length / taken:.0f} tokens/s", flush=True)
for name, throughput in kinds:
    print(f"{name}, a step of a prompt after 4,000 tokens: {late(throughput)}", flush=True)
for count in (1, 2, 4, 8, 16, 20, 32, 64, 128):
    taken = answers(count)
    print(f"{count} answers: {taken:.0f} ms a step, {1000 * count / taken:.0f} tokens/s", flush=True)
for cells in (1024, 2560):
    taken = milliseconds(lambda: Context(model, None, cells, 20, 1, True).close(), 2)
    print(f"making a context of 20 x {cells} tokens: {taken:.0f} ms", flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="1B", choices=("1B", "3B", "small"))
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    file = options.model or model_folder(options.shape) / f"{BASE}.gguf"
    command = [sys.executable, "-c", STEPS, str(file)]
    known = environment() | {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
    subprocess.run(command, env=known, check=True)
    for spins in SPINS:
        print(f"one answer with GOMP_SPINCOUNT={spins}: ", end="", flush=True)
        subprocess.run([*command, "one"], env=known | {"GOMP_SPINCOUNT": spins}, check=True)


if __name__ == "__main__":
    main()
