"""The engines that run: one per base model, shared by all conversations, as many as fit into memory."""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from backend.core import machine
from backend.core.files import version
from backend.core.messages import Message, clean
from backend.core.settings import Settings
from backend.inference import memory
from backend.inference.engine import Engine, LoadedModel
from backend.inference.memory import MemoryNeed
from backend.inference.placement import ModelSpec, PromptFormat
from backend.inference.protocol import Generate, Visitor
from backend.inference.reply import Reply
from backend.inference.sampling import Sampling

RUNTIMES = {"llama": "backend.inference.worker.llama", "echo": "backend.inference.worker.echo"}
CrashHandler = Callable[[Path, str], None]
Key = tuple[str, Path | None]  # the runtime and the base's file


@dataclass(eq=False)
class LoadedEngine:
    """An engine in the table. `version` changes with the file or the context: then another engine is needed.

    `contexts` are those that are counted in memory: one per adapter, "" for the base alone.
    """

    version: str
    engine: Engine
    need: MemoryNeed | None
    contexts: set[str] = field(default_factory=set)


class Engines:
    """Starts an engine on its first request.

    `_lock` protects the table and is held only for moments: no process is closed under it. `_loading` lets one request
    at a time make free memory, so that two do not count the same bytes. Take `_loading` before `_lock`.
    """

    def __init__(self, settings: Settings, on_crash: CrashHandler, throughput: bool = False) -> None:
        """`on_crash(file, how)` is called when a file killed its worker while it was opened. `throughput`: the
        answers are not read while they are generated, so a worker may let them wait for each other."""
        self._settings, self._on_crash, self._throughput = settings, on_crash, throughput
        self._lock = threading.RLock()
        self._loading = threading.Lock()
        self._table: dict[Key, LoadedEngine] = {}

    @property
    def slots(self) -> int:
        """Conversations answered at the same time, per variant."""
        return self._settings.lab_slots

    def reply(
        self,
        spec: ModelSpec,
        messages: Sequence[Message],
        sampling: Sampling,
        prompt: PromptFormat,
        visitor: tuple[str, str] = ("", ""),
    ) -> Reply:
        """Start an answer. LabError if the conversation cannot be answered, or memory cannot hold the model.

        `visitor`: network address and session; empty for the owner.
        """
        if sampling.seed < 0:
            sampling = sampling.model_copy(update={"seed": random.randrange(2**31)})
        request = Generate(
            id=0,
            messages=tuple(clean(messages)),
            sampling=sampling,
            adapter=str(spec.adapter.absolute()) if spec.adapter else "",
            adapter_version=version(spec.adapter) if spec.adapter else "",
            template=prompt.source,
            template_name=prompt.name,
            stops=prompt.stops,
            visitor=Visitor(address=visitor[0], session=visitor[1]),
        )
        context = f"{request.adapter} {request.adapter_version}" if request.adapter else ""
        entry, stale = self._entry(spec)
        _close(stale)
        with self._lock:
            if self._is_loaded(entry, context):
                return entry.engine.request(request)
        with self._loading:
            return self._load(spec, context, request)

    def _load(self, spec: ModelSpec, context: str, request: Generate) -> Reply:
        """Make free memory for the model or its adapter, and send the request. Under `_loading`."""
        while True:
            entry, closing = self._entry(spec)
            with self._lock:
                alive = entry.engine.pid is not None
                if not alive:
                    entry.contexts.clear()
                need = None if self._is_loaded(entry, context) else self._need(spec, with_model=not alive)
                if need and spec.header:
                    closing += self._evict(entry, need, spec)
                if not closing:
                    entry.contexts.add(context)
                    return entry.engine.request(request)
            _close(closing)  # then count again

    def engine(self, spec: ModelSpec) -> Engine:
        """The engine for that file as it is now. One that was started for an older file of that name is ended."""
        entry, stale = self._entry(spec)
        _close(stale)
        return entry.engine

    def loaded(self) -> list[LoadedModel]:
        """Every running worker, the least recently used first."""
        with self._lock:
            engines = [entry.engine for entry in self._table.values()]
        models = [model for engine in engines if (model := engine.loaded)]
        return sorted(models, key=lambda model: model.used)

    def unload(self, pid: int) -> None:
        """End the worker with that process id; harmless if there is none."""
        self._end(lambda key, entry: entry.engine.pid == pid)

    def release(self, file: Path) -> None:
        """End every worker that has that file open, before it is removed."""
        opened = f"{file.absolute()} "
        self._end(lambda key, entry: key[1] == file or any(name.startswith(opened) for name in entry.contexts))

    def _end(self, which: Callable[[Key, LoadedEngine], bool]) -> None:
        with self._lock:
            ended = [self._table.pop(key) for key, entry in list(self._table.items()) if which(key, entry)]
        _close([entry.engine for entry in ended])

    def close(self) -> None:
        """End every worker, all at the same time."""
        with self._lock:
            engines = [entry.engine for entry in self._table.values()]
        with ThreadPoolExecutor(max(1, len(engines))) as pool:  # each may take its grace
            list(pool.map(lambda engine: engine.close(grace=1.0), engines))

    def _entry(self, spec: ModelSpec) -> tuple[LoadedEngine, list[Engine]]:
        """The table's entry for these files, made if there is none; and engines of older files, to be closed."""
        key, now = (spec.runtime, spec.model), f"{version(spec.model) if spec.model else ''} {spec.context}"
        with self._lock:
            known = self._table.get(key)
            if known and known.version == now:
                return known, []
            engine = Engine(spec.base, self._command(spec), self._crash_handler(spec))
            entry = self._table[key] = LoadedEngine(now, engine, self._need(spec, with_model=True))
            return entry, [known.engine] if known else []

    def _crash_handler(self, spec: ModelSpec) -> Callable[[str, str], None]:
        """Names the file that killed the worker: the adapter that was being opened, else the model."""
        return lambda adapter, how: self._on_crash(Path(adapter) if adapter else spec.model or Path(), how)

    def _is_loaded(self, entry: LoadedEngine, context: str) -> bool:
        return entry.engine.pid is not None and context in entry.contexts

    def _need(self, spec: ModelSpec, with_model: bool) -> MemoryNeed | None:
        """Memory for this variant: with the base's weights and a process, or one more context of a loaded model."""
        files = [spec.model if with_model else None, spec.adapter]
        try:
            size = sum(file.stat().st_size for file in files if file)
        except OSError:  # the file is gone: the worker will report it
            return None
        if spec.model is None or spec.header is None:
            return None
        if self._throughput and not with_model:
            return None  # such a worker has one context, which was counted
        slots = self._settings.lab_slots
        return memory.memory_need(spec.header, size, spec.context, slots, with_model, self._throughput)

    def make_free(self, spec: ModelSpec) -> None:
        """Unload what is idle until this variant would fit, for a process that is not in this table. LabError if it
        cannot fit."""
        with self._loading:
            while True:
                with self._lock:
                    need = self._need(spec, with_model=True)
                    closing = self._evict(None, need, spec) if need else []
                if not closing:
                    return
                _close(closing)

    def memory_free(self) -> int:
        """Bytes that a model may still take."""
        with self._lock:
            return max(0, self._free())

    def _evict(self, own: LoadedEngine | None, need: MemoryNeed, spec: ModelSpec) -> list[Engine]:
        """Take the least recently used engine out of the table if `need` does not fit yet; it is for the caller to
        close. LabError with the numbers if everything idle together would not be enough: then nothing is unloaded."""
        idle, free = self._idle(own), self._free()
        if free >= need.total:
            return []
        possible = free + sum(entry.need.total for key in idle if (entry := self._table[key]).need)
        if possible < need.total:
            raise memory.refusal(spec.name, need, possible, spec.context, self._smaller_context(spec, possible))
        return [self._table.pop(idle[0]).engine] if idle else []

    def _free(self) -> int:
        """Bytes free, minus what loaded models have yet to take.

        The system counts the mapped weights of a loaded model as free, because it could drop and read them again;
        and a model that is being loaded has not taken its cache yet.
        """
        free = machine.memory_free() - memory.SPARE
        for entry in self._table.values():
            model = entry.engine.loaded
            if model and entry.need:
                free -= entry.need.weights if model.ready else max(entry.need.weights, entry.need.total - model.memory)
        return free

    def _idle(self, own: LoadedEngine | None) -> list[Key]:
        """Engines without requests, the least recently used first."""
        models = {key: entry.engine.loaded for key, entry in self._table.items() if entry is not own}
        used = {key: model.used for key, model in models.items() if model and not model.answering}
        return sorted(used, key=lambda key: used[key])

    def _smaller_context(self, spec: ModelSpec, free: int) -> int:
        """The largest context that would fit, in tokens; 0 if none would."""
        longest = min(spec.context, spec.header.context or spec.context) if spec.header else 0
        for context in memory.CONTEXTS:
            need = self._need(replace(spec, context=context), with_model=True) if context < longest else None
            if need and need.total <= free:
                return context
        return 0

    def _command(self, spec: ModelSpec) -> list[str]:
        command = ["-m", RUNTIMES[spec.runtime]]
        if spec.model is None:
            return command
        limits = {
            "context": spec.context,
            "slots": self._settings.lab_slots,
            "waiting": self._settings.lab_waiting,
            "threads": self._settings.lab_threads or machine.threads(),
        }
        return [
            *command,
            "--model",
            str(spec.model.resolve()),
            *(f"--{name}={limit}" for name, limit in limits.items()),
            *(["--throughput"] if self._throughput else []),
        ]


def _close(engines: Sequence[Engine]) -> None:
    """Each may take two seconds: call it without a lock of the table."""
    for engine in engines:
        engine.close()
