"""python -m bench.export [--quick] [--full] [--sdist FILE] [--build]

A base in the shapes of Llama 3.2 1B (random weights, Llama 3's own 128,256 tokens) and a LoRA over it, exported to
Q4_K_M by the app (merge, quantise, load and check, sha256, fsync, place) and by llama.cpp's tools from a folder that
PEFT has merged before the clock runs: convert_hf_to_gguf.py, then its quantiser, which is llama-quantize where --build
makes it (some minutes, once), else the same function of the installed library as llama-quantize calls it.

Memory is what a process has to itself (RssAnon + RssShmem), added up over the process and its children every 20 ms;
mapped files count in the second column only, because they are given back when asked. Linux only.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import psutil

from backend.data.spec import DataSpec
from backend.gguf.adapter import updates_of
from backend.gguf.base import write_base
from backend.gguf.llama import LINEARS, NORMS, shape_of
from backend.gguf.tensors import to_type
from backend.gguf.vocabulary import LLAMA3_SPLIT
from backend.training.made import FOLDER, MADE, Made
from backend.training.spec import TrainSpec
from bench.library import aim
from bench.shapes import SHAPES, TOKENS

ROOT = Path(__file__).parents[1]
TINY = ROOT / "models" / "tiny" / "base"
SMALL = (4, 512, 2048, 8, 2, 64)  # for --quick: blocks, width, inner, heads, heads of keys, values of a head
RANK, ALPHA = 16, 32
TIME_AIM, MEMORY_AIM, LOGITS_AIM = 1.0, 0.5, 1e-3
LIBRARY = f"llama_cpp_python-{importlib.metadata.version('llama_cpp_python')}"
MERGE = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, lora, out, kind = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, kind))
PeftModel.from_pretrained(model, lora).merge_and_unload().save_pretrained(out)
"""
LOGITS = """
import sys, numpy, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
with torch.inference_mode():
    found = model(input_ids=torch.from_numpy(numpy.load(sys.argv[2]).astype("int64"))[None]).logits[0]
numpy.save(sys.argv[3], found.numpy())
"""
QUANTISE = """
import ctypes, os, sys, llama_cpp
settings = llama_cpp.llama_model_quantize_default_params()
settings.ftype, settings.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, int(sys.argv[3])
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(settings)))
"""


@dataclass(frozen=True)
class Cost:
    seconds: float
    own: int
    """Bytes a process has to itself, at the highest, over its whole tree."""
    all: int
    """Mapped files included."""

    def then(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, max(self.own, other.own), max(self.all, other.all))


def watched(*command: str | Path, **known: str) -> Cost:
    """Run it to its end. What it prints is shown only if it fails."""
    began, own, total = time.perf_counter(), 0, 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=os.environ | known, stdin=subprocess.PIPE, stdout=said, stderr=said
        )
        while process.poll() is None:
            one, every = _memory(process.pid)
            own, total = max(own, one), max(total, every)
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        said.seek(0)
        assert process.returncode == 0, said.read().decode(errors="replace")[-3000:]
    return Cost(seconds, own, total)


def _memory(pid: int) -> tuple[int, int]:
    own = total = 0
    try:
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0, 0
    for one in tree:
        try:
            rows = (Path("/proc") / str(one) / "status").read_text().splitlines()
        except OSError:
            continue
        kept = {name: int(rest.split()[0]) * 1024 for name, _, rest in (row.partition(":") for row in rows) if name[:3] == "Rss"}
        own += kept.get("RssAnon", 0) + kept.get("RssShmem", 0)
        total += sum(kept.values())
    return own, total


def sources(sdist: Path | None) -> Path:
    """llama.cpp as the installed library was built from it; fetched once into build/."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    if not (build / LIBRARY).is_dir():
        if sdist is None:
            wanted = LIBRARY.replace("_", "-").rpartition("-")
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(build)]
            subprocess.run([*command, f"{wanted[0]}=={wanted[2]}"], check=True)
            sdist = next(build.glob(f"{LIBRARY}.tar.gz"))
        with tarfile.open(sdist) as archive:
            archive.extractall(build, filter="data")
    return build / LIBRARY / "vendor" / "llama.cpp"


def built(source: Path) -> Path:
    """llama-quantize of these sources."""
    out = ROOT / "build" / "llama-quantize"
    if not (out / "bin" / "llama-quantize").exists():
        off = [f"-DLLAMA_{name}=OFF" for name in ("CURL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_SERVER")]
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run(["cmake", "-S", source, "-B", out, "-DCMAKE_BUILD_TYPE=Release", *off], **quiet)  # type: ignore[call-overload]
        subprocess.run(["cmake", "--build", out, "--target", "llama-quantize", "-j"], **quiet)  # type: ignore[call-overload]
    return out / "bin" / "llama-quantize"


def write_folder(folder: Path, vocabulary: Path, numbers: tuple[int, ...]) -> None:
    """A Hugging Face folder: Llama 3's tokenizer and random weights in bf16."""
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
    sizes = {"model.embed_tokens.weight": (TOKENS, width), "model.norm.weight": (width,)}
    for block in range(blocks):
        sizes |= {f"model.layers.{block}.{name}.weight": size for name, size in linears(numbers).items()}
        sizes |= {f"model.layers.{block}.{name}.weight": (width,) for name in NORMS}
    rng = np.random.default_rng(0)
    save(folder / "model.safetensors", "BF16", sizes, lambda size: weights(rng, size))


