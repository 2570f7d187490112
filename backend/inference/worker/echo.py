"""python -m backend.inference.worker.echo

The smallest runtime: it answers with the user's own words. It shows what a runtime must do, and lets the app and its
tests run without a model. `/slow` before a text adds a pause before each word, `/crash` ends the process.
"""

import os
import time
from dataclasses import dataclass, field

from backend.inference.protocol import Ended, Generate, Ready, Request, Started, Stop, Text
from backend.inference.sampling import End, Generation
from backend.inference.worker.pipe import END, Pipe

CONTEXT = 4096
PAUSE = 0.05  # seconds per word, when slow


@dataclass
class Answer:
    """A request and the words that are still to be sent."""

    request: Generate
    words: list[str]
    total: int
    arrived: float = field(default_factory=time.monotonic)

    @property
    def sent(self) -> int:
        return self.total - len(self.words)

    @property
    def prompt(self) -> str:
        return self.request.messages[-1]["content"]


class EchoWorker:
    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.answers: dict[int, Answer] = {}
        pipe.send(Ready(context=CONTEXT))

    def run(self) -> None:
        while True:
            for request in self.pipe.take(wait=not self.answers):
                if request is END:
                    return
                self.receive(request)
            for answer in list(self.answers.values()):
                self.step(answer)

    def receive(self, request: Request) -> None:
        if isinstance(request, Stop):
            if request.id in self.answers:
                self.finish(self.answers[request.id], "stopped")
            return
        self.pipe.send(Started(id=request.id))
        text = request.messages[-1]["content"]
        if text.startswith("/crash"):
            self.pipe.flush()
            os.abort()
        words = [word + " " for word in text.removeprefix("/slow").split()]
        self.answers[request.id] = Answer(request, words, len(words))

    def step(self, answer: Answer) -> None:
        if not answer.words:
            self.finish(answer, "stop")
        elif answer.sent >= answer.request.sampling.max_tokens:
            self.finish(answer, "length")
        else:
            time.sleep(PAUSE if answer.prompt.startswith("/slow") else 0)
            self.pipe.send(Text(id=answer.request.id, text=answer.words.pop(0)))
            self.pipe.flush()

    def finish(self, answer: Answer, end: End) -> None:
        request = answer.request
        del self.answers[request.id]
        seconds = time.monotonic() - answer.arrived
        prompt = sum(len(message["content"].split()) for message in request.messages)
        generation = Generation(
            prompt_tokens=prompt,
            tokens=answer.sent,
            waited=0,
            first_token=0,
            seconds=seconds,
            tokens_per_second=answer.sent / seconds if seconds else 0.0,
            end=end,
            context_used=prompt + answer.sent,
            context_size=CONTEXT,
            seed=request.sampling.seed,
        )
        self.pipe.send(Ended(id=request.id, generation=generation))


if __name__ == "__main__":
    EchoWorker(Pipe()).run()
