"""Damage that `mangle` does to the keys of a GGUF. Each kind changes the file it is given and says how."""

import math
import random
import struct

from support.gguf_layout import BOOL, F32, FORMS, I32, LIST, TEXT, U32, Gguf, Key

WILD = [0, 1, 2, 3, 5, 7, 8, 63, 255, 512, 513, 1000, 65_535, 65_536, 10**6, 2**31 - 1, 2**31, 2**32 - 1]
FRACTIONS = [math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, -1e-5, 1e-45, 1e38, -1e38, 1.0, 0.5]
TEXTS = [
    b"", b"llama", b"gpt2", b"bert", b"t5", b"rwkv", b"none", b"no_vocab", b"test", b"plamo2", b"hybriddna",
    b"default", b"linear", b"yarn", b"longrope", b"nonsense", b"\xff\xfe", b"a\0b", b"x" * 5000, b"phi3", b"whitespace",
]  # fmt: skip
NUMBER_KEYS = [
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count", "vocab_size",
    "expert_count", "expert_used_count", "expert_group_count", "nextn_predict_layers", "embedding_length_out",
    "pooling_type", "attention.sliding_window", "rope.scaling.original_context_length", "attention.key_length_swa",
    "attention.value_length_swa", "rope.dimension_count_swa", "leading_dense_block_count", "adapters.count",
    "adapters.lora_rank", "num_loops", "n_deepstack_layers", "decoder_block_count", "interleave_moe_layer_step",
]  # fmt: skip
FRACTION_KEYS = [
    "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.factor", "rope.scale_linear",
    "rope.scaling.attn_factor", "rope.scaling.alpha", "attention.scale", "logit_scale", "residual_scale",
    "embedding_scale", "attention.clamp_kqv", "attention.max_alibi_bias", "rope.scaling.yarn_log_multiplier",
    "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_beta_fast", "attn_logit_softcapping", "rope.freq_base_swa",
]  # fmt: skip
IDS = ["bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask", "cls", "fim_pre", "fim_sep", "prefix"]
TOKENIZER_LISTS = ["tokens", "token_type", "scores", "merges", "suppress_tokens", "precompiled_charsmap"]


def value_of(chance: random.Random, kind: int) -> object:
    """Any value that this kind can hold."""
    if kind == TEXT:
        return chance.choice(TEXTS)
    if kind in (F32, 12):
        return chance.choice(FRACTIONS)
    if kind == BOOL:
        return chance.random() < 0.5
    bits = struct.calcsize(FORMS[kind]) * 8
    return chance.choice(WILD) % (1 << (bits - 1))


def number(chance: random.Random, file: Gguf) -> str:
    key, value = f"llama.{chance.choice(NUMBER_KEYS)}", chance.choice(WILD)
    file.set(key, value)
    return f"{key}={value}"


def fraction(chance: random.Random, file: Gguf) -> str:
    key, value = f"llama.{chance.choice(FRACTION_KEYS)}", chance.choice(FRACTIONS)
    file.set(key, value, F32)
    return f"{key}={value}"


def rope(chance: random.Random, file: Gguf) -> str:
    kind, factor = chance.choice(TEXTS + [b"yarn", b"longrope"]), chance.choice(FRACTIONS)
    file.set("llama.rope.scaling.type", kind, TEXT).set("llama.rope.scaling.factor", factor, F32)
    file.set("llama.rope.scaling.original_context_length", chance.choice(WILD))
    return f"{kind[:20]!r} by {factor}"


def another_kind(chance: random.Random, file: Gguf) -> str:
    key = chance.choice(file.keys)
    key.kind = chance.choice([kind for kind in (*FORMS, TEXT, LIST, 13, 2**31) if kind != key.kind])
    key.item = chance.choice([*FORMS, TEXT])
    if key.kind == LIST:
        key.value = [value_of(chance, key.item) for _ in range(chance.choice([0, 1, 4, 9, 1024]))]
    else:
        key.value = value_of(chance, key.kind) if key.kind in (*FORMS, TEXT) else b""
    return f"{key.name!r} as {key.kind}"


def missing(chance: random.Random, file: Gguf) -> str:
    key = chance.choice(file.keys)
    file.keys.remove(key)
    return repr(key.name)


def twin(chance: random.Random, file: Gguf) -> str:
    """A key a second time: the same name, or one that C takes for the same."""
    key = chance.choice(file.keys)
    name = key.name + chance.choice([b"", b"\0", b"\0x", b"\n"])
    value = value_of(chance, key.kind) if key.kind != LIST else key.value
    file.keys.insert(chance.randrange(len(file.keys) + 1), Key(name, key.kind, value, key.item))
    return f"{name!r}={str(value)[:40]}"


