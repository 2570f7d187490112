"""python -m backend.inference.worker.llama --model base.gguf --context 4096 --slots 4 --waiting 16 --threads 2

The worker that talks to GGUF models. One thread owns every llama.cpp call: it takes what has arrived, lets each
lane compute one step, and sends what came of it. Requests that find no free slot wait in line: first come, first served
within a lane, and in turns between visitors.
"""

import argparse
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.core.errors import LabError
from backend.core.messages import Message
from backend.inference.sampling import End, Generation
from backend.inference.worker.pipe import END, Pipe
from backend.inference.worker.stop_texts import AnswerText
from backend.llamacpp.chat_template import ChatTemplate, encode, fit_history
from backend.llamacpp.context import Context, Task
from backend.llamacpp.model import Model

PATIENCE = 3.0  # seconds a template may take for all the renderings of one request
BEAT = 1.0  # seconds between two signs of life, at most
SMALLEST = 256  # tokens of context for a trial
LANES = 4  # contexts kept; an idle one leaves when a fifth adapter is asked for


@dataclass(eq=False)
class Request:
    """One request from its arrival to its end."""

    body: dict[str, Any]
    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first: float = 0.0
    last: float = 0.0
    limit: int = 0
    left_out: int = 0
    task: Task | None = None
    answer: AnswerText | None = None
    place: int = -1

    @property
    def id(self) -> int:
        return int(self.body["id"])

    @property
    def lane(self) -> str:
        return str(self.body["lane"])

    @property
    def address(self) -> str:
        """Of a visitor; empty for the owner."""
        return str(self.body["visitor"][0])

    @property
    def session(self) -> str:
        return str(self.body["visitor"][1])


def in_turns(waiting: Iterable[Request], active: Iterable[Request], of: Callable[[Request], str]) -> list[Request]:
    """The line in an order that is fair between addresses or sessions (`of`), else as it was.

    The first request of each comes before the second of any; what is being answered counts as theirs already.
    """
    taken: Counter[str] = Counter(map(of, active))
    turn: dict[int, int] = {}
    line = list(waiting)
    for request in line:
        turn[request.id] = taken[of(request)]
        taken[of(request)] += 1
    return sorted(line, key=lambda request: turn[request.id])


