"""The engines that are running: one per base model, shared by all who talk to it."""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend import machine
from backend.inference.engine import Engine
from backend.inference.reply import Reply
from backend.inference.sampling import Sampling
from backend.messages import Message, clean
from backend.settings import Settings

RUNTIMES = {"llama": "backend.inference.llama", "echo": "backend.inference.echo"}


@dataclass(frozen=True)
class Seat:
    """Where a variant sits: a runtime, the base's file, and the adapter over it, if any."""

    runtime: str
    model: Path | None = None
    adapter: Path | None = None


@dataclass(frozen=True)
class Manner:
    """How a variant is spoken to: a template's name, its Jinja source (empty: the GGUF's own), its stop texts."""

    name: str = "own"
    source: str = ""
    stops: tuple[str, ...] = ()


class Engines:
    """Starts an engine when it is first talked to. The lock protects the table, so that two cannot start one twice."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._engines: dict[tuple[str, Path | None], tuple[str, Engine]] = {}

    def reply(self, seat: Seat, messages: Sequence[Message], sampling: Sampling, manner: Manner) -> Reply:
        """Start an answer; LabError if the conversation cannot be answered at all."""
        asked = sampling.model_dump()
        if sampling.seed < 0:
            asked["seed"] = random.randrange(2**31)
        return self.engine(seat).request(
            {
                "messages": clean(messages),
                "sampling": asked,
                "adapter": str(seat.adapter.resolve()) if seat.adapter else "",
                "lane": f"{seat.adapter} {_stamp(seat.adapter)}" if seat.adapter else "",
                "template": manner.source,
                "template_name": manner.name,
                "stops": list(manner.stops),
            }
        )

    def engine(self, seat: Seat) -> Engine:
        """The engine of that file as it is now; one that was started for an older file of the name is ended."""
        stamp = _stamp(seat.model)
        with self._lock:
            known = self._engines.get((seat.runtime, seat.model))
            if known and known[0] == stamp:
                return known[1]
            engine = Engine(seat.model.stem if seat.model else seat.runtime, self._command(seat))
            self._engines[seat.runtime, seat.model] = (stamp, engine)
        if known:
            known[1].close()
        return engine

    def _command(self, seat: Seat) -> list[str]:
        command = ["-m", RUNTIMES[seat.runtime]]
        if seat.model is None:
            return command
        limits = {
            "context": self._settings.lab_context,
            "slots": self._settings.lab_slots,
            "waiting": self._settings.lab_waiting,
            "threads": self._settings.lab_threads or machine.threads(),
        }
        given = [f"--{name}={value}" for name, value in limits.items()]
        return [*command, "--model", str(seat.model.resolve()), *given]

    def close(self) -> None:
        with self._lock:
            engines = list(self._engines.values())
        for _, engine in engines:
            engine.close()


def _stamp(path: Path | None) -> str:
    """Changes when the file does."""
    try:
        found = path.stat() if path else None
    except OSError:
        return ""  # gone: the worker will say so
    return f"{found.st_size} {found.st_mtime_ns}" if found else ""
