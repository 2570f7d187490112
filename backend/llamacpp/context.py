"""A `llama_context` over the shared weights, with at most one adapter, that answers several requests in one batch.

It knows tokens, not text. Every request has a slot: a sequence with its own KV cache, as long as the whole context.
The cache cannot overflow: a prompt whose answer would not fit is refused before. (One cache shared by all sequences
would make each row attend over the cells of all.) A finished slot keeps its cells: the next turn of the same
conversation computes only the new tokens.

llama.cpp computes a batch in passes over all weights, one pass for all parts of equal length. So a step computes the
next token of every answer in one pass, and prompts one after another: short parts of many prompts would be many passes.

llama.cpp's flash attention is fast for passes of 64 rows or more, and slow for fewer. So a context for large steps uses
it, and a context for chat does not: its small steps after a long conversation take half the time.

The last token of a prompt is computed like those of the answer, in a part of one token. So a prompt whose cells are in
the cache already gets the same logits as before: the kernels for one row and for many round differently.
"""

import ctypes
import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import llama_cpp as llama
import numpy as np

from backend.core.errors import LabError
from backend.llamacpp.model import Model

Decode = Literal["all", "begun", "none"]
Array = np.ndarray[Any, Any]
BATCH = 512  # most tokens of one step
CHUNK = 128  # most prompt tokens of a step, and rows of a pass, while answers are read
WORTH_COPYING = 64  # tokens; below it, copying another slot's cache costs more than computing the prefix again
PATIENCE = 64  # tokens; a prompt counts as so much shorter for each step that it had to wait


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
    waited: int = 0
    """Steps without a part of its prompt."""
    begun: bool = False
    """Whether it has had its turn to copy a prefix of its prompt."""

    @property
    def missing(self) -> int:
        """Known tokens that are not in the cache: 1 while it decodes."""
        return len(self.task.tokens) - len(self.cells) if self.task else 0

    @property
    def answering(self) -> bool:
        """Whether the answer has begun."""
        return self.task is not None and len(self.task.tokens) > self.task.prompt


class Part(NamedTuple):
    """The tokens of one slot in a batch: part of a prompt, or the last known token, whose logits are `needed`."""

    slot: Slot
    tokens: list[int]
    needed: bool


class Batch:
    """A `llama_batch` over NumPy arrays. Each row is a token of one sequence."""

    def __init__(self, size: int) -> None:
        self.tokens: Array = np.zeros(size, np.int32)
        self.positions: Array = np.zeros(size, np.int32)
        self.sequences: Array = np.zeros(size, np.int32)
        self.outputs: Array = np.zeros(size, np.int8)
        self._ones: Array = np.ones(size, np.int32)
        self._pointers: Array = (self.sequences.ctypes.data + 4 * np.arange(size)).astype(np.uintp)
        self._batch = llama.llama_batch()
        arrays = {
            "token": self.tokens, "pos": self.positions, "n_seq_id": self._ones, "seq_id": self._pointers,
            "logits": self.outputs,
        }  # fmt: skip
        kinds = dict(llama.llama_batch._fields_)
        for name, array in arrays.items():
            setattr(self._batch, name, ctypes.cast(array.ctypes.data, kinds[name]))

    def fill(self, parts: list[Part]) -> Any:
        """Write the rows. Return the `llama_batch`, which is valid until the next call."""
        at = 0
        for slot, tokens, needed in parts:
            end, position = at + len(tokens), len(slot.cells)
            self.tokens[at:end] = tokens
            self.positions[at:end] = np.arange(position, position + len(tokens))
            self.sequences[at:end] = slot.sequence
            self.outputs[at:end] = 0
            self.outputs[end - 1] = needed
            at = end
        self._batch.n_tokens = at
        return self._batch


