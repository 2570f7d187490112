"""Files of this machine and adapters of the Hub become variants that say what they said where they came from."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from peft import LoraConfig, PeftModel, get_peft_model
from servers.hub import Hub
from support.workers import Run, environment, start
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from backend.gguf import llama
from backend.gguf.model import write_base
from models.catalogue import Entry, list_variants
from models.check import read_header
from models.tiny.curriculum import held_out

BASE = TINY / "base"
TOY = TINY / "tiny_base.gguf"
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LENGTH = 24  # tokens of an answer
NAMES = ("adapter_model.safetensors", "adapter_config.json")
ASK = """
import json, sys
import numpy as np
from support.ask_llama import logits
model, adapter, ids, out = sys.argv[1:]
np.savez(out, *[logits(model, adapter, row) for row in json.load(open(ids))])
"""


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[PeftModel, Path]:
    """A random LoRA over the toy, its weights and the base's what half precision holds; and its folder."""
    folder = tmp_path_factory.mktemp("peft")
    torch.manual_seed(3)
    model = LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    found = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=LINEARS, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.01)
            weight.copy_(weight.half().float())
    found.save_pretrained(folder)
    return found.eval(), folder


@pytest.fixture(scope="module")
def answers(adapted: tuple[PeftModel, Path]) -> list[tuple[int, list[int]]]:
    """PEFT's own greedy answers to held-out questions: the length of the prompt, and all tokens."""
    words = AutoTokenizer.from_pretrained(BASE)
    found = []
    for question in held_out(20, seed=11):
        ids = list(
            words.apply_chat_template(
                [{"role": "user", "content": question.prompt}], add_generation_prompt=True, return_dict=False
            )
        )
        with torch.no_grad():
            row = adapted[0].generate(
                input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False,
                max_new_tokens=LENGTH, pad_token_id=0,
            )  # fmt: skip
        found.append((len(ids), row[0].tolist()))
    return found


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """With the base in half precision, under another name than the toy's."""
    folder = tmp_path / "weights"
    folder.mkdir()
    write_base(BASE, folder / "half.gguf", "F16", "tiny")
    return folder


def brought(weights: Path, *paths: Path, **asked: Any) -> Run:
    spec = {"paths": [str(path) for path in paths], "id": "mine", "weights": str(weights)} | asked
    number = len(list(weights.parent.glob("run*")))
    return start("import_files", spec, weights.parent / f"run{number}", environment(weights.parent)).wait()


def entry(weights: Path, name: str = "mine") -> Entry | None:
    assert os.listdir(weights / ".arriving") == ["lock"]
    return next((entry for entry in list_variants(weights) if entry.variant.id == name), None)


def spoken(model: Path, adapter: Path, rows: list[list[int]], folder: Path) -> list[np.ndarray]:
    """llama.cpp's logits of every row."""
    (folder / "ids.json").write_text(json.dumps(rows))
    words = [sys.executable, "-c", ASK, str(model), str(adapter), str(folder / "ids.json"), str(folder / "out.npz")]
    subprocess.run(words, cwd=Path(__file__).parents[1], check=True, capture_output=True)
    found = np.load(folder / "out.npz")
    return [found[f"arr_{number}"] for number in range(len(rows))]


def check_speech(found: Entry | None, adapted: PeftModel, answers: list[tuple[int, list[int]]], folder: Path) -> None:
    """The lane says what PEFT says: the same logits, and token by token the same greedy text."""
    assert found and found.state == "ready" and found.model and found.adapter
    said = spoken(found.model, found.adapter, [row for _, row in answers], folder)
    differences, plain = [], []
    for (length, row), ours in zip(answers, said, strict=True):
        with torch.no_grad():
            theirs = adapted(input_ids=torch.tensor([row])).logits[0].numpy()
            with adapted.disable_adapter():
                plain.append(np.abs(adapted(input_ids=torch.tensor([row])).logits[0].numpy() - theirs).max())
        differences.append(float(np.abs(ours - theirs).max()))
        assert ours[length - 1 : -1].argmax(1).tolist() == row[length:]
    print(
        f"largest difference {max(differences):.1e} over {len(answers)} answers; without the adapter {max(plain):.1f}"
    )
    assert max(differences) <= 1e-2 and min(plain) > 0.3


def test_a_peft_adapter_speaks_over_the_gguf_of_its_base(
    adapted: tuple[PeftModel, Path], answers: list[tuple[int, list[int]]], weights: Path
) -> None:
    run = brought(weights, *(adapted[1] / name for name in NAMES), over="half", quantisation="F16")
    assert run.result["file"] == "mine.gguf"
    check_speech(entry(weights), adapted[0], answers, weights.parent)
    variant = entry(weights).variant  # type: ignore[union-attr]
    assert (variant.method, variant.over) == ("lora", "half") and len(variant.sha256) == 64


