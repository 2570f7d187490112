"""python -m backend.inference.worker.echo

The smallest runtime: it answers with your own words. It ships, because it shows what a runtime must do, and lets
the app and its tests run where no model can. `/slow` before a text makes it take its time, `/crash` ends the process.
"""

import os
import time
from typing import Any

from backend.inference.sampling import End, Generation
from backend.inference.worker.pipe import END, Pipe

CONTEXT = 4096
PAUSE = 0.05  # seconds a word, when slow


def words(body: dict[str, Any]) -> list[str]:
    last = body["messages"][-1]["content"]
    return [word + " " for word in last.removeprefix("/slow").split()]


class EchoWorker:
    """One request in flight is one list of words still to send."""

    def __init__(self, wire: Pipe) -> None:
        self.wire = wire
        self.left: dict[int, list[str]] = {}
        self.body: dict[int, dict[str, Any]] = {}
        self.arrived: dict[int, float] = {}
        wire.send("ready", context=CONTEXT, template="")

    def run(self) -> None:
        while True:
            for message in self.wire.take(wait=not self.left):
                if message is END:
                    return
                self.receive(message)
            for number in list(self.left):
                self.step(number)

    def receive(self, body: dict[str, Any]) -> None:
        number = body["id"]
        if body["op"] == "stop":
            if number in self.left:
                self.finish(number, "stopped")
            return
        if body["messages"][-1]["content"].startswith("/crash"):
            self.wire.send("started", id=number)
            os.abort()
        self.left[number], self.body[number], self.arrived[number] = words(body), body, time.monotonic()
        self.wire.send("started", id=number)

    def step(self, number: int) -> None:
        body, left = self.body[number], self.left[number]
        said = len(words(body)) - len(left)
        if not left:
            self.finish(number, "stop")
        elif said >= body["sampling"]["max_tokens"]:
            self.finish(number, "length")
        else:
            time.sleep(PAUSE if body["messages"][-1]["content"].startswith("/slow") else 0)
            self.wire.send("text", id=number, text=left.pop(0))

    def finish(self, number: int, end: End) -> None:
        body, left = self.body.pop(number), self.left.pop(number)
        seconds = time.monotonic() - self.arrived.pop(number)
        tokens = len(words(body)) - len(left)
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        generation = Generation(
            prompt_tokens=prompt,
            tokens=tokens,
            waited=0,
            first_token=0,
            seconds=seconds,
            tokens_per_second=tokens / seconds if seconds else 0.0,
            end=end,
            context_used=prompt + tokens,
            context_size=CONTEXT,
            seed=body["sampling"]["seed"],
        )
        self.wire.send("ended", id=number, generation=generation.model_dump())


if __name__ == "__main__":
    EchoWorker(Pipe()).run()
