"""A bounded look at a GGUF's header: what the file says it is, and whether llama.cpp may be given it.

The file is not trusted. No tensor is loaded: damage among the weights themselves stays unseen, and is harmless.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.check.file_type import BYTES, disguise
from models.check.llama import check_llama
from models.check.lora import check_adapter
from models.check.reader import MOST_KEYS, MOST_TENSORS, Reader
from models.check.tensors import Tensor, alignment_of, check_places, read_tensors
from models.check.value import BadFile, Fact
from models.check.vocabulary import check_vocabulary

_QUANTISATIONS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip
_EMBEDDERS = ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert",
              "eurobert", "gemma-embedding", "t5encoder", "llama-embed")  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a GGUF says of itself. `keys` holds numbers and short texts, not lists."""

    tensors: int
    keys: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    """What each list holds: how many items, or the numbers themselves if they are few."""
    types: dict[str, int] = field(default_factory=dict)
    """How many tensors there are of each type."""
    parameters: int = 0
    vocabulary: int = 0
    """Tokens; 0 for an adapter."""

    @property
    def architecture(self) -> str:
        return str(self.keys.get("general.architecture", ""))

    @property
    def is_adapter(self) -> bool:
        return self.keys.get("general.type") == "adapter"

    @property
    def name(self) -> str:
        return str(self.keys.get("general.name", ""))

    @property
    def quantisation(self) -> str:
        return _QUANTISATIONS.get(self.keys.get("general.file_type", -1), "")

    @property
    def context(self) -> int:
        length = self.keys.get(f"{self.architecture}.context_length", 0)
        return length if isinstance(length, int) else 0

    @property
    def licence(self) -> str:
        return str(self.keys.get("general.license", "")) or "unknown"

    @property
    def template(self) -> str:
        return str(self.keys.get("tokenizer.chat_template", ""))


def read_header(path: Path) -> Header:
    """The header of a GGUF version 2 or 3, little endian, that holds a Llama or a LoRA for one.

    BadFile if it is none or llama.cpp should not be given it; OSError if it cannot be read. Takes 64 MB and 2 seconds
    at most, whatever the file says.
    """
    with path.open("rb") as file:
        first = file.read(BYTES)
        if not first.startswith(b"GGUF"):
            raise BadFile(disguise(first))
        file.seek(0)
        return _read(Reader(file, os.fstat(file.fileno()).st_size))


def _read(reader: Reader) -> Header:
    tensor_count, key_count = _counts(reader)
    facts = reader.facts(key_count)
    _check_purpose(facts, tensor_count)
    alignment = alignment_of(facts)
    tensors = read_tensors(reader, tensor_count)
    check_places(tensors, reader.at, alignment, reader.size)
    if _value(facts, "general.type") == "adapter":
        check_adapter(facts, tensors)
        return _header(facts, tensors, 0)
    vocabulary = check_vocabulary(facts, reader.words)
    check_llama(facts, tensors, vocabulary)
    return _header(facts, tensors, vocabulary)


def _header(facts: dict[str, Fact], tensors: dict[str, Tensor], vocabulary: int) -> Header:
    return Header(
        tensors=len(tensors),
        keys={key: fact.value for key, fact in facts.items() if not fact.kind.startswith("list")},
        lists={key: fact.described for key, fact in facts.items() if fact.kind.startswith("list")},
        types=dict(Counter(tensor.type for tensor in tensors.values())),
        parameters=sum(tensor.elements for tensor in tensors.values()),
        vocabulary=vocabulary,
    )


def _counts(reader: Reader) -> tuple[int, int]:
    """How many tensors and keys there are."""
    _, version, tensors, keys = reader.numbers("<4sIQQ")
    if version and version % (1 << 16) == 0:
        raise BadFile("it is a big-endian GGUF, for another kind of processor")
    if version == 1:
        raise BadFile("it is version 1 of GGUF, which llama.cpp reads no longer (download a newer one)")
    if version not in (2, 3) or tensors > MOST_TENSORS or keys > MOST_KEYS:
        raise BadFile(f"its counts make no sense (version {version}, {tensors:,} tensors, {keys:,} keys)")
    return tensors, keys


def _value(facts: dict[str, Fact], key: str) -> Any:
    """What is said there, unless it is a list; an empty text for nothing."""
    fact = facts.get(key)
    return "" if fact is None or fact.kind.startswith("list") else fact.value


def _check_purpose(facts: dict[str, Fact], tensors: int) -> None:
    """BadFile for sound files that are not for answering questions, or not for this app."""
    architecture, purpose = str(_value(facts, "general.architecture")), _value(facts, "general.type")
    parts = _value(facts, "split.count")
    if isinstance(parts, int) and parts > 1:
        number = _value(facts, "split.no")
        part = f"part {number + 1} of {parts}" if isinstance(number, int) else f"one of the {parts} parts"
        raise BadFile(f"it is {part} of a split model; parts do not run here, choose a single file")
    if architecture == "clip" or purpose == "mmproj":
        raise BadFile("it is the vision part of a model (mmproj), which goes beside the model and cannot answer alone")
    if architecture in _EMBEDDERS:
        raise BadFile(f"its architecture is {architecture}, which makes embeddings and cannot answer")
    if architecture != "llama":
        raise BadFile(f"its architecture is {architecture[:40] or 'not given'}, and only llama runs here")
    if purpose == "vocab" or (tensors == 0 and purpose != "adapter"):
        raise BadFile("it holds a vocabulary only, without the weights of a model")