def renamed(chance: random.Random, file: Gguf) -> str:
    key = chance.choice(file.keys)
    key.name = chance.choice([b"", b"\xff\xfe", b"k" * 70_000, key.name.upper(), key.name + b"\0", b"llama."])
    return repr(key.name[:40])


def text_of(chance: random.Random, file: Gguf) -> str:
    key = chance.choice([key for key in file.keys if key.kind == TEXT])
    key.value = chance.choice(TEXTS)
    return f"{key.name!r}={key.value[:20]!r}"


def template(chance: random.Random, file: Gguf) -> str:
    value = chance.choice([b"{%", b"{{" * 1000, b"\xff" * 100, b"", b"{% for a in range(10**9) %}{% endfor %}", b"\0"])
    file.set("tokenizer.chat_template", value, TEXT)
    return repr(value[:20])


def special(chance: random.Random, file: Gguf) -> str:
    key, value = f"tokenizer.ggml.{chance.choice(IDS)}_token_id", chance.choice([*WILD, 1023, 1024])
    file.set(key, value)
    return f"{key}={value}"


def list_kind(chance: random.Random, file: Gguf) -> str:
    name, item = f"tokenizer.ggml.{chance.choice(TOKENIZER_LISTS)}", chance.choice([*FORMS, TEXT])
    length = chance.choice([0, 1, 10, 1023, 1024, 1025])
    file.set(name, [value_of(chance, item) for _ in range(length)], LIST, item)
    return f"{name}: {length} of {item}"


def list_length(chance: random.Random, file: Gguf) -> str:
    key = chance.choice([key for key in file.keys if key.kind == LIST])
    if chance.random() < 0.4:
        key.count = chance.choice([0, 1, len(key.value) + 1, 2**20, 2**31, 2**32, 2**60, 2**64 - 1])
        return f"{key.name!r} says {key.count}"
    length = chance.choice([0, 1, len(key.value) - 1, len(key.value) // 2])
    key.value = key.value[:length] if chance.random() < 0.7 else key.value + key.value[:1]
    return f"{key.name!r} has {len(key.value)}"


def token(chance: random.Random, file: Gguf) -> str:
    words = file.key("tokenizer.ggml.tokens").value
    many = chance.choice([1, 1, 3, len(words)])
    odd = [b"", b"\xff\xfe\x80", words[5], words[5] + b"\0x", b"\0", b"x" * 10_000, b"[EMPTY_7]", b"<0x41>", b"</s>",
           b"<|end|>", b"\xf0\x9f", b"\n", b" ", b"\xc4\x8a"]  # fmt: skip
    chosen = chance.choice(odd)
    for place in chance.sample(range(len(words)), many):
        words[place] = chosen if many < 9 else chosen + b"%d" % place
    return f"{many} of {chosen[:20]!r}"


def token_type(chance: random.Random, file: Gguf) -> str:
    values = file.set("tokenizer.ggml.token_type", [1] * 1024, LIST, I32).key("tokenizer.ggml.token_type").value
    kind = chance.choice([0, 2, 3, 4, 5, 6, 7, -1, 100, -(2**31)])
    for place in chance.sample(range(1024), chance.choice([1, 10, 1024])):
        values[place] = kind
    return str(kind)


def merges(chance: random.Random, file: Gguf) -> str:
    odd = chance.choice([b"", b" ", b"   ", b"nospace", b"\xff \xfe", b"a\0 b", b"x " * 5000])
    values = file.key("tokenizer.ggml.merges").value
    for place in chance.sample(range(len(values)), chance.choice([1, 10, len(values)])):
        values[place] = odd
    return repr(odd[:20])


def sentencepiece(chance: random.Random, file: Gguf) -> str:
    """The tokenizer of Llama 2, over a vocabulary that may lack what it needs."""
    file.set("tokenizer.ggml.model", b"llama", TEXT)
    file.set("tokenizer.ggml.scores", [chance.choice(FRACTIONS) for _ in range(1024)], LIST, F32)
    if chance.random() < 0.7:
        words, most = file.key("tokenizer.ggml.tokens").value, chance.choice([256, 256, 255, 100])
        words[300 : 300 + most] = [b"<0x%02X>" % byte for byte in range(most)]
        return f"with {most} bytes"
    return "without bytes"


def alpha(chance: random.Random, file: Gguf) -> str:
    kind = chance.choice([F32, F32, U32, TEXT, 12])
    file.set("adapter.lora.alpha", value_of(chance, kind), kind)
    return str(file.key("adapter.lora.alpha").value)


def invocation(chance: random.Random, file: Gguf) -> str:
    kind = chance.choice([U32, I32, TEXT])
    file.set("adapter.alora.invocation_tokens", [value_of(chance, kind) for _ in range(3)], LIST, kind)
    return str(kind)
