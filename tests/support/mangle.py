"""Malformed GGUFs by the hundred: a sound one with something in it that no writer would write.

Most keep the file's structure and damage its meaning (a number, a type, a shape, a length), because what is not even
a GGUF gets no further than its first bytes.
"""

import math
import random
import struct
from collections.abc import Callable, Iterator

from models.check.tensors import TYPES
from support import damaged_keys as keys
from support import damaged_tensors as rows
from support.gguf_layout import Gguf, parse

_ANY = [
    keys.number, keys.another_kind, keys.missing, keys.twin, keys.renamed, keys.text_of, rows.row_type, rows.retyped,
    rows.shape, rows.row_name, rows.removed, rows.added, rows.offset, rows.order, rows.alignment, rows.counts,
    rows.weights, rows.cut, rows.head_bytes,
]  # fmt: skip
_MODELS = [
    *_ANY, keys.number, keys.number, keys.fraction, keys.rope, keys.template, keys.special, keys.list_kind,
    keys.list_length, keys.token, keys.token_type, keys.merges, keys.sentencepiece, rows.aligned_oddly, rows.geometry,
    rows.fewer_blocks,
]  # fmt: skip
_ADAPTERS = [*_ANY, keys.alpha, keys.invocation, rows.rank, rows.embedding_pair]
Damage = Callable[[random.Random, Gguf], str | tuple[str, bytes]]


def mangled(whole: bytes, seed: int, count: int, adapter: bool = False) -> Iterator[tuple[str, bytes]]:
    """That many (label, file), the same for the same seed. A label names the kind of damage, then what was done."""
    chance = random.Random(seed)
    kinds: list[Damage] = list(_ADAPTERS if adapter else _MODELS)
    sound = parse(whole, TYPES)
    for number in range(count):
        file = sound.copy()
        chosen = [kinds[number % len(kinds)], *chance.choices(kinds, k=chance.choice([0, 0, 0, 1, 2]))]
        labels, data = [], None
        for damage in chosen:
            before = file.copy()
            try:
                done = damage(chance, file)
                file.head()
            except (AttributeError, LookupError, StopIteration, TypeError, ValueError, struct.error):
                file = before  # an earlier damage has left nothing that can be damaged in this way
                continue
            labels.append(f"{damage.__name__} {done if isinstance(done, str) else done[0]}")
            if not isinstance(done, str):
                data = done[1]
                break
        yield " + ".join(labels)[:300], file.bytes() if data is None else data


def cuts(whole: bytes, header: int, step: int, places: int) -> Iterator[int]:
    """Lengths to cut a file at: every `step` bytes of its header, and so many places of its data."""
    yield from range(0, header, step)
    yield from (header + math.floor((len(whole) - header) * place / places) for place in range(places))