class LlamaWorker:
    def __init__(self, options: argparse.Namespace, wire: Pipe) -> None:
        self.options, self.wire = options, wire
        self.model = Model(options.model)
        self.context = min(options.context, self.model.context_trained)
        self.lanes: dict[str, Context] = {}
        self.templates: dict[str, ChatTemplate] = {}
        self.waiting: deque[Request] = deque()
        self.active: dict[int, Request] = {}
        self.beaten = 0.0
        self.try_out()
        wire.send("ready", context=self.context, template=self.model.template)

    def try_out(self) -> None:
        """Compute one token before anybody is answered, so that a file that cannot is known for it."""
        lane = Context(self.model, None, SMALLEST, 1, self.options.threads)
        lane.try_out()
        lane.close()

    def run(self) -> None:
        while True:
            if time.monotonic() - self.beaten > BEAT:
                self.beaten = time.monotonic()
                self.wire.send("beat")  # it may compute for long before there is a word to send
            for message in self.wire.take(wait=not self.active and not self.waiting):
                if message is END:
                    return
                self.receive(message)
            self.admit()  # an answer may have ended since
            for name, lane in list(self.lanes.items()):
                if lane.busy:
                    self.step(name, lane)

    def receive(self, body: dict[str, Any]) -> None:
        if body["op"] == "stop":
            self.stop(body["id"])
            return
        request = Request(body)
        self.waiting.append(request)
        self.admit()
        mine = sum(other.address == request.address for other in self.waiting)
        if request not in self.waiting:
            return
        if len(self.waiting) > self.options.waiting:
            self.waiting.remove(request)
            self.refuse(request, f"{len(self.waiting)} requests are already waiting here. Try again in a moment.")
        elif request.address and mine > max(1, self.options.waiting // 2):
            self.waiting.remove(request)
            self.refuse(request, f"{mine - 1} requests of your network address are already waiting. Try again later.")

    def stop(self, number: int) -> None:
        if number in self.active:
            self.finish(self.active[number], "stopped")
        for request in [request for request in self.waiting if request.id == number]:
            self.waiting.remove(request)
            self.wire.send("ended", id=number, generation=self.account(request, "stopped").model_dump())

    def refuse(self, request: Request, why: str) -> None:
        self.wire.send("failed", id=request.id, message=why)

    def admit(self) -> None:
        """Start the requests that can start, in fair turns; tell the others their place when it has changed."""
        active = self.active.values()
        by_session = in_turns(self.waiting, active, lambda request: request.address + "\0" + request.session)
        self.waiting = deque(in_turns(by_session, active, lambda request: request.address))
        still: deque[Request] = deque()
        while self.waiting:
            request = self.waiting.popleft()
            try:
                lane = self.lane(request.lane, request.body["adapter"])
                if lane and lane.free:
                    self.begin(request, lane)
                else:
                    still.append(request)
            except LabError as error:
                self.refuse(request, str(error))
        self.waiting = still
        for place, request in enumerate(self.waiting):
            if request.place != place:
                request.place = place
                self.wire.send("place", id=request.id, place=place)

    def lane(self, name: str, path: str) -> Context | None:
        """The lane of that adapter, made when it is first asked for; None while every lane is busy."""
        if name in self.lanes:
            self.lanes[name] = self.lanes.pop(name)  # the least used stands first
        elif len(self.lanes) < LANES or self.evict():
            self.lanes[name] = self.open(path)
        return self.lanes.get(name)

    def open(self, path: str) -> Context:
        """A new lane. The screen is told which adapter is being opened, should that end this process."""
        if not path:
            return self.lane_over(None)
        self.wire.send("opening", adapter=path)
        try:
            lane = self.lane_over(self.model.adapter(path))
            try:
                lane.try_out()
            except LabError:
                lane.close()
                raise
            return lane
        finally:
            self.wire.send("opened", adapter=path)

    def lane_over(self, adapter: Any) -> Context:
        return Context(self.model, adapter, self.context, self.options.slots, self.options.threads)

    def evict(self) -> bool:
        idle = next((name for name, lane in self.lanes.items() if not lane.busy), None)
        if idle is not None:
            self.lanes.pop(idle).close()
        return idle is not None

    def begin(self, request: Request, lane: Context) -> None:
        body = request.body
        template = self.template(body["template"])
        deadline = time.monotonic() + PATIENCE

        def tokens_of(some: Sequence[Message]) -> list[int]:
            if time.monotonic() > deadline:
                raise LabError("The chat template of this model is too slow for this conversation. Start a new one.")
            return encode(template.parts(some), self.model.control, self.model.special, self.model.words)

        tokens, request.left_out = fit_history(
            body["messages"], tokens_of, self.context, body["sampling"]["max_tokens"]
        )
        if not tokens:
            raise LabError("The vocabulary of this model turns your message into nothing. Choose another variant.")
        request.limit = min(body["sampling"]["max_tokens"], self.context - len(tokens))
        request.answer = AnswerText(body["stops"])
        request.task = Task(request.id, tokens, len(tokens), self.model.sampler(body["sampling"]))
        request.started = time.monotonic()
        lane.start(request.task)
        self.active[request.id] = request
        self.wire.send("started", id=request.id)

    def template(self, source: str) -> ChatTemplate:
        """The template asked for, or the model's own; LabError where it has none."""
        source = source or self.model.template
        if not source:
            raise LabError(
                "This GGUF carries no chat template, so how it was trained to be spoken to is not known. "
                "Name its template in a variant.json beside it."
            )
        if source not in self.templates:
            self.templates[source] = ChatTemplate(source, self.model.bos, self.model.eos, self.model.control)
        return self.templates[source]

    def step(self, name: str, lane: Context) -> None:
        try:
            gained = lane.step()
        except RuntimeError as error:
            for request in [request for request in self.active.values() if request.lane == name]:
                self.end(request)
                self.refuse(request, f"llama.cpp could not compute this ({error}). Try again, or restart the app.")
            return
        for task, token in gained:
            self.token(self.active[task.id], token)

    def token(self, request: Request, token: int) -> None:
        assert request.task and request.answer
        if self.model.ends(token):  # not counted, and neither is its time
            request.task.tokens.pop()
            self.finish(request, "stop")
            return
        request.last = time.monotonic()
        request.first = request.first or request.last
        if text := request.answer.push(self.model.piece(token)):
            self.wire.send("text", id=request.id, text=text)
        count = len(request.task.tokens) - request.task.prompt
        if request.answer.ended:
            self.finish(request, "stop")
        elif count >= request.limit:
            self.finish(request, "length" if request.limit == request.body["sampling"]["max_tokens"] else "context")

    def finish(self, request: Request, end: End) -> None:
        assert request.answer
        if text := request.answer.rest():
            self.wire.send("text", id=request.id, text=text)
        self.wire.send("ended", id=request.id, generation=self.account(request, end).model_dump())
        self.end(request)

    def end(self, request: Request) -> None:
        assert request.task
        self.lanes[request.lane].end(request.task)
        del self.active[request.id]

    def account(self, request: Request, end: End) -> Generation:
        task = request.task
        now = time.monotonic()
        tokens = len(task.tokens) - task.prompt if task else 0
        streamed = request.last - request.first
        return Generation(
            prompt_tokens=task.prompt if task else 0,
            reused_tokens=task.reused if task else 0,
            tokens=tokens,
            waited=(request.started or now) - request.arrived,
            first_token=(request.first or now) - request.arrived,
            seconds=(request.last or now) - request.arrived,
            tokens_per_second=(tokens - 1) / streamed if tokens > 1 and streamed > 0 else 0.0,
            end=end,
            context_used=len(task.tokens) if task else 0,
            context_size=self.context,
            left_out=request.left_out,
            seed=request.body["sampling"]["seed"],
            template=request.body["template_name"],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    for name in ("context", "slots", "waiting", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    wire = Pipe()
    try:
        worker = LlamaWorker(options, wire)
    except LabError as error:
        wire.send("unloadable", message=str(error))
        return
    worker.run()


if __name__ == "__main__":
    main()
