"""What a header must say for llama.cpp to be given the file: a Llama, its vocabulary, an adapter."""

import math
from pathlib import Path
from typing import Any

import pytest
from support.gguf_layout import BOOL, F32, I32, LIST, TEXT, U32, Gguf, adapter, miniature, plain

from models.check import BadFile, Header, read_header


def read(folder: Path, model: Gguf) -> Header:
    path = folder / "file.gguf"
    path.write_bytes(model.bytes())
    return read_header(path)


def refusal(folder: Path, model: Gguf) -> str:
    with pytest.raises(BadFile) as caught:
        read(folder, model)
    assert len(str(caught.value)) < 200 and str(caught.value)[0].islower()
    return str(caught.value)


NUMBERS = {
    "block_count": (0, 513, 10**6, 2**32 - 1),
    "embedding_length": (0, 65_537, 2**31),
    "attention.head_count": (0, 1025, 2**32 - 1),
    "attention.head_count_kv": (0, 3, 2**31),
    "feed_forward_length": (0, 2**21),
    "context_length": (0, 2**31),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in NUMBERS for value in NUMBERS[name]])
def test_a_number_out_of_bounds_is_refused_by_name(tmp_path: Path, name: str, value: int) -> None:
    found = refusal(tmp_path, miniature().set(f"llama.{name}", value))
    assert found.startswith(f"its llama.{name} is {value:,}, which is not between ")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [(1.0, F32, "f32"), (1, I32, "i32"), (1, 10, "u64"), (True, BOOL, "bool"), (b"1", TEXT, "text"),
     ([1], LIST, "list of u32")],
)  # fmt: skip
def test_a_number_of_another_type_is_refused_by_name(
    tmp_path: Path, name: str, value: Any, kind: int, said: str
) -> None:
    found = refusal(tmp_path, miniature().set(f"llama.{name}", value, kind, U32))
    assert found == f"its llama.{name} is of type {said} instead of u32"


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - {"attention.head_count_kv"}))
def test_a_number_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, miniature().drop(f"llama.{name}")) == f"its header does not have llama.{name}"


def test_without_a_count_every_head_has_keys_of_its_own(tmp_path: Path) -> None:
    model = miniature().drop("llama.attention.head_count_kv")
    assert "blk.0.attn_k.weight is 8 x 4 but its header requires 8 x 8" in refusal(tmp_path, model)


EPSILON = "llama.attention.layer_norm_rms_epsilon"


@pytest.mark.parametrize(
    ("name", "value", "kind", "why"),
    [
        ("llama.attention.head_count", 3, U32, "cannot be divided among 3 heads"),
        ("llama.attention.head_count", 8, U32, "heads have the size 1, which is odd"),
        ("llama.attention.head_count_kv", 3, U32, "not between 1 and 2"),
        ("llama.attention.key_length", 0, U32, "key_length is 0"),
        ("llama.attention.key_length", 6, U32, "value_length is 4, but its heads have 6"),
        ("llama.attention.key_length", 4.0, F32, "type f32"),
        ("llama.attention.value_length", 2, U32, "value_length is 2, but its heads have 4"),
        ("llama.rope.dimension_count", 2, U32, "dimension_count is 2, but its heads have 4"),
        ("llama.rope.dimension_count", 2**32 - 1, U32, "dimension_count is 4,294,967,295"),
        ("llama.rope.dimension_count", 4, I32, "type i32"),
        ("llama.rope.freq_base", 0.0, F32, "freq_base is 0, which is not above zero"),
        ("llama.rope.freq_base", math.nan, F32, "freq_base is nan"),
        ("llama.rope.freq_base", 10_000, U32, "type u32 instead of f32"),
        ("llama.rope.scaling.factor", math.inf, F32, "factor is inf"),
        ("llama.rope.scaling.type", b"nonsense", TEXT, "'nonsense', which llama.cpp does not know"),
        ("llama.rope.scaling.type", b"linear\0", TEXT, "which llama.cpp does not know"),
        ("llama.rope.scaling.type", 1, U32, "type u32 instead of text"),
        (EPSILON, math.nan, F32, "epsilon is nan"),
        (EPSILON, math.inf, F32, "epsilon is inf"),
        (EPSILON, -1e-5, F32, "epsilon is -1e-05"),
        (EPSILON, 1e-5, 12, "type f64 instead of f32"),
        ("llama.nextn_predict_layers", 1, U32, "predicts several tokens at once"),
        ("llama.expert_used_count", 2, U32, "mixture of experts"),
        ("llama.expert_used_count", [0], LIST, "mixture of experts"),
        ("general.name", 5, U32, "general.name is of type u32 instead of text"),
        ("general.file_type", b"Q4", TEXT, "general.file_type is of type text instead of u32"),
        ("llama.feed_forward_length", 13, U32, "ffn_gate.weight is 8 x 12 but its header requires 8 x 13"),
        ("llama.block_count", 2, U32, "its tensor blk.1."),
        ("tokenizer.ggml.tokens", 5, U32, "tokens is of type u32 instead of list of text"),
        ("tokenizer.ggml.tokens", [1, 2], LIST, "tokens is of type list of u32 instead of list of text"),
        ("tokenizer.ggml.model", b"bert", TEXT, "its tokenizer is 'bert', and only gpt2 and llama are supported"),
        ("tokenizer.ggml.model", 5, U32, "type u32 instead of text"),
        ("tokenizer.ggml.pre", b"whitespace", TEXT, "at white space only"),
        ("tokenizer.ggml.pre", b"whitespace\0x", TEXT, "at white space only"),
        ("tokenizer.ggml.add_bos_token", 1, U32, "type u32 instead of bool"),
        ("tokenizer.ggml.scores", 5, U32, "scores is of type u32 instead of list of f32"),
        ("tokenizer.ggml.scores", [1, 2, 3, 4], LIST, "scores is of type list of u32"),
        ("tokenizer.ggml.token_type", [1, 1, 1, 1], LIST, "token_type is of type list of u32 instead of list of i32"),
        ("tokenizer.ggml.merges", [1], LIST, "merges is of type list of u32"),
        ("tokenizer.ggml.suppress_tokens", [1], LIST, "suppress_tokens is of type list of u32"),
    ],
)
def test_a_header_that_contradicts_itself_or_llama_cpp_is_refused(
    tmp_path: Path, name: str, value: Any, kind: int, why: str
) -> None:
    assert why in refusal(tmp_path, miniature().set(name, value, kind, U32))