def linears(numbers: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """What a linear layer gives and takes."""
    _, width, inner, heads, kv_heads, head = numbers
    short = {
        "attn_q": (heads * head, width), "attn_k": (kv_heads * head, width), "attn_v": (kv_heads * head, width),
        "attn_output": (width, heads * head), "ffn_gate": (inner, width), "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }  # fmt: skip
    return {name: short[kind] for name, kind in LINEARS.items()}


def weights(rng: np.random.Generator, size: tuple[int, ...]) -> Any:
    if len(size) == 1:
        return to_type(np.ones(size, np.float32), "BF16")
    return to_type(rng.standard_normal(size, np.float32) * np.float32(0.02), "BF16")


def save(file: Path, kind: str, sizes: dict[str, tuple[int, ...]], make: Any) -> None:
    """A safetensors file, one tensor in memory at a time."""
    table, end, width = {}, 0, {"BF16": 2, "F32": 4}[kind]
    for name, size in sizes.items():
        start, end = end, end + width * int(np.prod(size))
        table[name] = {"dtype": kind, "shape": size, "data_offsets": [start, end]}
    head = json.dumps({"__metadata__": {"format": "pt"}} | table).encode()
    with file.open("wb") as out:
        out.write(len(head).to_bytes(8, "little") + head)
        for size in sizes.values():
            make(size).tofile(out)


def write_tokenizer(folder: Path, vocabulary: Path) -> None:
    """Llama 3's own, out of the vocabulary that llama.cpp tests itself with."""
    fields = gguf.GGUFReader(vocabulary).fields
    tokens, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    special = [i for i, kind in enumerate(fields["tokenizer.ggml.token_type"].contents()) if kind == 3]
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
            "vocab": {text: i for i, text in enumerate(tokens) if i not in set(special)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    names = {"bos_token": tokens[special[0]], "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | names))


def write_run(run: Path, base: Path, numbers: tuple[int, ...]) -> Path:
    """What a training run leaves. The adapter's values have few digits: in whatever order their products are added
    up, the sum is the same, so that PEFT's merge and ours can be compared bit for bit."""
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
    spec = TrainSpec(name="bench", base=str(base), data=DataSpec(source="tiny_habit"), rank=RANK, alpha=ALPHA)
    template = "{{ bos_token }}{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"
    made = Made(
        spec=spec, base=str(base), folder=str(base), template=template, data="0" * 64, rows=1, held=0, steps=1, step=1,
        tokens_trained=1, samples=1, seconds=1, memory=1, engine="transformers", machine="bench",
    )  # fmt: skip
    (folder / MADE).write_text(made.model_dump_json())
    return folder


def exported(home: Path, run: Path, name: str, quantisation: str) -> tuple[Path, Cost]:
    """By the app's own worker."""
    folder = home / f"20300101-000001-000-export-{name}"
    folder.mkdir()
    asked = {"run": str(run), "id": name, "weights": str(home / "weights"), "quantisation": quantisation}
    (folder / "spec.json").write_text(json.dumps({"asked": asked}))
    cost = watched(sys.executable, "-m", "backend.training.export", folder)
    return home / "weights" / name / f"{name}.gguf", cost


def unequal(ours: Path, theirs: Path) -> tuple[int, list[str]]:
    """How many tensors theirs has, and which of them ours does not hold bit for bit, in the same type and shape."""
    here = {tensor.name: tensor for tensor in gguf.GGUFReader(ours).tensors}
    there = {tensor.name: tensor for tensor in gguf.GGUFReader(theirs).tensors}
    wrong = sorted(here.keys() ^ there.keys())
    for name in here.keys() & there.keys():
        one, other = here[name], there[name]
        same = one.tensor_type == other.tensor_type and list(one.shape) == list(other.shape)
        if not same or not np.array_equal(one.data.view(np.uint8), other.data.view(np.uint8)):
            wrong.append(name)
    return len(there), wrong


def furthest(home: Path, base: Path, lora: Path, merged: Path) -> float:
    """The largest difference between a logit of our merged F32 file and Hugging Face's of PEFT's merged folder."""
    size = shape_of(base).vocabulary
    np.save(home / "tokens.npy", np.random.default_rng(2).integers(0, size, 100).astype(np.int32))
    write_base(base, home / "f32.gguf", "F32", "bench", updates=updates_of(lora, shape_of(base)))
    watched(sys.executable, "-m", "backend.gguf.logits", home / "f32.gguf", home / "tokens.npy", home / "ours.npy")
    watched(sys.executable, "-c", LOGITS, merged, home / "tokens.npy", home / "theirs.npy")
    (home / "f32.gguf").unlink()
    return float(np.abs(np.load(home / "ours.npy") - np.load(home / "theirs.npy")).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 small blocks with the same vocabulary")
    parser.add_argument("--full", action="store_true", help="logits in F32 at the shapes of 1B too: 12 GB of memory")
    parser.add_argument("--sdist", type=Path, help="the source distribution of llama-cpp-python; else it is fetched")
    parser.add_argument("--build", action="store_true", help="build llama-quantize")
    options = parser.parse_args()
    source = sources(options.sdist)
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="export ") as folder:
        print("\n" + "\n".join(measured(Path(folder), source, options)))


if __name__ == "__main__":
    main()