def test_an_adapter_of_the_hub_is_converted_on_arrival(
    adapted: tuple[PeftModel, Path], answers: list[tuple[int, list[int]]], weights: Path
) -> None:
    with Hub() as hub:
        for name in NAMES:
            commit = hub.add("owner/lora", f"sub/{name}", adapted[1] / name)
        asked = {"repo": "owner/lora", "file": f"sub/{NAMES[0]}", "id": "mine", "weights": str(weights)}
        env = environment(weights.parent, HF_ENDPOINT=hub.url)
        assert (
            "Choose the variant that it runs over" in start("download", asked, weights.parent / "run0", env).wait().why
        )
        assert (
            "half2 is not a downloaded base model"
            in start("download", asked | {"over": "half2"}, weights.parent / "r1", env).wait().why
        )
        assert not hub.requests()
        run = start("download", asked | {"over": "half"}, weights.parent / "run1", env).wait()
        assert run.result["commit"] == commit
        assert all(commit in path for _, path, _ in hub.requests("GET"))
    check_speech(entry(weights), adapted[0], answers[:3], weights.parent)


def test_the_shape_in_a_header_is_the_shape_in_the_config() -> None:
    found, wanted = llama.shape_from_header(read_header(TOY).keys), llama.shape_of(BASE)
    for name in ("blocks", "width", "inner", "heads", "kv_heads", "head", "context", "vocabulary", "theta"):
        assert getattr(found, name) == getattr(wanted, name), name


def changed(folder: Path, out: Path, **settings: Any) -> list[Path]:
    """The adapter's two files with other settings."""
    out.mkdir()
    shutil.copy(folder / NAMES[0], out)
    known = json.loads((folder / NAMES[1]).read_text())
    (out / NAMES[1]).write_text(json.dumps(known | settings))
    return [out / name for name in NAMES]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"use_dora": True}, "uses DoRA"), ({"lora_alpha": "many"}, "damaged"), ({"bias": "all"}, "biases")],
)
def test_an_adapter_that_would_differ_is_not_brought(
    settings: dict[str, Any], words: str, adapted: tuple[PeftModel, Path], weights: Path
) -> None:
    paths = changed(adapted[1], weights.parent / "changed", **settings)
    assert words in brought(weights, *paths, over="half").why
    assert entry(weights) is None


def test_an_adapter_of_another_base_is_refused(adapted: tuple[PeftModel, Path], weights: Path) -> None:
    config = LlamaConfig(
        vocab_size=1024, hidden_size=256, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=512,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(weights.parent / "other")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BASE / name, weights.parent / "other")
    write_base(weights.parent / "other", weights / "other.gguf", "F16", "other")
    assert "does not fit its base" in brought(weights, *(adapted[1] / name for name in NAMES), over="other").why
    assert entry(weights) is None


@pytest.mark.parametrize("move", [False, True])
def test_a_gguf_is_brought(move: bool, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    source = tmp_path / "My model (1).gguf"
    shutil.copy(TOY, source)
    run = brought(tmp_path / "weights", source, move=move, about="mine")
    found = entry(tmp_path / "weights")
    assert run.result["file"] == "My_model_1_.gguf" and found and found.model
    assert found.model.read_bytes() == TOY.read_bytes() and source.exists() != move
    verified = start(
        "verify", {"id": "mine", "weights": str(tmp_path / "weights")}, tmp_path / "v1", environment(tmp_path)
    )
    assert verified.wait().result["ok"] is True


def test_a_changed_file_is_told_by_verify(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    assert brought(weights, TOY).result
    file = weights / "mine" / TOY.name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    run = start("verify", {"id": "mine", "weights": str(weights)}, tmp_path / "v1", environment(tmp_path)).wait()
    assert "has changed since it was installed" in run.why and len(run.facts("result")) == 1
    assert run.facts("result")[0]["ok"] is False
    damaged = entry(weights)
    assert damaged and damaged.state == "damaged" and "has changed since it was installed" in damaged.why
    (weights / "mine" / "variant.json").unlink()
    run = start("verify", {"id": "mine", "weights": str(weights)}, tmp_path / "v2", environment(tmp_path)).wait()
    assert "cannot be read, so the file cannot be verified" in run.why


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adapter_model.bin", "pickle"),
        ("model.safetensors", "Choose one .gguf"),
        ("page.gguf", "It was not changed"),
        ("missing.gguf", "not a file that can be read"),
        ("pipe.gguf", "not a file that can be read"),
    ],
)
def test_what_cannot_be_brought_is_a_sentence_and_stays_where_it_is(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    source = tmp_path / name
    if name == "pipe.gguf":
        os.mkfifo(source)
    elif name != "missing.gguf":
        source.write_text("<html>")
    assert words in brought(tmp_path / "weights", source, move=True).why
    assert source.exists() == (name != "missing.gguf")
    assert not (tmp_path / "weights" / "mine").exists()