def test_the_norms_need_their_small_number(tmp_path: Path) -> None:
    assert refusal(tmp_path, miniature().drop(EPSILON)) == f"its header does not have {EPSILON}"


def test_heads_of_another_size_than_the_width_says_are_read(tmp_path: Path) -> None:
    model = miniature()
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        model.set(f"llama.{key}", 6)
    for part, shape in {"q": [8, 12], "k": [8, 6], "v": [8, 6], "output": [12, 8]}.items():
        name = f"blk.0.attn_{part}.weight"
        model.rows[[row.name for row in model.rows].index(name.encode())] = plain(name, shape)
    assert read(tmp_path, model.lay()).tensors == 11


def vocabulary(model: Gguf, tokens: list[bytes]) -> Gguf:
    """The miniature with other tokens, and as many rows."""
    model.drop("tokenizer.ggml.token_type").set("tokenizer.ggml.tokens", tokens, LIST, TEXT)
    model.rows[0] = plain("token_embd.weight", [8, max(1, len(tokens))])
    return model.lay()


@pytest.mark.parametrize("length", [0, 3, 5])
@pytest.mark.parametrize(("name", "item"), [("scores", F32), ("token_type", I32)])
def test_lists_beside_the_tokens_are_as_long_as_they(tmp_path: Path, name: str, item: int, length: int) -> None:
    model = miniature().set(f"tokenizer.ggml.{name}", [1] * length, LIST, item)
    assert refusal(tmp_path, model) == f"its tokenizer.ggml.{name} has {length} items for 4 tokens"


@pytest.mark.parametrize("name", ["bos", "eos", "eot", "unknown", "padding", "fim_pre"])
def test_special_tokens_are_in_the_vocabulary(tmp_path: Path, name: str) -> None:
    key = f"tokenizer.ggml.{name}_token_id"
    assert read(tmp_path, miniature().set(key, 3))
    assert refusal(tmp_path, miniature().set(key, 4)) == f"its {key} is 4, which is not between 0 and 3"
    assert "type i32" in refusal(tmp_path, miniature().set(key, -1, I32))


def test_the_vocabulary_is_as_long_as_the_embedding(tmp_path: Path) -> None:
    model = vocabulary(miniature(), [b"a", b"b", b"c"])
    assert read(tmp_path, model).vocabulary == 3
    model.rows[0] = plain("token_embd.weight", [8, 4])
    assert "token_embd.weight is 8 x 4 but its header requires 8 x 3" in refusal(tmp_path, model.lay())


