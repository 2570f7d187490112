"""The messages between an engine and its worker: JSON objects, one per line, over pipes. Both ends use these classes.

Requests go to the worker's stdin, events come from its stdout. `id` is the request's number within one engine.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from backend.core.errors import Code
from backend.core.messages import Message
from backend.inference.sampling import Generation, Sampling


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Visitor(_Record):
    """Whose request it is, for a fair queue. Both empty for the owner."""

    address: str = ""
    session: str = ""


class Generate(_Record):
    """Answer a conversation. `sampling.seed` is 0 or more: the engine has drawn it."""

    op: Literal["generate"] = "generate"
    id: int
    messages: tuple[Message, ...]
    sampling: Sampling
    adapter: str = ""
    """Path of the LoRA's GGUF; empty for the base alone."""
    adapter_version: str = ""
    """Changes when the adapter's file changes: another version needs another context."""
    template: str = ""
    """Jinja source of the chat template; empty for the model's own."""
    template_name: str = "own"
    stops: tuple[str, ...] = ()
    visitor: Visitor = Visitor()


class Stop(_Record):
    """End a request; what it has written is kept. Unknown numbers are ignored."""

    op: Literal["stop"] = "stop"
    id: int


class Ready(_Record):
    """The model is loaded. `context` is in tokens per conversation."""

    event: Literal["ready"] = "ready"
    context: int
    template: str = ""


class Unloadable(_Record):
    """The model cannot be loaded; the worker ends."""

    event: Literal["unloadable"] = "unloadable"
    message: str


class Opening(_Record):
    """An adapter's file is about to be opened: if the process dies now, this file is the cause."""

    event: Literal["opening"] = "opening"
    adapter: str


class Opened(_Record):
    event: Literal["opened"] = "opened"
    adapter: str


class Heartbeat(_Record):
    """The worker is alive; sent while it computes without text to send."""

    event: Literal["heartbeat"] = "heartbeat"


class Queued(_Record):
    """`place`: requests ahead of this one."""

    event: Literal["queued"] = "queued"
    id: int
    place: int


class Started(_Record):
    event: Literal["started"] = "started"
    id: int


class Text(_Record):
    """The next piece of the answer."""

    event: Literal["text"] = "text"
    id: int
    text: str


class Ended(_Record):
    event: Literal["ended"] = "ended"
    id: int
    generation: Generation


class Failed(_Record):
    """The request has no further text. `message` is shown to the user."""

    event: Literal["failed"] = "failed"
    id: int
    code: Code
    message: str


Request = Generate | Stop
WorkerEvent = Ready | Unloadable | Opening | Opened | Heartbeat | Queued | Started | Text | Ended | Failed
RequestEvent = Queued | Started | Text | Ended | Failed

read_request: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="op")])
read_event: TypeAdapter[WorkerEvent] = TypeAdapter(Annotated[WorkerEvent, Field(discriminator="event")])
