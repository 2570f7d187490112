"""python -m bench.engine [--quick] [--only NAME ...] [--shape 1B|3B] [--model FILE] [--tokens N] [--rounds N]

How fast the app answers, beside llama.cpp's own programs and the loop of the lab report. The model has random weights
in the shapes of Llama 3.2 and Llama 3's own vocabulary (bench.engine_models); --model measures another GGUF with a chat
template. `python -m bench.engine_peers` builds the programs. Sides take turns; figures are medians.
"""

import argparse
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from backend.core import machine
from backend.core.messages import Message
from backend.inference.reply import Reply
from backend.inference.sampling import Generation
from bench.engine_app import IDLE, client_speed, idle_cpu
from bench.engine_models import ADAPTERS, BASE, model_folder
from bench.engine_peers import Prompt, Streamed, lab_loop, llama_bench, program, served
from bench.engine_work import (
    SYSTEM,
    Model,
    engines,
    evaluated,
    lab_set,
    peak_memory,
    prompts,
    streamed,
    streamed_all,
    text,
    wall,
)
from bench.export import ROOT
from bench.library import aim
from bench.start import APP, BARE_PAGE, page
from models.catalogue import TINY

BACKGROUND = """
import os, sys
from pathlib import Path
os.nice(10)
from bench.engine_work import Model, evaluated, prompts
weights, base, file = sys.argv[1:]
evaluated(Model(Path(weights), base, Path(file)), [base], prompts(60), 256)
"""


