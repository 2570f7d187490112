"""The peers of bench.engine: llama.cpp's own programs and the loop of the lab report.

`python -m bench.engine_peers` builds llama-server, llama-bench and llama-batched-bench into build/llama-cpp, from the
sources of the installed llama-cpp-python. It takes some minutes, once, and needs cmake.
"""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from backend.core.messages import Message
from bench.export import ROOT, sources

PROGRAMS = ("llama-server", "llama-bench", "llama-batched-bench")
BUILD = ROOT / "build" / "llama-cpp"
LOOP = """
import json, sys
import llama_cpp
spec = json.load(sys.stdin)
model = llama_cpp.Llama(spec["model"], n_ctx=spec["context"], n_threads=spec["threads"],
                        n_threads_batch=spec["threads"], verbose=False)
for messages in spec["prompts"]:
    model.create_chat_completion(messages, max_tokens=spec["tokens"], temperature=0)
"""
Prompt = Sequence[Message]


@dataclass(frozen=True)
class Streamed:
    """An answer as a client sees it. Seconds from the sending: to the first text, and to the end."""

    tokens: int
    first: float
    seconds: float


def environment() -> dict[str, str]:
    """For a peer: threads wait as it prefers, also where this shell says otherwise (the app sets its own)."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    return known | {"PYTHONPATH": str(ROOT)}


def is_built() -> bool:
    return (BUILD / "done").exists()


def program(name: str) -> Path:
    """The path of one of `PROGRAMS`. All are built at the first call."""
    if not is_built():
        off = [f"-DLLAMA_{part}=OFF" for part in ("CURL", "OPENSSL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_UI")]
        configure = ["-S", str(sources(None)), "-B", str(BUILD), "-DCMAKE_BUILD_TYPE=Release", *off]
        build = ["--build", str(BUILD), "-j", str(os.cpu_count()), "--target", *PROGRAMS]
        for words in (configure, build):
            subprocess.run(["cmake", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (BUILD / "done").touch()
    return BUILD / "bin" / name


def lab_loop(model: Path, prompts: Sequence[Prompt], tokens: int, threads: int) -> float:
    """Seconds of the lab report's loop: one prompt after another with `llama_cpp.Llama`, its start included."""
    spec = {"model": str(model), "prompts": list(prompts), "tokens": tokens, "threads": threads, "context": 2048}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", LOOP], input=json.dumps(spec).encode(), env=environment(), check=True)
    return time.perf_counter() - began


@dataclass(frozen=True)
class Server:
    """A running llama-server. `started`: seconds from its start until it is ready."""

    port: int
    process: subprocess.Popen[bytes]
    started: float

    def chat(self, prompt: Prompt, tokens: int) -> Streamed:
        """Stream one answer, greedily."""
        began, first, count = time.perf_counter(), 0.0, 0
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3000)
        body = {
            "messages": list(prompt), "max_tokens": tokens, "temperature": 0, "stream": True, "cache_prompt": True,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        with contextlib.closing(connection):
            for line in connection.getresponse():
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if any(choice["delta"].get("content") for choice in event.get("choices", ())):
                    first = first or time.perf_counter() - began
                if usage := event.get("usage"):
                    count = usage["completion_tokens"]
        return Streamed(count, first, time.perf_counter() - began)

    def chat_all(self, prompts: Sequence[Prompt], tokens: int) -> list[Streamed]:
        """Send all at the same time."""
        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(lambda prompt: self.chat(prompt, tokens), prompts))

    @property
    def memory(self) -> int:
        """Resident bytes, mapped weights included."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextlib.contextmanager
def served(model: Path, slots: int, context: int, threads: int, *options: str) -> Iterator[Server]:
    """llama-server with `slots` sequences of `context` tokens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = {
        "-m": model, "-np": slots, "-c": slots * context, "-t": threads, "-tb": threads, "--host": "127.0.0.1",
        "--port": port,
    }  # fmt: skip
    command = [str(program("llama-server")), *(str(word) for pair in words.items() for word in pair), "--jinja"]
    began = time.perf_counter()
    with (BUILD / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], env=environment(), stdout=log, stderr=log)
        try:
            _wait(port, process)
            yield Server(port, process, time.perf_counter() - began)
        finally:
            process.terminate()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"llama-server ended with {process.returncode}: see {BUILD / 'server.log'}")


def llama_bench(model: Path, prompt: int, tokens: int, threads: int, *options: str) -> float:
    """Tokens per second of llama-bench for a prompt and the tokens after it, together."""
    words = ["-m", model, "-p", 0, "-n", 0, "-pg", f"{prompt},{tokens}", "-t", threads, "-r", 1, "-o", "json"]
    command = [str(program("llama-bench")), *map(str, words), *options]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


if __name__ == "__main__":
    print("\n".join(str(program(name)) for name in PROGRAMS))
