"""The engines that are running: one per base model, shared by all who talk to it, as many as memory holds."""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from backend.core import machine
from backend.core.messages import Message, clean
from backend.core.settings import Settings
from backend.inference import memory
from backend.inference.engine import Engine, LoadedModel
from backend.inference.memory import MemoryNeed
from backend.inference.reply import Reply
from backend.inference.sampling import Sampling
from models.check import Header

RUNTIMES = {"llama": "backend.inference.worker.llama", "echo": "backend.inference.worker.echo"}
Crashed = Callable[[Path, str], None]


@dataclass(frozen=True)
class ModelSpec:
    """Where a variant sits: a runtime, the base's file, and the adapter over it, if any.

    `name` and `base` are ids, the variant's and that of the weights it runs over. `header` is the base's, for the
    memory sum; `context` is tokens per conversation.
    """

    name: str
    base: str
    runtime: str
    model: Path | None = None
    adapter: Path | None = None
    header: Header | None = field(default=None, compare=False)
    context: int = 0


@dataclass(frozen=True)
class PromptFormat:
    """How a variant is spoken to: a template's name, its Jinja source (empty: the GGUF's own), its stop texts."""

    name: str = "own"
    source: str = ""
    stops: tuple[str, ...] = ()


@dataclass(eq=False)
class LoadedEngine:
    """An engine in the table. `stamp` changes with the file or the context: then it is another engine."""

    stamp: str
    engine: Engine
    need: MemoryNeed | None
    lanes: set[str] = field(default_factory=set)


