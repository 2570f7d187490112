"""The work of bench.engine: prompts, and the app's side of every measurement."""

import contextlib
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from backend.core import machine
from backend.core.messages import Message
from backend.core.settings import Settings
from backend.data.dataset import DatasetSpec
from backend.evaluation.answering import generate_answers
from backend.evaluation.records import Question
from backend.evaluation.request import EvaluateRequest
from backend.inference import placement
from backend.inference.engines import Engines
from backend.inference.reply import Reply
from backend.inference.sampling import Sampling
from bench.engine_peers import Prompt, Streamed
from models.catalogue import Entry, list_variants

WORDS = (
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not", "but",
    "at", "are", "this", "have", "from", "or", "had", "an", "they", "which", "one", "you", "were", "all", "there",
)  # fmt: skip
SHORTEST, LONGEST, SYSTEM = 60, 400, 300  # tokens of the prompts, and of a system prompt; a word is about one token


def text(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def prompts(count: int, system: int = 0, seed: int = 0) -> list[list[Message]]:
    """Prompts of different lengths, each in the same order every time."""
    order = random.Random(seed).sample(range(count), count)
    first = [Message(role="system", content=text(system, 1))] if system else []
    lengths = [SHORTEST - 15 + place * (LONGEST - SHORTEST) // max(1, count - 1) for place in order]
    return [[*first, Message(role="user", content=text(length, 100 + n + seed))] for n, length in enumerate(lengths)]


@dataclass(frozen=True)
class Model:
    """What is measured: a folder of variants, the ids in it, and the GGUF of the base."""

    weights: Path
    base: str
    file: Path

    @property
    def entry(self) -> Entry:
        return next(entry for entry in list_variants(self.weights) if entry.variant.id == self.base)


def evaluated(model: Model, variants: Sequence[str], asked: Sequence[Prompt], tokens: int) -> float:
    """Seconds of the answers of an evaluation, the start of its worker included."""
    questions = [Question(id=str(n), cluster=str(n), messages=list(prompt)) for n, prompt in enumerate(asked)]
    with tempfile.TemporaryDirectory() as folder:
        request = EvaluateRequest(
            name="bench", data=DatasetSpec(source="tiny_habit"), variants=tuple(variants), runs=folder,
            weights=str(model.weights), sampling=Sampling(temperature=0, seed=1, max_tokens=tokens),
            threads=machine.threads(),
        )  # fmt: skip
        began = time.perf_counter()
        generate_answers(request, questions, Path(folder), lambda done, total, tokens: None)
        return time.perf_counter() - began


def lab_set() -> list[list[Message]]:
    """As in the lab report: of 20 prompts, 4 occur twice."""
    different = prompts(16)
    return different + different[:4]


@contextlib.contextmanager
def engines(model: Model, slots: int, context: int) -> Iterator[Callable[[Prompt, int], Reply]]:
    """A function that starts an answer of the base, greedily, as the chat does."""
    settings = Settings(_env_file=None, lab_weights=model.weights, lab_slots=slots, lab_waiting=64)
    table = Engines(settings, lambda file, how: None)
    spec, form = placement.model_spec(model.entry, context), placement.prompt_format(model.entry)

    def start(prompt: Prompt, tokens: int) -> Reply:
        return table.reply(spec, prompt, Sampling(temperature=0, seed=1, max_tokens=tokens), form)

    try:
        yield start
    finally:
        table.close()


def streamed(began: float, reply: Reply) -> Streamed:
    """Read a reply as it arrives."""
    first = 0.0
    for _ in reply:
        first = first or time.perf_counter() - began
    assert reply.generation
    return Streamed(reply.generation.tokens, first, time.perf_counter() - began)


def streamed_all(start: Callable[[Prompt, int], Reply], asked: Sequence[Prompt], tokens: int) -> list[Streamed]:
    """Send all at the same time."""
    began = time.perf_counter()
    replies = [start(prompt, tokens) for prompt in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(lambda reply: streamed(began, reply), replies))


def wall(answers: Sequence[Streamed]) -> float:
    return max(answer.seconds for answer in answers)


def peak_memory(work: Callable[[], float]) -> tuple[float, int]:
    """The result of `work`, and the peak of the resident bytes of this process's children, mapped files included."""
    peak, ended = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(0.05):
            peak = max(peak, sum(map(_resident, _children())))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        return work(), peak
    finally:
        ended.set()
        thread.join()


def _children() -> list[int]:
    """Process ids. psutil would read the files of every process of the machine, which slows down what is measured."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def _resident(pid: int) -> int:
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0
