"""Reads a GGUF's header within limits of time and memory, and checks whether llama.cpp can load the file safely.

The file is not trusted. No weights are read: damaged weights are not noticed, but they are harmless.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.check.file_type import BYTES, describe_type
from models.check.llama import check_llama
from models.check.lora import check_adapter
from models.check.reader import MOST_KEYS, MOST_TENSORS, Reader
from models.check.tensors import Tensor, alignment_of, check_offsets, read_tensors
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
    """The checked header of a GGUF. `keys`: numbers and texts, but no lists."""

    tensors: int
    keys: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    """Description of each list: the number of its items, or the items if they are few numbers."""
    types: dict[str, int] = field(default_factory=dict)
    """Type -> number of tensors."""
    parameters: int = 0
    vocabulary: int = 0
    """Number of tokens; 0 for an adapter."""

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
    """Read the header of a GGUF (version 2 or 3, little endian) with a Llama or a LoRA for one.

    Raises BadFile if the file is something else or unsafe for llama.cpp, and OSError if it cannot be read. Takes at
    most 64 MB and 2 seconds for any file.
    """
    with path.open("rb") as file:
        first = file.read(BYTES)
        if not first.startswith(b"GGUF"):
            raise BadFile(describe_type(first))
        file.seek(0)
        return _read(Reader(file, os.fstat(file.fileno()).st_size))


def _read(reader: Reader) -> Header:
    tensor_count, key_count = _counts(reader)
    facts = reader.facts(key_count)
    _check_purpose(facts, tensor_count)
    alignment = alignment_of(facts)
    tensors = read_tensors(reader, tensor_count)
    check_offsets(tensors, reader.offset, alignment, reader.size)
    if _value(facts, "general.type") == "adapter":
        check_adapter(facts, tensors)
        return _header(facts, tensors, 0)
    vocabulary = check_vocabulary(facts, reader.token_hashes)
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
    """Read the numbers of tensors and keys."""
    _, version, tensors, keys = reader.numbers("<4sIQQ")
    if version and version % (1 << 16) == 0:
        raise BadFile("it is a big-endian GGUF, for another kind of processor")
    if version == 1:
        raise BadFile("it is version 1 of GGUF, which llama.cpp does not read any more (download a newer file)")
    if version not in (2, 3) or tensors > MOST_TENSORS or keys > MOST_KEYS:
        raise BadFile(f"its counts are not valid (version {version}, {tensors:,} tensors, {keys:,} keys)")
    return tensors, keys


def _value(facts: dict[str, Fact], key: str) -> Any:
    """The value of a key; an empty text if it is missing or a list."""
    fact = facts.get(key)
    return "" if fact is None or fact.kind.startswith("list") else fact.value


def _check_purpose(facts: dict[str, Fact], tensors: int) -> None:
    """Raise BadFile for a valid file that is not a language model, or not one that this app supports."""
    architecture, purpose = str(_value(facts, "general.architecture")), _value(facts, "general.type")
    parts = _value(facts, "split.count")
    if isinstance(parts, int) and parts > 1:
        number = _value(facts, "split.no")
        part = f"part {number + 1} of {parts}" if isinstance(number, int) else f"one of the {parts} parts"
        raise BadFile(f"it is {part} of a split model; split models are not supported, choose a single file")
    if architecture == "clip" or purpose == "mmproj":
        raise BadFile("it is the vision part of a model (mmproj), which cannot answer alone")
    if architecture in _EMBEDDERS:
        raise BadFile(f"its architecture is {architecture}, which makes embeddings and cannot answer")
    if architecture != "llama":
        raise BadFile(f"its architecture is {architecture[:40] or 'missing'}, and only llama is supported")
    if purpose == "vocab" or (tensors == 0 and purpose != "adapter"):
        raise BadFile("it has a vocabulary only, without the weights of a model")
