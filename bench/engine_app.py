"""The app side of bench.engine: text at a client of the page, and the CPU time of an idle page."""

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil
from gradio_client import Client
from playwright.sync_api import sync_playwright

from backend.inference.sampling import Sampling
from bench.engine_work import Model
from bench.start import page

IDLE = 20.0  # seconds


def client_speed(model: Model, url: str, asked: Sequence[str], tokens: int) -> float:
    """Tokens per second of all answers together, each at a client of its own."""
    clients = [Client(url, verbose=False, analytics_enabled=False, download_files=False) for _ in asked]
    values = Sampling(temperature=0, seed=1, max_tokens=tokens).model_dump()

    def chat(client: Client, message: str) -> None:
        job = client.submit(
            message=message, variant=model.base, prompt_format="as trained", system_prompt="", api_name="/chat",
            **values,
        )  # fmt: skip
        for _ in job:
            pass
        job.result()

    began = time.perf_counter()
    with ThreadPoolExecutor(len(asked)) as pool:
        list(pool.map(chat, clients, asked))
    return len(asked) * tokens / (time.perf_counter() - began)


def idle_cpu(command: Sequence[str]) -> float:
    """Seconds of CPU that a page takes in IDLE seconds while a browser has it open."""
    with page(command) as (url, process), sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        browser.new_page().goto(url)
        time.sleep(5)  # the first requests of the page
        before = _cpu(process)
        time.sleep(IDLE)
        after = _cpu(process)
        browser.close()
    return after - before


def _cpu(process: psutil.Process) -> float:
    every = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in every)
