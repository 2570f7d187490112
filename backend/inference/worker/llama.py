"""python -m backend.inference.worker.llama --model base.gguf --context 4096 --slots 4 --waiting 16 --threads 2

The worker for GGUF models. One thread owns every llama.cpp call: it takes the requests that have arrived, lets each
context compute one step, and sends the new text. Requests without a free slot wait in a queue: first come, first served
within a context, and in turns between visitors.

A step computes some tokens of prompts: fewer while an answer is being read, so that its next token comes soon, and
more while only a stop or a new request could wait. Where several prompts arrive together, their answers begin together
if that delays none by more than some seconds.

With --throughput, for an evaluation, steps are large, answers pause while prompts are computed, and there is only one
context: requests start in the order of arrival, and those of another adapter wait until all before them have ended.
"""

import argparse
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.core.errors import Code, LabError
from backend.core.messages import Message
from backend.inference.protocol import (
    Ended,
    Failed,
    Generate,
    Heartbeat,
    Opened,
    Opening,
    Queued,
    Ready,
    Started,
    Stop,
    Text,
    Unloadable,
)
from backend.inference.sampling import End, Generation
from backend.inference.worker.pipe import END, Pipe
from backend.inference.worker.stop_texts import AnswerText
from backend.llamacpp.chat_template import ChatTemplate, encode, fit_history
from backend.llamacpp.context import BATCH, CHUNK, Context, Decode, Task
from backend.llamacpp.model import Model

TEMPLATE_SECONDS = 3.0  # for all renderings of one request
HEARTBEAT_SECONDS = 1.0
TRIAL_CONTEXT = 256  # tokens
FEWEST_ROWS = 16  # prompt tokens of a step, at least: fewer take nearly as long
READER_SECONDS, SLOW_SECONDS = 0.35, 10.0  # most for a step: while an answer is being read, and with --throughput
TOGETHER_SECONDS = 5.0  # most that the first token of an answer waits for the prompts of others
PASS_ROWS, ANSWER_ROWS = 28, 6  # what a pass over the weights and a token of an answer cost, in prompt tokens; measured
MOST_CONTEXTS = 4  # one per adapter; an idle one is closed when a fifth adapter is needed; with --throughput 1


@dataclass(eq=False)
class Request:
    """A request from its arrival to its end. Times are of `time.monotonic`, 0 until they happen."""

    generate: Generate
    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    limit: int = 0
    """Tokens that the answer may have."""
    left_out: int = 0
    """Messages of the conversation that did not fit into the context."""
    task: Task | None = None
    answer: AnswerText | None = None
    place: int = -1

    @property
    def id(self) -> int:
        return self.generate.id

    @property
    def context(self) -> str:
        """Key of the context that it needs: one per version of an adapter's file, "" for the base."""
        return f"{self.generate.adapter} {self.generate.adapter_version}" if self.generate.adapter else ""

    @property
    def address(self) -> str:
        """Network address of a visitor; empty for the owner."""
        return self.generate.visitor.address

    @property
    def session(self) -> str:
        return self.generate.visitor.session


def in_turns(waiting: Iterable[Request], active: Iterable[Request], key: Callable[[Request], str]) -> list[Request]:
    """Sort the queue so that it is fair between addresses or sessions (`key`); otherwise the order stays.

    The first request of each comes before the second request of any. Requests being answered count.
    """
    taken: Counter[str] = Counter(map(key, active))
    turn: dict[int, int] = {}
    queue = list(waiting)
    for request in queue:
        turn[request.id] = taken[key(request)]
        taken[key(request)] += 1
    return sorted(queue, key=lambda request: turn[request.id])