class Engines:
    """Starts an engine when it is first talked to. The lock protects the table, so that two cannot start one twice."""

    def __init__(self, settings: Settings, crashed: Crashed) -> None:
        """`crashed` is told of a file that killed its worker while it was opened, and how."""
        self._settings, self._crashed = settings, crashed
        self._lock = threading.RLock()
        self._held: dict[tuple[str, Path | None], LoadedEngine] = {}

    @property
    def slots(self) -> int:
        """Conversations answered at once, per variant."""
        return self._settings.lab_slots

    def reply(
        self,
        seat: ModelSpec,
        messages: Sequence[Message],
        sampling: Sampling,
        manner: PromptFormat,
        visitor: tuple[str, str] = ("", ""),
    ) -> Reply:
        """Start an answer; LabError if the conversation cannot be answered at all, or memory cannot hold the model."""
        asked = sampling.model_dump()
        if sampling.seed < 0:
            asked["seed"] = random.randrange(2**31)
        body = {
            "messages": clean(messages),
            "sampling": asked,
            "adapter": str(seat.adapter.absolute()) if seat.adapter else "",
            "lane": f"{seat.adapter} {_stamp(seat.adapter)}" if seat.adapter else "",
            "template": manner.source,
            "template_name": manner.name,
            "stops": list(manner.stops),
            "visitor": list(visitor),
        }
        with self._lock:
            held = self._hold(seat)
            self._make_room(seat, held, str(body["lane"]))
            return held.engine.request(body)

    def engine(self, seat: ModelSpec) -> Engine:
        """The engine of that file as it is now; one that was started for an older file of the name is ended."""
        with self._lock:
            return self._hold(seat).engine

    def loaded(self) -> list[LoadedModel]:
        """Every worker that lives, the least used first."""
        with self._lock:
            engines = [held.engine for held in self._held.values()]
        found = [one for engine in engines if (one := engine.loaded)]
        return sorted(found, key=lambda one: one.used)

    def unload(self, pid: int) -> None:
        """End the worker with that process id; harmless if there is none."""
        self._end(lambda key, held: held.engine.pid == pid)

    def leave(self, file: Path) -> None:
        """End whatever has that file open, before it is removed."""
        self._end(lambda key, held: key[1] == file or any(lane.startswith(f"{file} ") for lane in held.lanes))

    def _end(self, which: Callable[[tuple[str, Path | None], LoadedEngine], bool]) -> None:
        with self._lock:
            ended = [self._held.pop(key) for key, held in list(self._held.items()) if which(key, held)]
        for held in ended:
            held.engine.close()

    def close(self) -> None:
        with self._lock:
            held = list(self._held.values())
        with ThreadPoolExecutor(max(1, len(held))) as pool:  # each may take its grace
            list(pool.map(lambda one: one.engine.close(grace=1.0), held))

    def _hold(self, seat: ModelSpec) -> LoadedEngine:
        """The table's entry for that seat, made if there is none. Under the lock, as all that follows."""
        stamp = f"{_stamp(seat.model)} {seat.context}"
        known = self._held.get((seat.runtime, seat.model))
        if known and known.stamp == stamp:
            return known
        if known:
            known.engine.close()
        engine = Engine(seat.base, self._command(seat), self._tell(seat))
        held = self._held[seat.runtime, seat.model] = LoadedEngine(stamp, engine, self._need(seat, whole=True))
        return held

    def _tell(self, seat: ModelSpec) -> Callable[[str, str], None]:
        """Whom an engine tells of a file that killed its worker: the adapter it was opening, else the model."""
        return lambda adapter, how: self._crashed(Path(adapter) if adapter else seat.model or Path(), how)

    def _need(self, seat: ModelSpec, whole: bool) -> MemoryNeed | None:
        """What this seat takes: with the base's weights and a process, or one more lane of what is loaded."""
        files = [seat.model if whole else None, seat.adapter]
        try:
            size = sum(file.stat().st_size for file in files if file)
        except OSError:  # gone: the worker will say so
            return None
        if seat.model is None or seat.header is None:
            return None
        return memory.memory_need(seat.header, size, seat.context, self._settings.lab_slots, process=whole)

    def _make_room(self, seat: ModelSpec, held: LoadedEngine, lane: str) -> None:
        """Unload the least used until this fits; LabError with the numbers if it cannot."""
        alive = held.engine.pid is not None
        if not alive:
            held.lanes.clear()
        if (alive and lane in held.lanes) or seat.header is None:
            return
        wanted = self._need(seat, whole=not alive)
        if wanted is not None:
            self._free(held, wanted, seat)
        held.lanes.add(lane)

    def clear(self, seat: ModelSpec) -> None:
        """Make room for this seat beside all that is loaded, for a process that is not ours to hold. LabError if it
        cannot be made."""
        with self._lock:
            wanted = self._need(seat, whole=True)
            if wanted is not None:
                self._free(None, wanted, seat)

    def room(self) -> int:
        """Bytes of memory that a model may still take."""
        with self._lock:
            return max(0, self._room())

    def _free(self, mine: LoadedEngine | None, wanted: MemoryNeed, seat: ModelSpec) -> None:
        """Nobody leaves for what could not fit even then."""
        idle, room = self._idle(mine), self._room()
        possible = room + sum(held.need.total for key in idle if (held := self._held[key]).need)
        if possible < wanted.total:
            raise memory.refusal(seat.name, wanted, possible, seat.context, self._smaller(seat, possible))
        while room < wanted.total and idle:
            self._held.pop(idle.pop(0)).engine.close()
            room = self._room()

    def _room(self) -> int:
        """Bytes free, less what is spoken for.

        The system counts the mapped weights of a loaded model as free, because it could drop and read them again;
        and one that is being loaded has yet to take its cache.
        """
        free = machine.memory_free() - memory.SPARE
        for held in self._held.values():
            one = held.engine.loaded
            if one and held.need:
                free -= held.need.weights if one.ready else max(held.need.weights, held.need.total - one.memory)
        return free

    def _idle(self, mine: LoadedEngine | None) -> list[tuple[str, Path | None]]:
        """Those that answer nobody, the one that was not used for longest first."""
        found = {key: held.engine.loaded for key, held in self._held.items() if held is not mine}
        used = {key: one.used for key, one in found.items() if one and not one.answering}
        return sorted(used, key=lambda key: used[key])

    def _smaller(self, seat: ModelSpec, room: int) -> int:
        """The largest context that would fit, or 0."""
        longest = min(seat.context, seat.header.context or seat.context) if seat.header else 0
        for context in memory.CONTEXTS:
            wanted = self._need(replace(seat, context=context), whole=True) if context < longest else None
            if wanted and wanted.total <= room:
                return context
        return 0

    def _command(self, seat: ModelSpec) -> list[str]:
        command = ["-m", RUNTIMES[seat.runtime]]
        if seat.model is None:
            return command
        limits = {
            "context": seat.context,
            "slots": self._settings.lab_slots,
            "waiting": self._settings.lab_waiting,
            "threads": self._settings.lab_threads or machine.threads(),
        }
        given = [f"--{name}={value}" for name, value in limits.items()]
        return [*command, "--model", str(seat.model.resolve()), *given]


def _stamp(path: Path | None) -> str:
    """Changes when the file does."""
    try:
        found = path.stat() if path else None
    except OSError:
        return ""  # gone: the worker will say so
    return f"{found.st_size} {found.st_mtime_ns}" if found else ""
