"""Checks the keys that llama.cpp needs to load the tokenizer of a GGUF."""

from array import array
from bisect import bisect_left
from itertools import islice
from operator import eq

from models.check.reader import TOKENS, as_read
from models.check.value import BadFile, Fact, check_kind, number

_TOKENIZERS = ("gpt2", "llama")  # byte-pair encoding as in Llama 3, and SentencePiece as in Llama 2
_BOOLEANS = ("add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces")


def check_vocabulary(facts: dict[str, Fact], token_hashes: "array[int]") -> int:
    """Return the number of tokens. `token_hashes`: a hash of each token. Raises BadFile for an invalid tokenizer."""
    if TOKENS not in facts:
        raise BadFile("it has no vocabulary")
    check_kind(facts[TOKENS], TOKENS, "list of text")
    count = int(facts[TOKENS].value)
    if not count:
        raise BadFile("its vocabulary is empty")
    _check_tokenizer(facts)
    _check_lists(facts, count)
    for key in sorted(facts):
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            number(facts, key, 0, count - 1)
    _check_tokens(facts["tokenizer.ggml.model"].value, token_hashes)
    return count


def _check_tokenizer(facts: dict[str, Fact]) -> None:
    for name in ("tokenizer.ggml.model", "tokenizer.ggml.pre"):
        if name in facts:
            check_kind(facts[name], name, "text")
    model = facts.get("tokenizer.ggml.model", Fact("text", "none")).value
    if model not in _TOKENIZERS:
        raise BadFile(f"its tokenizer is {model[:40]!r}, and only gpt2 and llama are supported")
    pre_tokenizer = facts.get("tokenizer.ggml.pre", Fact("text", "")).value.partition("\0")[0]
    if pre_tokenizer == "whitespace":  # crashes llama.cpp, which reads up to the first NUL
        raise BadFile("its tokenizer splits texts at white space only, which is not supported")
    for name in _BOOLEANS:
        if fact := facts.get(f"tokenizer.ggml.{name}"):
            check_kind(fact, f"tokenizer.ggml.{name}", "bool")
    merges = facts.get("tokenizer.ggml.merges")
    if merges:
        check_kind(merges, "tokenizer.ggml.merges", "list of text")
    elif model == "gpt2":
        raise BadFile("its tokenizer needs tokenizer.ggml.merges, but its header does not have them")


def _check_lists(facts: dict[str, Fact], count: int) -> None:
    for name, kinds in (("scores", ("list of f32", "list of i32")), ("token_type", ("list of i32",))):
        key = f"tokenizer.ggml.{name}"
        fact = facts.get(key)
        if fact and fact.kind not in kinds:
            raise BadFile(f"its {key} is of type {fact.kind} instead of {kinds[0]}")
        if fact and fact.value != count:
            raise BadFile(f"its {key} has {fact.value:,} items for {count:,} tokens")
    if suppressed := facts.get("tokenizer.ggml.suppress_tokens"):
        check_kind(suppressed, "tokenizer.ggml.suppress_tokens", "list of i32")


def _check_tokens(model: str, token_hashes: "array[int]") -> None:
    """Raise BadFile for duplicate tokens, and for a SentencePiece tokenizer without a token for every byte.

    Without these tokens, some texts crash llama.cpp.
    """
    ordered = sorted(token_hashes)
    if any(map(eq, ordered, islice(ordered, 1, None))):
        raise BadFile("two tokens of its vocabulary are the same")
    if model == "llama":
        for byte in range(256):
            if not (_contains(ordered, b"<0x%02X>" % byte) or _contains(ordered, as_read(bytes([byte]), 0))):
                raise BadFile(f"its vocabulary has no token for the byte {byte}")


def _contains(ordered: list[int], token: bytes) -> bool:
    index = bisect_left(ordered, hash(token))
    return index < len(ordered) and ordered[index] == hash(token)
