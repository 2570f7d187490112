"""The memory that a model needs, estimated from its header before it is loaded."""

from dataclasses import dataclass

from backend.core.errors import LabError
from backend.core.units import amount
from models.check import Header

ROWS, CHAT_ROWS = 512, 128  # tokens computed in one pass of an evaluation and of a chat: BATCH and CHUNK of a context
PROCESS = 120 << 20  # bytes of a worker without a model: Python and the libraries
SPARE = 200 << 20  # bytes left for other programs
CONTEXTS = (16384, 8192, 4096, 2048, 1024, 512, 256)


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes. `cache` is the keys and values of every conversation's whole context."""

    weights: int
    cache: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute


def memory_need(
    header: Header, size: int, context: int, slots: int, process: bool = True, throughput: bool = False
) -> MemoryNeed:
    """For a file of `size` bytes and `slots` conversations of `context` tokens each; halves of 16 bits in the cache.

    With `process` False: one more context, of an adapter, of a model that is already loaded. `throughput`: for an
    evaluation. A chat computes without flash attention, so the attention of a pass to a whole context is in memory.
    """
    blocks, width, heads = (
        _number(header, name) for name in ("block_count", "embedding_length", "attention.head_count")
    )
    inner, keys = _number(header, "feed_forward_length"), _number(header, "attention.head_count_kv") or heads
    head = _number(header, "attention.key_length") or (width // heads if heads else 0)
    cells = min(context, header.context or context)
    cache = 2 * 2 * blocks * keys * head * cells * slots
    numbers = 3 * inner + 8 * width + (0 if throughput else heads * cells)
    compute = 4 * (ROWS if throughput else CHAT_ROWS) * numbers + 4 * slots * max(header.vocabulary, 1)
    return MemoryNeed(size, cache, compute + (PROCESS if process else 0))


def refusal(name: str, wanted: MemoryNeed, free: int, context: int, smaller: int) -> LabError:
    """The sentence with the numbers. `smaller` is a context that would fit, or 0."""
    way = (
        f"A context of {smaller:,} tokens would fit: choose it for this variant in the Library, or close programs."
        if smaller
        else "Close other programs, or choose a smaller variant or quantisation."
    )
    return LabError(
        f"{name} needs {amount(wanted.total)} of memory and {amount(max(0, free)) or '0 B'} are free: "
        f"{amount(wanted.weights)} for the weights, {amount(wanted.cache)} for the context of {context:,} tokens in "
        f"every conversation, {amount(wanted.compute)} to compute. {way}"
    )


def _number(header: Header, name: str) -> int:
    value = header.keys.get(f"llama.{name}", 0)
    return value if isinstance(value, int) else 0


def guess(size: int, context: int, slots: int) -> int:
    """Estimated bytes for a file whose header is not known yet.

    The keys and values of one token take 40 to 56 kB for each GB of weights of Llama 3.2 1B and 3B at four bits.
    """
    return int(size * (1 + context * slots * 50e-6)) + PROCESS + (150 << 20) if size else 0
