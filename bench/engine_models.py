"""Models for bench.engine: the shapes of Llama 3.2, random weights, Llama 3's own vocabulary, Q4_K_M, and adapters.

They are written once, into build/engine-NAME. Speed does not depend on the values of weights, but zeros can: so they
are random.
"""

import json
import shutil
import sys
from pathlib import Path

from bench.export import ROOT, sources, watched
from bench.export_model import write_folder, write_run
from bench.shapes import SHAPES

SMALL = (4, 1024, 4096, 16, 8, 64)  # for --quick: blocks, width, inner, heads, heads of keys, values of a head
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
BASE, ADAPTERS = "base", ("one", "two")


def model_folder(name: str) -> Path:
    """A folder of variants: the base and adapters over it. `name`: 1B, 3B or small. Written at the first call."""
    folder = ROOT / "build" / f"engine-{name}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(folder, SMALL if name == "small" else SHAPES[name])
        (folder / "done").touch()
    return folder


def _write(folder: Path, numbers: tuple[int, ...]) -> None:
    source, whole = folder / "hf", folder / "whole.gguf"
    write_folder(source, sources(None) / "models" / "ggml-vocab-llama-bpe.gguf", numbers)
    settings = source / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": TEMPLATE}))
    _run("backend.gguf.write", "base", source, whole, "--type", "bf16")
    _run("backend.llamacpp.quantise", whole, folder / f"{BASE}.gguf", "--type", "q4_k_m")
    whole.unlink()
    for name in ADAPTERS:
        lora = write_run(folder / f"run-{name}", source, numbers)
        _run("backend.gguf.write", "adapter", lora, folder / f"{name}@{BASE}.gguf", "--base", source)
        shutil.rmtree(folder / f"run-{name}")
    shutil.rmtree(source)


def _run(module: str, *words: str | Path) -> None:
    watched(sys.executable, "-m", module, *words, OMP_WAIT_POLICY="PASSIVE")