@pytest.mark.parametrize(
    "tokens",
    [
        [b"a", b"b", b"a"],
        [b"a", b"b", b"a\0b"],
        [b"[EMPTY_2]", b"b", b""],
        [b"[EMPTY_2]", b"b", b"\0x"],
        [b"x" * 5000, b"b", b"x" * 5000],
    ],
)
def test_two_tokens_that_llama_cpp_takes_for_one_are_refused(tmp_path: Path, tokens: list[bytes]) -> None:
    assert refusal(tmp_path, vocabulary(miniature(), tokens)) == "two tokens of its vocabulary are the same"


def test_tokens_that_only_look_alike_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, vocabulary(miniature(), [b"", b"\xff", b"\xfe", b"a", b"A", b"[EMPTY_9]"])).vocabulary == 6


def test_a_model_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, miniature().drop("tokenizer.ggml.tokens")) == "it has no vocabulary"
    assert refusal(tmp_path, vocabulary(miniature(), [])) == "its vocabulary is empty"


def test_byte_pairs_need_merges_and_sentencepiece_needs_bytes(tmp_path: Path) -> None:
    assert "needs tokenizer.ggml.merges" in refusal(tmp_path, miniature().drop("tokenizer.ggml.merges"))
    model = vocabulary(miniature(), [b"<0x%02X>" % byte for byte in range(256)]).drop("tokenizer.ggml.merges")
    assert read(tmp_path, model.set("tokenizer.ggml.model", b"llama", TEXT)).vocabulary == 256
    model.key("tokenizer.ggml.tokens").value[65] = b"A"  # a byte may also be its own token
    assert read(tmp_path, model)
    model.key("tokenizer.ggml.tokens").value[65] = b"other"
    assert refusal(tmp_path, model) == "its vocabulary has no token for the byte 65"


@pytest.mark.parametrize(
    ("name", "value", "kind", "why"),
    [
        ("adapter.type", b"control", TEXT, "an adapter of type 'control', and only lora is supported"),
        ("adapter.type", 5, U32, "an adapter of type '5'"),
        ("adapter.type", [1], LIST, "an adapter of type '1'"),
        ("adapter.lora.alpha", math.nan, F32, "alpha is nan"),
        ("adapter.lora.alpha", -math.inf, F32, "alpha is -inf"),
        ("adapter.lora.alpha", 16, U32, "alpha is of type u32 instead of f32"),
        ("adapter.lora.alpha", [1], LIST, "alpha is of type list of u32"),
        ("adapter.alora.invocation_tokens", [1], LIST, "acts from certain tokens on"),
        ("general.architecture", b"qwen2", TEXT, "its architecture is qwen2"),
    ],
)
def test_an_adapter_that_says_something_odd_is_refused(
    tmp_path: Path, name: str, value: Any, kind: int, why: str
) -> None:
    assert why in refusal(tmp_path, adapter().set(name, value, kind, U32))


@pytest.mark.parametrize("name", ["adapter.type", "adapter.lora.alpha"])
def test_an_adapter_says_its_type_and_its_alpha(tmp_path: Path, name: str) -> None:
    assert "adapter" in refusal(tmp_path, adapter().drop(name))


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ({}, "an adapter without any matrices"),
        ({"x.lora_a": [8, 2]}, "its tensor x.lora_b is missing, but its counterpart exists"),
        ({"x.lora_b": [2, 8]}, "its tensor x.lora_a is missing"),
        ({"x.lora_a": [8, 2], "x.lora_b": [3, 8]}, "its x has a matrix of rank 2 and one of rank 3"),
        ({"x.lora_a": [8], "x.lora_b": [8, 8]}, "its tensor x.lora_a is 8, and must be a matrix"),
        ({"x.lora_a": [8, 2, 2], "x.lora_b": [2, 8]}, "its tensor x.lora_a is 8 x 2 x 2"),
        ({"x.lora_a": [8, 2], "x.lora_b": [2, 8], "y.weight": [8]}, "it has y.weight, which does not belong to a LoRA"),
        ({"token_embd.weight.lora_a": [2, 4], "token_embd.weight.lora_b": [2, 8]}, "it changes the token embedding"),
    ],
)
def test_an_adapter_comes_in_pairs(tmp_path: Path, rows: dict[str, list[int]], why: str) -> None:
    lora = adapter()
    lora.rows = [plain(name, shape) for name, shape in rows.items()]
    assert why in refusal(tmp_path, lora.lay())


def test_norms_in_an_adapter_are_passed_over(tmp_path: Path) -> None:
    lora = adapter()
    lora.rows.append(plain("blk.0.attn_norm.weight", [8]))
    assert read(tmp_path, lora.lay()).tensors == 3


def test_an_adapter_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    lora = adapter()
    lora.rows[0].type = 26
    assert "is of type I32, which is not supported" in refusal(tmp_path, lora)
