"""What a GGUF must say of its tokens, so that llama.cpp can load them."""

from array import array
from bisect import bisect_left
from itertools import islice
from operator import eq

from models.check.reader import TOKENS, spelled
from models.check.value import BadFile, Fact, check_kind, number

_TOKENIZERS = ("gpt2", "llama")  # byte pairs, as Llama 3 has them, and SentencePiece, as Llama 2 had
_YES_OR_NO = ("add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces")


def check_vocabulary(facts: dict[str, Fact], words: "array[int]") -> int:
    """How many tokens there are. `words` holds a hash of each. BadFile for what no loader would survive."""
    if TOKENS not in facts:
        raise BadFile("it holds no vocabulary")
    check_kind(facts[TOKENS], TOKENS, "list of text")
    count = int(facts[TOKENS].value)
    if not count:
        raise BadFile("its vocabulary is empty")
    _check_tokenizer(facts)
    _check_lists(facts, count)
    for key in sorted(facts):
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            number(facts, key, 0, count - 1)
    _check_words(facts["tokenizer.ggml.model"].value, words)
    return count


def _check_tokenizer(facts: dict[str, Fact]) -> None:
    for name in ("tokenizer.ggml.model", "tokenizer.ggml.pre"):
        if name in facts:
            check_kind(facts[name], name, "text")
    model = facts.get("tokenizer.ggml.model", Fact("text", "none")).value
    if model not in _TOKENIZERS:
        raise BadFile(f"its tokenizer is {model[:40]!r}, and only gpt2 and llama run here")
    cut = facts.get("tokenizer.ggml.pre", Fact("text", "")).value.partition("\0")[0]  # C reads no further
    if cut == "whitespace":  # ends llama.cpp's process
        raise BadFile("its tokenizer cuts texts at white space only, and such a model does not run here")
    for name in _YES_OR_NO:
        if fact := facts.get(f"tokenizer.ggml.{name}"):
            check_kind(fact, f"tokenizer.ggml.{name}", "bool")
    merges = facts.get("tokenizer.ggml.merges")
    if merges:
        check_kind(merges, "tokenizer.ggml.merges", "list of text")
    elif model == "gpt2":
        raise BadFile("its tokenizer needs tokenizer.ggml.merges, and its header does not have them")


def _check_lists(facts: dict[str, Fact], count: int) -> None:
    for name, kinds in (("scores", ("list of f32", "list of i32")), ("token_type", ("list of i32",))):
        key = f"tokenizer.ggml.{name}"
        fact = facts.get(key)
        if fact and fact.kind not in kinds:
            raise BadFile(f"its {key} is of type {fact.kind} where {kinds[0]} belongs")
        if fact and fact.value != count:
            raise BadFile(f"its {key} has {fact.value:,} items for {count:,} tokens")
    if suppressed := facts.get("tokenizer.ggml.suppress_tokens"):
        check_kind(suppressed, "tokenizer.ggml.suppress_tokens", "list of i32")


def _check_words(model: str, words: "array[int]") -> None:
    """No token twice; and SentencePiece has one for every byte, without which some text ends llama.cpp's process."""
    ordered = sorted(words)
    if any(map(eq, ordered, islice(ordered, 1, None))):
        raise BadFile("two tokens of its vocabulary are the same")
    if model == "llama":
        for byte in range(256):
            if not (_among(ordered, b"<0x%02X>" % byte) or _among(ordered, spelled(bytes([byte]), 0))):
                raise BadFile(f"its vocabulary has no token for the byte {byte}")


def _among(ordered: list[int], word: bytes) -> bool:
    place = bisect_left(ordered, hash(word))
    return place < len(ordered) and ordered[place] == hash(word)