def medians(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each side. They take turns, each second round in the other order."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in names:
            found[name].append(sides[name]())
    for name, values in found.items():
        print(
            f"  {name}: {statistics.median(values):.2f} of {', '.join(f'{value:.2f}' for value in values)}", flush=True
        )
    return {name: statistics.median(values) for name, values in found.items()}


def ratio(name: str, value: float, bound: float, least: bool = True) -> str:
    """The line of an aim. `least`: the value is to be `bound` or more."""
    met = value >= bound if least else value <= bound
    return aim(name, f"{value:.2f}x", f"{'>=' if least else '<='} {bound:.2f}x", met)


@dataclass(frozen=True)
class Bench:
    """One run of this command. `quick`: without llama.cpp's programs, which take minutes to build."""

    model: Model
    rounds: int
    count: int
    """Prompts of an evaluation."""
    tokens: int
    threads: int
    quick: bool = False

    def server_seconds(self, asked: Sequence[Prompt], slots: int, *options: str) -> float:
        """Seconds of a server for all prompts at the same time, its start included."""
        with served(self.model.file, slots, 1024, self.threads, *options) as server:
            return server.started + wall(server.chat_all(asked, self.tokens))

    def evaluation(self) -> list[str]:
        asked = prompts(self.count)
        sides: dict[str, Callable[[], float]] = {
            "the app": lambda: evaluated(self.model, [self.model.base], asked, self.tokens),
            "the lab's loop": lambda: lab_loop(self.model.file, asked, self.tokens, self.threads),
        }
        if not self.quick:
            tries = {
                f"-np {slots} {' '.join(options)}": (slots, options)
                for slots in (8, self.count)
                for options in ((), ("--no-repack",))
            }
            once = {name: self.server_seconds(asked, slots, *options) for name, (slots, options) in tries.items()}
            print(
                "  llama-server, once:", ", ".join(f"{name}: {value:.1f} s" for name, value in once.items()), flush=True
            )
            slots, options = tries[min(once, key=lambda name: once[name])]
            sides[f"llama-server -np {slots} {' '.join(options)}"] = lambda: self.server_seconds(asked, slots, *options)
        ours, loop, *server = medians(sides, self.rounds).values()
        lines = [ratio(f"evaluation_{self.tokens}_beside_loop", loop / ours, 2.0)]
        return lines + [ratio(f"evaluation_{self.tokens}_beside_server", value / ours, 1.0) for value in server]

    def repeats(self) -> list[str]:
        return self._beside_server("evaluation_lab_set", lab_set(), 1.15)

    def system(self) -> list[str]:
        return self._beside_server("evaluation_system_prompt", prompts(self.count, SYSTEM), 1.3)

    def _beside_server(self, name: str, asked: Sequence[Prompt], bound: float) -> list[str]:
        found = medians(
            {
                "the app": lambda: evaluated(self.model, [self.model.base], asked, self.tokens),
                "llama-server": lambda: self.server_seconds(asked, len(asked), "--no-repack"),
            },
            self.rounds,
        )
        return [ratio(f"{name}_beside_server", found["llama-server"] / found["the app"], bound)]

    def variants(self) -> list[str]:
        """Three variants: one engine, beside three servers one after another."""
        asked, names = prompts(self.count), [self.model.base, *ADAPTERS]
        if not (self.model.weights / f"{ADAPTERS[0]}@{self.model.base}.gguf").exists():
            print("  not measured: this model has no adapters beside it")
            return []
        ours, theirs, largest = [], [], 0
        for _ in range(self.rounds):
            seconds, memory = peak_memory(lambda: evaluated(self.model, names, asked, self.tokens))
            ours.append(seconds)
            seconds, total = 0.0, 0
            for name in names:
                lora = [] if name == self.model.base else ["--lora", str(self.model.weights / f"{name}@base.gguf")]
                with served(self.model.file, self.count, 1024, self.threads, "--no-repack", *lora) as server:
                    seconds += server.started + wall(server.chat_all(asked, self.tokens))
                    total, largest = total + server.memory, max(largest, server.memory)
            theirs.append(seconds)
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(f"  the app: {mine:.2f} s, {memory / 1e9:.2f} GB")
        print(f"  three servers: {other:.2f} s, {total / 1e9:.2f} GB together, {largest / 1e9:.2f} GB the largest")
        return [
            ratio("three_variants_time", other / mine, 1.0),
            ratio("three_variants_memory", memory / total, 0.45, least=False),
        ]

    def stream(self) -> list[str]:
        """One stream: a prompt of 512 tokens and 128 tokens after it."""
        prompt, tokens = [Message(role="user", content=text(512 - 15, 7))], 128
        numbers = itertools.count()

        def ours() -> float:
            fresh = [Message(role="user", content=f"{next(numbers)} {prompt[0]['content']}")]
            answer = streamed(time.perf_counter(), reply := start(fresh, tokens))
            assert reply.generation
            return (reply.generation.prompt_tokens + answer.tokens) / answer.seconds

        def bench(repack: int) -> float:
            return llama_bench(self.model.file, 512, tokens, self.threads, "--repack", str(repack))

        with engines(self.model, 4, 1024) as start:
            streamed(0, start([Message(role="user", content="Hello")], 1))
            theirs = {f"llama-bench --repack {repack}": partial(bench, repack) for repack in (0, 1)}
            mine, *others = medians({"the app": ours} | theirs, self.rounds).values()
        return [ratio("one_stream", mine / max(others), 0.97)]

    def second_turn(self) -> list[str]:
        """Seconds to the first token of a second turn after 1,500 tokens."""
        talk = [Message(role="user", content=text(1500, 8))]
        more = [*talk, Message(role="assistant", content=text(10, 9)), Message(role="user", content=text(30, 10))]

        def ours() -> float:
            with engines(self.model, 4, 2048) as start:
                start(talk, 4).text()
                return streamed(time.perf_counter(), start(more, 4)).first

        def theirs() -> float:
            with served(self.model.file, 1, 2048, self.threads, "--no-repack") as server:
                server.chat(talk, 4)
                return server.chat(more, 4).first

        found = medians({"the app": ours, "llama-server": theirs}, self.rounds)
        return [ratio("second_turn", found["the app"] / found["llama-server"], 1.1, least=False)]

    def visitors(self) -> list[str]:
        """Eight visitors at the same time."""
        asked, firsts = prompts(8, seed=5), dict[str, list[float]]()

        def note(name: str, answers: Sequence[Streamed]) -> float:
            firsts.setdefault(name, []).append(max(answer.first for answer in answers))
            return sum(answer.tokens for answer in answers) / wall(answers)

        def ours() -> float:
            with engines(self.model, 8, 1024) as start:
                start([Message(role="user", content="Hello")], 1).text()
                return note("the app", streamed_all(start, asked, self.tokens))

        def theirs() -> float:
            with served(self.model.file, 8, 1024, self.threads, "--no-repack") as server:
                return note("llama-server", server.chat_all(asked, self.tokens))

        speeds = medians({"the app": ours, "llama-server": theirs}, self.rounds)
        late = {name: statistics.median(values) for name, values in firsts.items()}
        print(f"  last first token: the app {late['the app']:.2f} s, llama-server {late['llama-server']:.2f} s")
        return [
            ratio("eight_visitors", speeds["the app"] / speeds["llama-server"], 1.0),
            ratio("eight_visitors_first_token", late["the app"] / late["llama-server"], 1.1, least=False),
        ]

    def long_prompt(self) -> list[str]:
        """Four answers are read while a prompt of 8,000 tokens is computed: the gaps between their tokens."""
        gaps, ended = list[float](), threading.Event()

        def read(reply: Reply) -> None:
            last = 0.0
            for _ in reply:
                now = time.perf_counter()
                if last and not ended.is_set():
                    gaps.append(now - last)
                last = now

        with engines(self.model, 5, 8448) as start, ThreadPoolExecutor(4) as pool:
            replies = [start([Message(role="user", content=text(60, n))], 2000) for n in range(4)]
            readers = [pool.submit(read, reply) for reply in replies]
            while not all(reply.so_far for reply in replies):
                time.sleep(0.05)
            gaps.clear()
            answer = streamed(time.perf_counter(), start([Message(role="user", content=text(8000, 9))], 1))
            ended.set()
            for reply in replies:
                reply.stop()
            for reader in readers:
                reader.result()
        late = statistics.quantiles(gaps, n=20)[-1]
        print(f"  first token after {answer.first:.1f} s; {len(gaps)} gaps, the longest {max(gaps):.2f} s")
        return [aim("long_prompt_gap", f"{late:.2f} s, 95th percentile", "<= 0.40 s", late <= 0.4)]

    def load(self) -> list[str]:
        """Seconds from nothing to the first token, files in the page cache."""
        hello = [Message(role="user", content="Hello")]

        def ours() -> float:
            began = time.perf_counter()
            with engines(self.model, 4, 4096) as start:
                return streamed(began, start(hello, 2)).first

        def theirs() -> float:
            began = time.perf_counter()
            with served(self.model.file, 4, 4096, self.threads, "--no-repack") as server:
                return time.perf_counter() - began + server.chat(hello, 2).first

        found = medians({"the app": ours, "llama-server": theirs}, self.rounds)
        return [ratio("load", found["the app"] / found["llama-server"], 1.1, least=False)]

    def client(self) -> list[str]:
        """Tokens per second of text at gradio_client, beside the same requests to the engine."""
        lines = []
        numbers = itertools.count(1000)
        with page(APP, LAB_WEIGHTS=str(self.model.weights), LAB_SLOTS="4", LAB_CONTEXT="1024") as (url, _):
            client_speed(self.model, url, ["Hello"], 1)
            for visitors in (1, 4):

                def ours(visitors: int = visitors) -> float:
                    asked = [text(60, next(numbers)) for _ in range(visitors)]
                    return client_speed(self.model, url, asked, 2 * self.tokens)

                def pipe(visitors: int = visitors) -> float:
                    asked = [[Message(role="user", content=text(60, next(numbers)))] for _ in range(visitors)]
                    return visitors * 2 * self.tokens / wall(streamed_all(start, asked, 2 * self.tokens))

                with engines(self.model, 4, 1024) as start:
                    start([Message(role="user", content="Hello")], 1).text()
                    found = medians({"gradio_client": ours, "the pipe": pipe}, self.rounds)
                lines.append(ratio(f"client_{visitors}", found["gradio_client"] / found["the pipe"], 0.95))
        return lines

    def idle(self) -> list[str]:
        """CPU time of the app while a browser has its page open."""
        found = medians({"the app": partial(idle_cpu, APP), "a bare Gradio page": partial(idle_cpu, BARE_PAGE)}, 1)
        print(f"  seconds of CPU in {IDLE:.0f} seconds")
        return [ratio("idle_page", found["the app"] / found["a bare Gradio page"], 1.5, least=False)]

    def chat_beside_evaluation(self) -> list[str]:
        """Tokens per second of a chat, with and without an evaluation at the same time."""

        def speed() -> float:
            reply = start([Message(role="user", content=text(20, next(seeds)))], 48)
            reply.text()
            assert isinstance(reply.generation, Generation)
            return reply.generation.tokens_per_second

        seeds = itertools.count(50)
        words = [sys.executable, "-c", BACKGROUND, str(self.model.weights), self.model.base, str(self.model.file)]
        with engines(self.model, 4, 1024) as start:
            speed()
            idle = statistics.median(speed() for _ in range(3))
            evaluation = subprocess.Popen(words, cwd=ROOT, start_new_session=True)
            try:
                time.sleep(4)  # until its worker has loaded the model
                busy = statistics.median(speed() for _ in range(3))
                assert evaluation.poll() is None
            finally:
                os.killpg(evaluation.pid, signal.SIGTERM)
                evaluation.wait()
        print(f"  chat: {idle:.1f} tokens/s alone, {busy:.1f} while an evaluation runs")
        return [ratio("chat_beside_evaluation", busy / idle, 0.5)]

    def toy(self) -> list[str]:
        """Time per example and peak memory of evaluations of different sizes, with the embedded model."""
        tiny = Model(self.model.weights, "tiny_base", TINY / "tiny_base.gguf")
        figures = []
        start = min(self._toy(tiny, 1)[0] for _ in range(3))
        for size in (20, 200, 600 if self.quick else 2000):
            seconds, memory = min(self._toy(tiny, size) for _ in range(3))
            figures.append(((seconds - start) / (size - 1), memory))
            print(f"  {size} examples: {1000 * figures[-1][0]:.1f} ms each, {memory / 1e6:.0f} MB", flush=True)
        (_, (time_some, memory_some), (time_many, memory_many)) = figures  # 20 examples do not fill the slots
        return [
            ratio("toy_time_flat", time_many / time_some, 1.1, least=False),
            ratio("toy_memory_flat", memory_many / memory_some, 1.1, least=False),
        ]

    def _toy(self, tiny: Model, size: int) -> tuple[float, int]:
        numbers = random.Random(size).sample(range(10_000), size)  # alike in each size: long numbers are more tokens
        asked = [[Message(role="user", content=f"What is {n} plus {n % 7}?")] for n in numbers]
        return peak_memory(partial(evaluated, tiny, ["tiny_base"], asked, 32))


BENCHES = (
    "evaluation", "repeats", "system", "variants", "stream", "second_turn", "visitors", "long_prompt",
    "load", "client", "idle", "chat_beside_evaluation", "toy",
)  # fmt: skip
QUICK = ("evaluation", "toy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small shape and few tokens, beside the lab's loop")
    parser.add_argument("--only", nargs="+", choices=BENCHES, help="only these")
    parser.add_argument("--shape", default="1B", choices=("1B", "3B", "small"))
    parser.add_argument("--model", type=Path, help="another GGUF, in a folder of its own")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.model:
        model = Model(options.model.parent, options.model.stem, options.model)
    else:
        weights = model_folder("small" if options.quick else options.shape)
        model = Model(weights, BASE, weights / f"{BASE}.gguf")
    threads = machine.threads()
    if options.quick:
        if set(options.only or ()) - set(QUICK):
            parser.error(f"--quick measures only {' and '.join(QUICK)}")
        bench = Bench(model, 1, 20, options.tokens, threads, quick=True)
    else:
        program("llama-server")  # built before anything is measured
        bench = Bench(model, options.rounds, 20, options.tokens, threads)
    print(f"{date.today()}, {threads} threads, {model.file.stat().st_size / 1e6:.0f} MB: {model.file.name}")
    lines = []
    for name in options.only or (QUICK if options.quick else BENCHES):
        print(f"{name}:", flush=True)
        lines += getattr(bench, name)()
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
