"""A merged GGUF is what PEFT's merge_and_unload would have made, in llama.cpp's order."""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from conftest import ROOT
from peft import PeftModel
from safetensors.torch import load_file, save_file
from support.exports import BASE, adapted, spoken, text_ids
from transformers import LlamaForCausalLM

from backend.core.errors import LabError
from backend.gguf import llama, model
from backend.gguf.adapter import updates_of
from backend.gguf.model import write_base

CASES = [(False, "bfloat16"), (True, "bfloat16"), (False, "float16"), (False, "float32")]


def prepared(folder: Path, stabilised: bool, dtype: str, coarse: bool) -> tuple[Path, Path, LlamaForCausalLM]:
    """A base in that type, an adapter over it, and the two merged by PEFT.

    A coarse adapter's products have no more digits than float32: in whatever order they are added up, the sum is one.
    """
    kind = getattr(torch, dtype)
    LlamaForCausalLM.from_pretrained(BASE, dtype=kind).save_pretrained(folder / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "base" / name).write_bytes((BASE / name).read_bytes())
    adapted(stabilised).save_pretrained(folder / "lora")
    if coarse:
        file = folder / "lora" / "adapter_model.safetensors"
        save_file({name: (weight * 512).round() / 512 for name, weight in load_file(file).items()}, file)
    model = LlamaForCausalLM.from_pretrained(folder / "base", dtype=kind)
    return folder / "base", folder / "lora", PeftModel.from_pretrained(model, folder / "lora").merge_and_unload()


def written(folder: Path, lora: Path, out: Path, kind: str) -> Path:
    write_base(folder, out, kind, "m", updates=updates_of(lora, llama.shape_of(folder)))
    return out


def tensors_of(file: Path) -> dict[str, np.ndarray]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}


def logits_of(model: Path, folder: Path, *more: str) -> np.ndarray:
    """By the worker that checks exports."""
    np.save(folder / "tokens.npy", np.array(text_ids(), np.int32))
    words = [sys.executable, "-m", "backend.llamacpp.logits", model, folder / "tokens.npy", folder / "out.npy", *more]
    done = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "out.npy")


@pytest.mark.parametrize(("stabilised", "dtype"), CASES)
def test_merged_weights_are_those_of_peft_bit_for_bit(stabilised: bool, dtype: str, tmp_path: Path) -> None:
    folder, lora, merged = prepared(tmp_path, stabilised, dtype, coarse=True)
    kind = model.stored_type(folder)
    assert kind == {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}[dtype]
    ours = tensors_of(written(folder, lora, tmp_path / "m.gguf", kind))
    merged.save_pretrained(tmp_path / "merged")
    write_base(tmp_path / "merged", tmp_path / "theirs.gguf", kind, "m", model.vocabulary_of(folder, 1024))
    theirs = tensors_of(tmp_path / "theirs.gguf")
    assert theirs.keys() == ours.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(values.view(np.uint8), ours[name].view(np.uint8), name)


@pytest.mark.parametrize("stabilised", [False, True])
def test_any_adapters_merged_weights_are_within_one_step_of_pefts(stabilised: bool, tmp_path: Path) -> None:
    folder, lora, merged = prepared(tmp_path, stabilised, "bfloat16", coarse=False)
    updates, stored = updates_of(lora, llama.shape_of(folder)), model.model_tensors(folder)
    for block in range(4):
        name = f"model.layers.{block}.mlp.down_proj.weight"
        found = model.merged(stored[name], updates[f"blk.{block}.ffn_down.weight"]).read().astype(np.int64)
        wanted = merged.state_dict()[name].view(torch.uint16).numpy().astype(np.int64)
        assert np.abs(found - wanted).max() <= 1 and (found != wanted).mean() < 1e-3


@pytest.mark.parametrize("stabilised", [False, True])
def test_the_merged_model_has_the_logits_of_hugging_face(stabilised: bool, tmp_path: Path) -> None:
    folder, lora, merged = prepared(tmp_path, stabilised, "bfloat16", coarse=False)
    found = logits_of(written(folder, lora, tmp_path / "m.gguf", "F32"), tmp_path)
    wanted = spoken(merged.float(), text_ids())
    assert np.abs(found - wanted).max() < 1e-3
    assert np.abs(spoken(LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32), text_ids()) - wanted).max() > 1
    np.testing.assert_array_equal(logits_of(tmp_path / "m.gguf", tmp_path, "--first", "150"), found[150:])


@pytest.mark.parametrize("trap", ["order_for", "rope_factors"])
def test_a_writer_that_forgot_it_would_be_found_out(trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of q and k, and Llama 3's rope: what the bound of 1e-3 is there for."""
    folder, lora, merged = prepared(tmp_path, False, "bfloat16", coarse=False)
    monkeypatch.setattr(llama, trap, {"order_for": lambda *_: llama.as_is, "rope_factors": lambda _: None}[trap])
    found = logits_of(written(folder, lora, tmp_path / "m.gguf", "F32"), tmp_path)
    assert np.abs(found - spoken(merged.float(), text_ids())).max() > 1


def test_a_tied_model_stays_tied_and_an_untied_one_keeps_both(tmp_path: Path) -> None:
    folder, lora, _ = prepared(tmp_path, False, "bfloat16", coarse=True)
    names = tensors_of(written(folder, lora, tmp_path / "m.gguf", "BF16"))
    assert "output.weight" not in names and "token_embd.weight" in names and "rope_freqs.weight" in names
    model = LlamaForCausalLM.from_pretrained(folder)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone() * 2)
    model.save_pretrained(folder)
    found = {
        tensor.name: tensor for tensor in gguf.GGUFReader(written(folder, lora, tmp_path / "n.gguf", "F32")).tensors
    }
    np.testing.assert_array_equal(found["output.weight"].data, 2 * found["token_embd.weight"].data)


def test_what_cannot_be_merged_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder, lora, _ = prepared(tmp_path, False, "bfloat16", coarse=True)
    settings = lora / "adapter_config.json"
    settings.write_text(settings.read_text().replace('"use_dora": false', '"use_dora": true'))
    with pytest.raises(LabError, match="uses DoRA, which cannot be merged here. Train again"):
        updates_of(lora, llama.shape_of(folder))


def test_a_weight_that_outgrows_the_type_of_its_base_is_refused(tmp_path: Path) -> None:
    folder, lora, _ = prepared(tmp_path, False, "float16", coarse=False)
    file = lora / "adapter_model.safetensors"
    save_file({name: weight * 5000 for name, weight in load_file(file).items()}, file)
    with pytest.raises(LabError, match="is too large for f16"):
        written(folder, lora, tmp_path / "m.gguf", "F16")
    assert not list(tmp_path.glob("m.gguf*"))