class LlamaWorker:
    def __init__(self, options: argparse.Namespace, pipe: Pipe) -> None:
        self.options, self.pipe = options, pipe
        self.model = Model(options.model)
        self.context_size = min(options.context, self.model.context_trained)
        self.contexts: dict[str, Context] = {}
        self.templates: dict[str, ChatTemplate] = {}
        self.waiting: deque[Request] = deque()
        self.active: dict[int, Request] = {}
        self.last_heartbeat = 0.0
        self.row_seconds = 0.0
        """Seconds per prompt token, measured; 0 before the first long prompt."""
        self.try_out()
        pipe.send(Ready(context=self.context_size, template=self.model.template))

    def try_out(self) -> None:
        """Compute one token before the first request: a file that cannot is refused now."""
        context = Context(self.model, None, TRIAL_CONTEXT, 1, self.options.threads)
        context.try_out()
        context.close()

    def run(self) -> None:
        while True:
            if time.monotonic() - self.last_heartbeat > HEARTBEAT_SECONDS:
                self.last_heartbeat = time.monotonic()
                self.pipe.send(Heartbeat())  # a long prompt takes long before there is text to send
            new = []
            for message in self.pipe.take(wait=not self.active and not self.waiting):
                if message is END:
                    return
                if isinstance(message, Stop):
                    self.stop(message.id)
                else:
                    new.append(Request(message))
                    self.waiting.append(new[-1])  # before the next message, which may stop it
            self.admit()  # an answer may have ended, too, which frees a slot
            self.refuse(new)
            self.tell_places()
            rows = self.prompt_rows()
            for name, context in list(self.contexts.items()):
                if context.busy:
                    self.step(name, context, rows)

    def prompt_rows(self) -> int:
        """Most prompt tokens of a context's next step.

        It takes one of few values, so that a prompt is mostly cut in the same places: where it is cut changes the
        rounding, and with it, rarely, a text.
        """
        if self.options.throughput:
            return BATCH if BATCH * self.row_seconds < SLOW_SECONDS else CHUNK
        rows, answers = CHUNK, sum(context.answering for context in self.contexts.values())
        several = sum(context.prefilling > 0 for context in self.contexts.values())
        while answers and rows > FEWEST_ROWS:
            if (several * (rows + PASS_ROWS) + answers * ANSWER_ROWS) * self.row_seconds <= READER_SECONDS:
                break
            rows //= 2
        return rows

    def decode(self) -> Decode:
        """The answers that go on while prompts are computed."""
        if self.options.throughput:
            return "none"
        seconds = sum(context.prefilling for context in self.contexts.values()) * self.row_seconds
        return "begun" if seconds < TOGETHER_SECONDS else "all"

    def refuse(self, new: Sequence[Request]) -> None:
        """Refuse the new requests for which the queue is too long, the last to arrive first."""
        arrived = {request.id for request in new}
        ahead = [request for request in self.waiting if request.id not in arrived]
        waiting = {request.id for request in self.waiting}
        for request in new:
            same_address = sum(other.address == request.address for other in ahead) if request.address else 0
            if request.id not in waiting:
                continue
            if len(ahead) >= self.options.waiting:
                self.waiting.remove(request)
                self.fail(request, f"{len(ahead)} requests are already waiting here. Try again in a moment.", "busy")
            elif request.address and same_address >= max(1, self.options.waiting // 2):
                self.waiting.remove(request)
                self.fail(
                    request,
                    f"{same_address} requests of your network address are already waiting. Try again later.",
                    "busy",
                )
            else:
                ahead.append(request)

    def stop(self, number: int) -> None:
        if number in self.active:
            self.finish(self.active[number], "stopped")
        for request in [request for request in self.waiting if request.id == number]:
            self.waiting.remove(request)
            self.pipe.send(Ended(id=number, generation=self.generation(request, "stopped")))

    def fail(self, request: Request, message: str, code: Code = "invalid") -> None:
        self.pipe.send(Failed(id=request.id, code=code, message=message))

    def admit(self) -> None:
        """Start the requests that have a free slot, in fair turns."""
        if not self.options.throughput:  # an evaluation has one visitor, its owner
            active = self.active.values()
            by_session = in_turns(self.waiting, active, lambda request: request.address + "\0" + request.session)
            self.waiting = deque(in_turns(by_session, active, lambda request: request.address))
        still_waiting: deque[Request] = deque()
        full: set[str] = set()
        while self.waiting:
            request = self.waiting.popleft()
            if request.context in full:
                still_waiting.append(request)
                continue
            try:
                context = self.context(request.context, request.generate.adapter)
                if context and context.free:
                    self.start(request, context)
                else:
                    still_waiting.append(request)
                    full.add(request.context)
                    if self.options.throughput:
                        break
            except LabError as error:
                self.fail(request, str(error), error.code)
        self.waiting = still_waiting + self.waiting

    def tell_places(self) -> None:
        """Send their place in the queue to the requests for which it has changed."""
        if self.options.throughput:  # an evaluation does not show it
            return
        for place, request in enumerate(self.waiting):
            if request.place != place:
                request.place = place
                self.pipe.send(Queued(id=request.id, place=place))

    def context(self, key: str, adapter: str) -> Context | None:
        """The context of that adapter, made on its first use; None while all contexts are busy."""
        if key in self.contexts:
            self.contexts[key] = self.contexts.pop(key)  # the least recently used is first
        elif len(self.contexts) < (1 if self.options.throughput else MOST_CONTEXTS) or self.evict():
            self.contexts[key] = self.open(adapter)
        return self.contexts.get(key)

    def open(self, adapter: str) -> Context:
        """Make a context. First send the name of the adapter to the app, in case that file crashes this process."""
        if not adapter:
            return self.new_context(None)
        self.pipe.send(Opening(adapter=adapter))
        self.pipe.flush()
        try:
            context = self.new_context(self.model.adapter(adapter))
            try:
                context.try_out()
            except LabError:
                context.close()
                raise
            return context
        finally:
            self.pipe.send(Opened(adapter=adapter))

    def new_context(self, adapter: Any) -> Context:
        options = self.options
        return Context(self.model, adapter, self.context_size, options.slots, options.threads, options.throughput)

    def evict(self) -> bool:
        """Close an idle context; False if all are busy."""
        idle = next((key for key, context in self.contexts.items() if not context.busy), None)
        if idle is not None:
            self.contexts.pop(idle).close()
        return idle is not None

    def start(self, request: Request, context: Context) -> None:
        """Write the prompt and give it a slot. LabError if there is no prompt that fits."""
        generate = request.generate
        template = self.template(generate.template)
        deadline = time.monotonic() + TEMPLATE_SECONDS

        def tokens_of(messages: Sequence[Message]) -> list[int]:
            if time.monotonic() > deadline:
                raise LabError("The chat template of this model is too slow for this conversation. Start a new one.")
            return encode(template.parts(messages), self.model.control, self.model.special, self.model.words)

        most = generate.sampling.max_tokens
        tokens, request.left_out = fit_history(generate.messages, tokens_of, self.context_size, most)
        if not tokens:
            raise LabError("The vocabulary of this model turns your message into no tokens. Choose another variant.")
        request.limit = min(most, self.context_size - len(tokens))
        request.answer = AnswerText(generate.stops)
        request.task = Task(request.id, tokens, len(tokens), self.model.sampler(generate.sampling))
        request.started = time.monotonic()
        context.start(request.task)
        self.active[request.id] = request
        self.pipe.send(Started(id=request.id))

    def template(self, source: str) -> ChatTemplate:
        """The template with that source, or the model's own; LabError where it has none."""
        source = source or self.model.template
        if not source:
            raise LabError(
                "This GGUF has no chat template, so its prompt format is not known. "
                "Name its template in a variant.json beside it."
            )
        if source not in self.templates:
            self.templates[source] = ChatTemplate(source, self.model.bos, self.model.eos, self.model.control)
        return self.templates[source]

    def step(self, key: str, context: Context, rows: int) -> None:
        began = time.monotonic()
        try:
            new_tokens = context.step(rows, self.decode())
        except RuntimeError as error:
            for request in [request for request in self.active.values() if request.context == key]:
                self.end(request)
                message = f"llama.cpp could not compute this ({error}). Try again, or restart the app."
                self.fail(request, message, "crashed")
            return
        self.measure(context.rows, len(new_tokens), time.monotonic() - began)
        for task, token in new_tokens:
            self.add_token(self.active[task.id], token)

    def measure(self, rows: int, answers: int, seconds: float) -> None:
        """Update the seconds of a prompt token, from a step with `rows` of them and a token of each of the answers."""
        if rows >= FEWEST_ROWS:
            each = seconds / (rows + PASS_ROWS + answers * ANSWER_ROWS)
            self.row_seconds = (self.row_seconds + each) / 2 if self.row_seconds else each

    def add_token(self, request: Request, token: int) -> None:
        assert request.task and request.answer
        if self.model.ends(token):  # neither the end token nor its time is counted
            request.task.tokens.pop()
            self.finish(request, "stop")
            return
        request.last_token = time.monotonic()
        request.first_token = request.first_token or request.last_token
        if text := request.answer.push(self.model.piece(token)):
            self.pipe.send(Text(id=request.id, text=text))
        count = len(request.task.tokens) - request.task.prompt
        if request.answer.ended:
            self.finish(request, "stop")
        elif count >= request.limit:
            self.finish(request, "length" if request.limit == request.generate.sampling.max_tokens else "context")

    def finish(self, request: Request, end: End) -> None:
        assert request.answer
        if text := request.answer.rest():
            self.pipe.send(Text(id=request.id, text=text))
        self.pipe.send(Ended(id=request.id, generation=self.generation(request, end)))
        self.end(request)

    def end(self, request: Request) -> None:
        """Free its slot."""
        assert request.task
        self.contexts[request.context].end(request.task)
        del self.active[request.id]

    def generation(self, request: Request, end: End) -> Generation:
        """The statistics of an answer."""
        task = request.task
        now = time.monotonic()
        tokens = len(task.tokens) - task.prompt if task else 0
        streamed = request.last_token - request.first_token
        return Generation(
            prompt_tokens=task.prompt if task else 0,
            reused_tokens=task.reused if task else 0,
            tokens=tokens,
            waited=(request.started or now) - request.arrived,
            first_token=(request.first_token or now) - request.arrived,
            seconds=(request.last_token or now) - request.arrived,
            tokens_per_second=(tokens - 1) / streamed if tokens > 1 and streamed > 0 else 0.0,
            end=end,
            context_used=len(task.tokens) if task else 0,
            context_size=self.context_size,
            left_out=request.left_out,
            seed=request.generate.sampling.seed,
            template=request.generate.template_name,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    for name in ("context", "slots", "waiting", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--throughput", action="store_true", help="for an evaluation: no reader waits for a token")
    options = parser.parse_args()
    pipe = Pipe()
    try:
        worker = LlamaWorker(options, pipe)
    except LabError as error:
        pipe.send(Unloadable(message=str(error)))
        pipe.flush()
        return
    worker.run()


if __name__ == "__main__":
    main()
