"""A `llama_context` over the shared weights, with at most one adapter, that answers several requests in one batch.

It knows tokens, not text. Every request has a slot: a sequence with its own KV cache, as long as the whole context.
The cache cannot overflow: a prompt whose answer would not fit is refused before. (One cache shared by all sequences
would make each row attend over the cells of all.) A finished slot keeps its cells: the next turn of the same
conversation computes only the new tokens.
"""

import ctypes
import math
from dataclasses import dataclass, field
from typing import Any

import llama_cpp as llama

from backend.core.errors import LabError
from backend.llamacpp.model import Model

CHUNK = 128  # most tokens of one step: a stop, or the next token of another request, waits no longer than that
WORTH_COPYING = 64  # tokens; below it, copying another slot's cache costs more than reading the prefix again


@dataclass(eq=False)
class Task:
    """A request, as tokens."""

    id: int
    tokens: list[int]
    prompt: int
    """How many of `tokens` are the prompt; the rest is the answer."""
    sampler: Any
    reused: int = 0


@dataclass(eq=False)
class Slot:
    sequence: int
    cells: list[int] = field(default_factory=list)
    """The tokens whose keys and values are in the cache."""
    task: Task | None = None
    used: int = 0
    """Number of the task that it was last given."""


class Context:
    """LabError from `__init__` if memory or the adapter does not suffice; the adapter is freed then."""

    def __init__(self, model: Model, adapter: Any, context: int, slots: int, threads: int) -> None:
        params = llama.llama_context_default_params()
        params.n_ctx = context * slots
        params.n_seq_max = slots
        params.kv_unified = False
        params.n_batch = params.n_ubatch = max(CHUNK, slots)
        params.n_outputs_max = slots  # one row of logits per slot: by default it reserves 250 MB for 512 rows
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED  # and with it, results do not depend on the batch
        params.no_perf = True
        self.context = context
        self.handle = llama.llama_init_from_model(model.handle, params)
        if not self.handle:
            if adapter:
                llama.llama_adapter_lora_free(adapter)
            raise LabError("There is not enough memory for this model's context. Set LAB_CONTEXT or LAB_SLOTS lower.")
        self._adapter = adapter
        if adapter:
            self._apply(adapter)
        self._memory = llama.llama_get_memory(self.handle)
        self._batch = llama.llama_batch_init(params.n_batch, 0, 1)
        self._batch_size = params.n_batch
        self._vocabulary = model.n_vocab
        self._started = 0
        self.slots = [Slot(sequence) for sequence in range(slots)]

    def _apply(self, adapter: Any) -> None:
        adapters = (llama.llama_adapter_lora_p_ctypes * 1)(adapter)
        if llama.llama_set_adapters_lora(self.handle, adapters, 1, (ctypes.c_float * 1)(1.0)):
            llama.llama_free(self.handle)
            llama.llama_adapter_lora_free(adapter)
            raise LabError("This adapter cannot be applied to its base. Name the right base for it.")

    def close(self) -> None:
        llama.llama_batch_free(self._batch)
        llama.llama_free(self.handle)
        if self._adapter:
            llama.llama_adapter_lora_free(self._adapter)

    def try_out(self) -> None:
        """Compute one token. LabError if its logits are all alike or not finite: the weights are damaged."""
        self._batch.n_tokens = 1
        self._batch.token[0], self._batch.pos[0], self._batch.logits[0] = 0, 0, True
        self._batch.n_seq_id[0], self._batch.seq_id[0][0] = 1, 0
        if llama.llama_decode(self.handle, self._batch):
            raise LabError("llama.cpp cannot compute with these weights. Replace the file.")
        row = llama.llama_get_logits_ith(self.handle, 0)
        logits = [row[index] for index in range(self._vocabulary)]
        same = max(logits) == min(logits)  # NaN in the weights can become zero on its way
        if same or not all(map(math.isfinite, logits)):
            raise LabError("These weights compute no usable logits: the file is damaged. Replace it.")
        self._reset()

    @property
    def busy(self) -> bool:
        return any(slot.task for slot in self.slots)

    @property
    def free(self) -> bool:
        return any(not slot.task for slot in self.slots)

    def start(self, task: Task) -> None:
        """Give the task a free slot, and reuse the longest prefix of its prompt that any slot has computed."""
        slot = self._place(task.tokens)
        best = max(self.slots, key=lambda other: common_prefix(other.cells, task.tokens))
        keep = min(
            common_prefix(slot.cells, task.tokens), task.prompt - 1
        )  # the last token is computed, for its logits
        shared = min(common_prefix(best.cells, task.tokens), task.prompt - 1)
        if shared >= keep + WORTH_COPYING:
            self._forget(slot, 0)
            llama.llama_memory_seq_cp(self._memory, best.sequence, slot.sequence, -1, -1)  # whole: caches are apart
            slot.cells, keep = list(best.cells), shared
        self._forget(slot, keep)
        slot.task, task.reused = task, keep
        self._started += 1
        slot.used = self._started

    def _place(self, tokens: list[int]) -> Slot:
        """The free slot that this conversation had before; else the least recently used free slot."""
        free = [slot for slot in self.slots if not slot.task]
        alike = [slot for slot in free if slot.cells and 2 * common_prefix(slot.cells, tokens) >= len(slot.cells)]
        if alike:
            return max(alike, key=lambda slot: common_prefix(slot.cells, tokens))
        return min(free, key=lambda slot: slot.used)

    def _forget(self, slot: Slot, keep: int) -> None:
        llama.llama_memory_seq_rm(self._memory, slot.sequence, keep, -1)
        del slot.cells[keep:]

    def end(self, task: Task) -> None:
        """Free the task's slot. Its cells stay, for a prompt with the same prefix."""
        for slot in self.slots:
            if slot.task is task:
                slot.task = None
                llama.llama_sampler_free(task.sampler)

    def step(self) -> list[tuple[Task, int]]:
        """Compute one batch; returns each task with its new token. RuntimeError if llama.cpp fails."""
        rows = self._rows()
        self._fill(rows)
        code = llama.llama_decode(self.handle, self._batch)
        if code:
            self._reset()
            raise RuntimeError(f"llama_decode returned {code}")
        new_tokens = []
        for index, (slot, token, last) in enumerate(rows):
            slot.cells.append(token)
            if last and slot.task:
                chosen = llama.llama_sampler_sample(slot.task.sampler, self.handle, index)
                slot.task.tokens.append(chosen)
                new_tokens.append((slot.task, chosen))
        return new_tokens

    def _rows(self) -> list[tuple[Slot, int, bool]]:
        """(slot, token, is the last known token): answers first, then prompts share the rest of the batch."""
        working = [(slot, slot.task.tokens[len(slot.cells) :]) for slot in self.slots if slot.task]
        working.sort(key=lambda pair: len(pair[1]))
        rows: list[tuple[Slot, int, bool]] = []
        for index, (slot, pending) in enumerate(working):
            share = -(-(self._batch_size - len(rows)) // (len(working) - index))
            part = pending[:share]
            rows += [(slot, token, False) for token in part[:-1]]
            rows.append((slot, part[-1], len(part) == len(pending)))
        return rows

    def _fill(self, rows: list[tuple[Slot, int, bool]]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        position: dict[int, int] = {}
        for index, (slot, token, last) in enumerate(rows):
            at = position.get(slot.sequence, len(slot.cells))
            position[slot.sequence] = at + 1
            batch.token[index], batch.pos[index], batch.logits[index] = token, at, last
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = slot.sequence

    def _reset(self) -> None:
        llama.llama_memory_clear(self._memory, True)
        for slot in self.slots:
            slot.cells.clear()


def common_prefix(first: list[int], second: list[int]) -> int:
    """Length of the longest common prefix, in tokens."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))
