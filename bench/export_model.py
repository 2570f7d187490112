"""Makes the input of bench.export: a base in the shapes of Llama 3.2 with random weights, and a training run."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from backend.data.dataset import DatasetSpec
from backend.gguf.llama import LINEARS, NORMS
from backend.gguf.tensors import Array, to_type
from backend.gguf.vocabulary import LLAMA3_SPLIT
from backend.training.artifacts import FOLDER, MADE, TrainingRecord
from backend.training.request import TrainSettings
from bench.shapes import TOKENS

RANK, ALPHA = 16, 32
CONTROL = 3  # a token's type in a GGUF
FORMS = dict(zip([0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12], "BbHhIif?Qqd", strict=True))  # GGUF's types, as struct's
NUMBER, TEXT, LIST, LONG = 4, 8, 9, 10


def write_folder(folder: Path, vocabulary: Path, numbers: tuple[int, ...]) -> None:
    """Write a Hugging Face folder: Llama 3's tokenizer and random bf16 weights."""
    blocks, width, inner, heads, kv_heads, head = numbers
    folder.mkdir()
    rope = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "dtype": "bfloat16",
        "num_hidden_layers": blocks, "hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head, "vocab_size": TOKENS, "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "bos_token_id": 128000, "eos_token_id": 128009,
        "rope_parameters": rope,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, vocabulary)
    sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (TOKENS, width), "model.norm.weight": (width,)}
    for block in range(blocks):
        sizes |= {f"model.layers.{block}.{name}.weight": size for name, size in linears(numbers).items()}
        sizes |= {f"model.layers.{block}.{name}.weight": (width,) for name in NORMS}
    rng = np.random.default_rng(0)
    save(folder / "model.safetensors", "BF16", sizes, lambda size: weights(rng, size))


def linears(numbers: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of a linear layer."""
    _, width, inner, heads, kv_heads, head = numbers
    short = {
        "attn_q": (heads * head, width), "attn_k": (kv_heads * head, width), "attn_v": (kv_heads * head, width),
        "attn_output": (width, heads * head), "ffn_gate": (inner, width), "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }  # fmt: skip
    return {name: short[kind] for name, kind in LINEARS.items()}


def weights(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    if len(size) == 1:
        return to_type(np.ones(size, np.float32), "BF16")
    return to_type(rng.standard_normal(size, np.float32) * np.float32(0.02), "BF16")


def save(file: Path, kind: str, sizes: dict[str, tuple[int, ...]], make: Callable[[tuple[int, ...]], Array]) -> None:
    """Write a safetensors file, with one tensor in memory at a time."""
    table, end, width = {}, 0, {"BF16": 2, "F32": 4}[kind]
    for name, size in sizes.items():
        start, end = end, end + width * int(np.prod(size))
        table[name] = {"dtype": kind, "shape": size, "data_offsets": [start, end]}
    head = json.dumps({"__metadata__": {"format": "pt"}} | table).encode()
    with file.open("wb") as out:
        out.write(len(head).to_bytes(8, "little") + head)
        for size in sizes.values():
            make(size).tofile(out)


def lists_in(data: bytes) -> dict[str, list[Any]]:
    """The arrays of a GGUF header. The gguf package would take 10 seconds."""
    at, found = 24, {}

    def text() -> str:
        nonlocal at
        (size,) = struct.unpack_from("<Q", data, at)
        at += 8 + size
        return data[at - size : at].decode()

    def value(kind: int) -> Any:
        nonlocal at
        if kind == TEXT:
            return text()
        (one,) = struct.unpack_from(f"<{FORMS[kind]}", data, at)
        at += struct.calcsize(FORMS[kind])
        return one

    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        name, kind = text(), value(NUMBER)
        if kind == LIST:
            kind, count = value(NUMBER), value(LONG)
            found[name] = [value(kind) for _ in range(count)]
        else:
            value(kind)
    return found


def write_tokenizer(folder: Path, vocabulary: Path) -> None:
    """Llama 3's tokenizer, from a test file of llama.cpp."""
    lists = lists_in(vocabulary.read_bytes())
    tokens, merges = lists["tokenizer.ggml.tokens"], lists["tokenizer.ggml.merges"]
    special = [i for i, kind in enumerate(lists["tokenizer.ggml.token_type"]) if kind == CONTROL]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    first = {"id": tokens[special[0]], "type_id": 0}
    cut = {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    begin = {"id": first["id"], "ids": [special[0]], "tokens": [first["id"]]}
    sequence = [{"Sequence": {"id": "A", "type_id": 0}}]
    data = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "decoder": level,
        "added_tokens": [{"id": i, "content": tokens[i]} | plain for i in special],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, level]},
        "post_processor": {
            "type": "TemplateProcessing", "single": [{"SpecialToken": first}, *sequence],
            "pair": [{"SpecialToken": first}, *sequence], "special_tokens": {first["id"]: begin},
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
            "vocab": {text: i for i, text in enumerate(tokens) if i < special[0]},
            "merges": [merge.split(" ") for merge in merges],
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    names = {"bos_token": tokens[special[0]], "eos_token": "<|eot_id|>", "pad_token": tokens[special[4]]}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | names))


def write_run(run: Path, base: Path, numbers: tuple[int, ...]) -> Path:
    """Write the folder of a training run. The adapter's values have few digits, so that sums do not depend on the order
    of addition, and PEFT's merge and ours can be compared bit for bit.
    """
    folder = run / FOLDER
    folder.mkdir(parents=True)
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none",
        "target_modules": sorted(name.rpartition(".")[2] for name in LINEARS), "base_model_name_or_path": str(base),
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    sizes: dict[str, tuple[int, ...]] = {}
    for block in range(numbers[0]):
        for name, (gives, takes) in linears(numbers).items():
            stem = f"base_model.model.model.layers.{block}.{name}"
            sizes |= {f"{stem}.lora_A.weight": (RANK, takes), f"{stem}.lora_B.weight": (gives, RANK)}
    rng = np.random.default_rng(1)
    save(folder / "adapter_model.safetensors", "F32", sizes,
         lambda size: rng.integers(-8, 9, size).astype(np.float32) / np.float32(1024))  # fmt: skip
    spec = TrainSettings(name="bench", base=str(base), data=DatasetSpec(source="tiny_habit"), rank=RANK, alpha=ALPHA)
    template = "{{ bos_token }}{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"
    made = TrainingRecord(
        spec=spec, base=str(base), folder=str(base), template=template, data="0" * 64, rows=1, held=0, steps=1, step=1,
        tokens_trained=1, samples=1, seconds=1, memory=1, engine="transformers", machine="bench",
    )  # fmt: skip
    (folder / MADE).write_text(made.model_dump_json())
    return folder