class Context:
    """LabError from `__init__` if memory or the adapter does not suffice; the adapter is freed then.

    `throughput`: for large steps, whose answers are not read while they are generated.
    """

    def __init__(
        self, model: Model, adapter: Any, context: int, slots: int, threads: int, throughput: bool = False
    ) -> None:
        params = llama.llama_context_default_params()
        params.n_ctx = context * slots
        params.n_seq_max = slots
        params.kv_unified = False
        params.n_batch, params.n_ubatch = BATCH, BATCH if throughput else CHUNK
        params.n_outputs_max = slots  # one row of logits per slot: by default it reserves 250 MB for 512 rows
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = (
            llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if throughput else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
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
        self._batch = Batch(BATCH)
        self.rows = 0
        """Prompt tokens of the last step."""
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
        llama.llama_free(self.handle)
        if self._adapter:
            llama.llama_adapter_lora_free(self._adapter)

    def try_out(self) -> None:
        """Compute one token. LabError if its logits are all alike or not finite: the weights are damaged."""
        if llama.llama_decode(self.handle, self._batch.fill([Part(self.slots[0], [0], True)])):
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

    @property
    def answering(self) -> int:
        """Number of answers that have begun."""
        return sum(slot.answering for slot in self.slots)

    @property
    def prefilling(self) -> int:
        """Prompt tokens that are not computed yet, without the last of each prompt."""
        return sum(max(0, slot.missing - 1) for slot in self.slots)

    def start(self, task: Task) -> None:
        """Give the task a free slot. What its cache has of the prompt stays, except for the last token."""
        slot = self._place(task.tokens)
        keep = min(common_prefix(slot.cells, task.tokens), task.prompt - 1)
        self._forget(slot, keep)
        slot.task, task.reused = task, keep
        self._started += 1
        slot.used, slot.waited, slot.begun = self._started, 0, False

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

    def step(self, prompt_rows: int = BATCH, decode: Decode = "all") -> list[tuple[Task, int]]:
        """Compute one step; returns each task with its new token. RuntimeError if llama.cpp fails.

        At most `prompt_rows` tokens of it are of prompts. `decode`: the answers that go on while there are prompts to
        compute: all, those that have begun, or none.
        """
        parts = self._parts(prompt_rows, decode)
        prompts, answers = [part for part in parts if not part.needed], [part for part in parts if part.needed]
        self.rows = sum(len(part.tokens) for part in prompts)
        for together in (prompts, answers):  # apart: in a pass, each row costs as much as that of the longest sequence
            code = llama.llama_decode(self.handle, self._batch.fill(together)) if together else 0
            if code:
                self._reset()
                raise RuntimeError(f"llama_decode returned {code}")
            for slot, tokens, _ in together:
                slot.cells += tokens
        new_tokens = []
        for row, (slot, _, _) in enumerate(answers):
            assert slot.task
            chosen = llama.llama_sampler_sample(slot.task.sampler, self.handle, row)
            slot.task.tokens.append(chosen)
            new_tokens.append((slot.task, chosen))
        return new_tokens

    def _parts(self, prompt_rows: int, decode: Decode) -> list[Part]:
        """The next token of every answer, then prompts, one after another until the batch is full.

        A short part of a prompt is a pass of its own and costs nearly as much as a long one.
        """
        prompts = [slot for slot in self.slots if slot.missing > 1]
        decode = decode if prompts else "all"
        parts = [
            Part(slot, slot.task.tokens[-1:], True)
            for slot in self.slots
            if slot.task and slot.missing == 1 and (decode == "all" or (decode == "begun" and slot.answering))
        ]
        room = most = min(max(1, prompt_rows), BATCH - len(parts))
        for slot in sorted(prompts, key=lambda slot: slot.missing - PATIENCE * slot.waited):
            assert slot.task
            if room and not slot.begun and not self._can_copy_later(slot, parts):
                self._copy_prefix(slot)
                slot.begun = True
            alone = room == most  # a prompt is cut only then: so it is cut in the same places in any company
            if not slot.begun or not (alone or slot.missing - 1 <= room):
                slot.waited += 1
                continue
            tokens = slot.task.tokens[len(slot.cells) : -1][:room]
            if tokens:
                parts.append(Part(slot, tokens, False))
            slot.waited = 0
            room -= len(tokens)
        return parts or self._parts(prompt_rows, decode)  # none where all was copied: then the last tokens are left

    def _can_copy_later(self, slot: Slot, parts: list[Part]) -> bool:
        """Whether this step computes a prefix that the slot can copy afterwards."""
        assert slot.task
        tokens, worth = slot.task.tokens, len(slot.cells) + WORTH_COPYING
        return any(not needed and common_prefix(other.cells + new, tokens) >= worth for other, new, needed in parts)

    def _copy_prefix(self, slot: Slot) -> None:
        """Copy the longest prefix of the slot's prompt that another slot has computed."""
        assert slot.task
        task = slot.task
        best = max(self.slots, key=lambda other: common_prefix(other.cells, task.tokens))
        shared = min(common_prefix(best.cells, task.tokens), task.prompt - 1)
        if shared < len(slot.cells) + WORTH_COPYING:
            return
        self._forget(slot, 0)
        llama.llama_memory_seq_cp(self._memory, best.sequence, slot.sequence, -1, -1)  # whole: caches are apart
        slot.cells = list(best.cells)
        self._forget(slot, shared)
        task.reused = shared

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
