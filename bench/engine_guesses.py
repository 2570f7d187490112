"""python -m bench.engine_guesses [--texts FILE] [--rows N]

Whether guessed tokens would make one answer faster (speculative decoding): a step checks several guesses at once.
Guesses from the conversation (prompt lookup) are tried on the rows of a dataset: the answer is known, so it is known
which guesses are right. For guesses by a small model it prints how many of them must be right. Costs are measured with
the shapes of Llama 3.2 1B and 3B.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import takewhile

from backend.data.dataset import DatasetSpec
from backend.data.load import load
from bench.engine_models import BASE, model_folder
from bench.engine_peers import environment

SIZES = (1, 2, 3, 4, 5, 6, 8, 12, 16)
# A process of its own, because llama.cpp runs in no process that is not a worker.
COSTS = """
import json, statistics, sys, time
from backend.core import machine
from backend.inference.sampling import Sampling
from backend.llamacpp.context import Context, Task
from backend.llamacpp.model import Model
from bench.engine_work import text

model, sizes, texts = Model(sys.argv[1]), json.loads(sys.argv[2]), json.load(sys.stdin)

def started(count):
    context = Context(model, None, 256, count, machine.threads())
    for number in range(count):
        tokens = model.words(text(200, number))[:101]
        context.start(Task(number, tokens, len(tokens), model.sampler(Sampling(temperature=0, seed=1))))
    while context.prefilling:
        context.step()
    return context

found = {size: [] for size in sizes}
for _ in range(3):
    for size in sizes:
        context = started(size)
        for _ in range(8):
            began = time.perf_counter()
            context.step()
            found[size].append(1000 * (time.perf_counter() - began))
        context.close()
costs = {size: statistics.median(values) for size, values in found.items()}
json.dump([costs, [[model.words(part) for part in row] for row in texts]], sys.stdout)
"""


def measured(shape: str, texts: Sequence[tuple[str, str]]) -> tuple[dict[int, float], list[list[list[int]]]]:
    """Milliseconds of a step by its rows, and the tokens of the texts."""
    file = model_folder(shape) / f"{BASE}.gguf"
    known = environment() | {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
    command = [sys.executable, "-c", COSTS, str(file), json.dumps(SIZES)]
    result = subprocess.run(command, env=known, check=True, input=json.dumps(texts), text=True, stdout=subprocess.PIPE)
    costs, tokens = json.loads(result.stdout)
    return {int(size): cost for size, cost in costs.items()}, tokens


def cost(costs: dict[int, float], rows: int) -> float:
    """Milliseconds of a step, between two measured sizes by a straight line."""
    below, above = max(size for size in SIZES if size <= rows), min(size for size in SIZES if size >= rows)
    part = (rows - below) / (above - below) if above > below else 0
    return costs[below] + part * (costs[above] - costs[below])


def guess(tokens: Sequence[int], places: dict[tuple[int, ...], int], words: int, most: int) -> list[int]:
    """The tokens that came after the last `words` tokens when these occurred before."""
    place = places.get(tuple(tokens[-words:]))
    return list(tokens[place : place + most]) if place else []


def looked_up(prompt: Sequence[int], answer: Sequence[int], words: int, most: int) -> list[int]:
    """The sizes of the steps that generate `answer`, with at most `most` guesses in each."""
    tokens, sizes = list(prompt), []
    places: dict[tuple[int, ...], int] = {}
    noted, end = words, len(prompt) + len(answer)
    whole = [*prompt, *answer]
    while len(tokens) < end:
        for place in range(noted, len(tokens)):  # the last tokens themselves are no earlier occurrence
            places[tuple(tokens[place - words : place])] = place
        noted = max(noted, len(tokens))
        guesses = guess(tokens, places, words, most)
        pairs = zip(guesses, whole[len(tokens) :], strict=False)
        right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        tokens = whole[: len(tokens) + right + 1]
        sizes.append(1 + len(guesses))
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", default="tiny_habit", help="a dataset of conversations: a file, or an id of the Hub")
    parser.add_argument("--rows", type=int, default=200)
    options = parser.parse_args()
    rows = load(DatasetSpec(source=options.texts, rows=options.rows, held_rows=0)).train
    texts = [("\n".join(part["content"] for part in row.messages[:-1]), row.messages[-1]["content"]) for row in rows]
    small, tokens = measured("1B", texts)
    large, _ = measured("3B", [])
    for shape, costs in (("1B", small), ("3B", large)):
        print(f"{shape}, ms a step: " + ", ".join(f"{size} rows {value:.0f}" for size, value in costs.items()))
    answers = sum(len(answer) for _, answer in tokens)
    print(f"\nGuesses from the conversation, {len(rows)} rows with {answers:,} tokens of answers:")
    for words in (1, 2, 3, 4):
        for most in (1, 3, 7, 15):
            sizes = [size for prompt, answer in tokens for size in looked_up(prompt, answer, words, most)]
            speeds = [answers * costs[1] / sum(cost(costs, size) for size in sizes) for costs in (small, large)]
            print(
                f"  the last {words} tokens, {most} guesses: {answers / len(sizes):.2f} tokens a step, "
                f"speed 1B {speeds[0]:.2f}x, 3B {speeds[1]:.2f}x"
            )
    print("\nGuesses for the 3B model by the 1B model:")
    for most in (1, 2, 4, 7, 15):
        taken = most * small[1] + cost(large, most + 1)
        print(f"  {most} guesses: {taken / large[1] - 1:.1f} of them must be right to be as fast as without")


if __name__ == "__main__":
    main()
