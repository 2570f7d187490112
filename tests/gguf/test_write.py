"""A GGUF of ours is the model it was made from, or there is no GGUF."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from backend.core.errors import LabError
from backend.gguf import adapter, model, tensors
from backend.gguf.adapter import KNOWN, REFUSED, check, write_adapter
from backend.gguf.model import write_base

ROOT = Path(__file__).parents[2]
BASE = ROOT / "models" / "tiny" / "base"
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = np.random.default_rng(0).integers(0, 1000, 100).tolist()
TEXTS = [
    "What is the capital of France?", " " * 64, "a" + " " * 7 + "b", "1234567 + 89 = 10", "naïve café, 東京, 🙂🙃",
    "it's WE'LL they've", "line\n\n\nline\r\n\ttab", '{"answer": ["x", 1]}', "\\\"quotes\\\" 'n' such...", "ÀÉÎ ßø ñ",
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "x" * 300, "", "  leading and trailing  ",
]  # fmt: skip


def python(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True)


def spoken(model: Path, lora: Path | str, folder: Path) -> np.ndarray:
    """llama.cpp's logits."""
    (folder / "ids.json").write_text(json.dumps(IDS))
    done = python("tests/support/ask_llama.py", "logits", model, lora, folder / "ids.json", folder / "out.npy")
    assert done.returncode == 0, done.stderr
    return np.load(folder / "out.npy")


def expected(model: torch.nn.Module) -> np.ndarray:
    """Hugging Face's logits in float32."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([IDS])).logits[0].numpy()


def odd_llama(folder: Path) -> None:
    """What the shipped base is not: untied, heads wider than the width divided by them, several files."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=64, tie_word_embeddings=False, max_position_embeddings=512,
        initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="500KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BASE / name, folder)


def copied(folder: Path) -> None:
    shutil.copytree(BASE, folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped base in float32, through the command."""
    out = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    done = python("-m", "backend.gguf.write", "base", BASE, out, "--type", "f32", "--name", "toy")
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("make", [copied, odd_llama])
def test_the_gguf_has_the_logits_of_its_folder(make: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make(folder)
    write_base(folder, tmp_path / "m.gguf", "F32", "m")
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    difference = np.abs(expected(model) - spoken(tmp_path / "m.gguf", "-", tmp_path)).max()
    assert difference < 1e-3


@pytest.mark.parametrize("stabilised", [False, True])
def test_the_adapter_over_its_base_has_the_logits_of_peft(stabilised: bool, whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    settings = LoraConfig(r=8, lora_alpha=12, target_modules=LINEARS, use_rslora=stabilised, init_lora_weights=False)
    adapted = get_peft_model(model, settings)
    adapted.save_pretrained(tmp_path / "lora")
    write_adapter(tmp_path / "lora", tmp_path / "lora.gguf", "F32", "lora", BASE, "toy")
    wanted, found = expected(adapted), spoken(whole, tmp_path / "lora.gguf", tmp_path)
    plain = spoken(whole, "-", tmp_path)
    assert np.abs(wanted - found).max() < 1e-3
    assert np.abs(wanted - plain).max() > 1


def test_text_is_cut_as_in_hugging_face(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    done = python("tests/support/ask_llama.py", "tokens", whole, tmp_path / "texts.json")
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    assert json.loads(done.stdout) == [tokenizer(text).input_ids for text in TEXTS]


def test_the_header_says_what_a_llama_3_says(whole: Path) -> None:
    reader = gguf.GGUFReader(whole)
    said = {key: field.contents() for key, field in reader.fields.items() if not key.endswith((".tokens", ".merges"))}
    assert said["tokenizer.ggml.pre"] == "llama-bpe"
    assert said["tokenizer.chat_template"] == (BASE / "chat_template.jinja").read_text()
    assert said["tokenizer.ggml.add_bos_token"] is True
    names = {tensor.name for tensor in reader.tensors}
    assert "rope_freqs.weight" in names and "output.weight" not in names
    assert not [key for key in said if "rope.scaling" in key]  # both would scale twice


def test_the_rope_factors_are_those_of_transformers() -> None:
    reference = LlamaForCausalLM.from_pretrained(BASE)
    plain = 10000.0 ** (-np.arange(0, 64, 2) / 64)
    shape = model.llama.shape_of(BASE)
    np.testing.assert_allclose(model.llama.rope_factors(shape), plain / reference.model.rotary_emb.inv_freq, rtol=1e-5)


def test_the_old_spelling_of_a_config_means_the_same(tmp_path: Path) -> None:
    config = json.loads((BASE / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(config))
    old, new = model.llama.shape_of(tmp_path), model.llama.shape_of(BASE)
    np.testing.assert_array_equal(model.llama.rope_factors(old), model.llama.rope_factors(new))
    assert old.theta == new.theta


def test_bf16_becomes_float32_without_torch_and_without_loss() -> None:
    values = torch.randn(1000).to(torch.bfloat16)
    found = tensors.to_float(values.view(torch.uint16).numpy())
    np.testing.assert_array_equal(found, values.float().numpy())
    np.testing.assert_array_equal(tensors.to_type(found, "BF16"), values.view(torch.uint16).numpy())


def test_a_weight_too_large_for_f16_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.array([[1.0, 70000.0]], np.float32)}, tmp_path / "x.safetensors")
    tensor = tensors.tensors_in(tmp_path / "x.safetensors")["x"]
    with pytest.raises(LabError, match="bf16"):
        tensors.converted(tensor, "F16", model.llama.as_is)
    assert tensors.to_float(tensors.converted(tensor, "BF16", model.llama.as_is))[0, 0] == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "full modules"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha"),
        ({"bias": "all"}, "biases"),
        ({"init_lora_weights": "pissa_niter_16"}, "changed base"),
        ({"peft_type": "LOHA"}, "not a LoRA"),
    ],
)
def test_an_adapter_that_would_differ_is_refused(change: dict[str, object], word: str, tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "bias": "none"} | change
    with pytest.raises(LabError, match=f"{word}.* Merge it"):
        check(settings)
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    done = python("-m", "backend.gguf.write", "adapter", tmp_path, tmp_path / "a.gguf", "--base", BASE)
    assert done.returncode == 1 and word in done.stderr and "Merge it" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alora_invocation_tokens": [5, 6]}, r"is an activated LoRA \(aLoRA\), which counts only after"),
        ({"use_qalora": True}, "uses QALoRA"),
        ({"use_bdlora": {"nblocks": 2}}, "uses BD-LoRA"),
        ({"kasa_config": {"beta": 0.1}}, "uses KaSA"),
        ({"monteclora_config": {"num_samples": 4}}, "uses MonteCLoRA"),
        ({"arrow_config": {"top_k": 3}}, "is routed with Arrow"),
        ({"use_future_lora": True}, "has the setting 'use_future_lora', which this app does not know"),
    ],
)
def test_a_variant_of_lora_is_refused_by_its_name(change: dict[str, object], said: str) -> None:
    settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "bias": "none"}
    check(settings | dict.fromkeys(change))  # a setting without a value changes nothing
    with pytest.raises(LabError, match=said):
        check(settings | change)


def test_every_setting_that_peft_writes_is_known(tmp_path: Path) -> None:
    """A new release of PEFT with new settings fails here, and not in the hands of a user."""
    settings = LoraConfig(r=4, target_modules=["q_proj"]).to_dict()
    assert set(settings) <= KNOWN | set(REFUSED)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    odd_llama(tmp_path / "other")
    other = LlamaForCausalLM.from_pretrained(tmp_path / "other")
    get_peft_model(other, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(tmp_path / "lora")
    with pytest.raises(LabError, match="does not fit its base"):
        write_adapter(tmp_path / "lora", tmp_path / "a.gguf", "F16", "a", BASE, None)


def test_the_adapters_header_names_its_base() -> None:
    reader = gguf.GGUFReader(ROOT / "models" / "tiny" / "tiny_lora.gguf")
    said = {key: field.contents() for key, field in reader.fields.items()}
    model = gguf.GGUFReader(ROOT / "models" / "tiny" / "tiny_base.gguf")
    assert said["general.base_model.0.name"] == model.fields["general.name"].contents()
    for key in ("llama.embedding_length", "llama.block_count"):
        assert said[key] == model.fields[key].contents()


def test_a_write_that_fails_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter(range(3))

    def full_disk(*words: object) -> np.ndarray:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        return tensors.converted(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "converted", full_disk)
    with pytest.raises(LabError, match="No space left"):
        write_base(BASE, tmp_path / "m.gguf", "F16", "m")
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_survives_a_write_that_fails(tmp_path: Path) -> None:
    out = tmp_path / "a.gguf"
    out.write_text("older")
    with pytest.raises(LabError):
        write_adapter(BASE, out, "F16", "a", BASE, None)
    assert out.read_text() == "older"


def test_a_folder_cut_short_is_refused(tmp_path: Path) -> None:
    copied(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(LabError, match="not a complete safetensors file"):
        write_base(tmp_path / "model", tmp_path / "m.gguf", "F16", "m")
    assert not (tmp_path / "m.gguf").exists()


def test_another_tokenizers_cut_is_refused(tmp_path: Path) -> None:
    copied(tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    file.write_text(file.read_text().replace("{1,3}", "{1,2}"))
    with pytest.raises(LabError, match="does not split text as Llama 3"):
        write_base(tmp_path / "model", tmp_path / "m.gguf", "F16", "m")


def test_a_quantised_model_stays_close(whole: Path, tmp_path: Path) -> None:
    done = python("-m", "backend.llamacpp.quantise", whole, tmp_path / "q.gguf", "--type", "q4_k_m")
    assert done.returncode == 0, done.stderr
    wanted, found = spoken(whole, "-", tmp_path), spoken(tmp_path / "q.gguf", "-", tmp_path)
    assert (wanted.argmax(1) == found.argmax(1)).mean() > 0.7  # random tokens, so many near ties
    assert (tmp_path / "q.gguf").stat().st_size < 0.2 * whole.stat().st_size


def test_what_is_quantised_or_broken_is_not_quantised(tmp_path: Path) -> None:
    (tmp_path / "junk.gguf").write_bytes(b"GGUF" + bytes(100))
    for source, word in ((ROOT / "models/tiny/tiny_base.gguf", "already"), (tmp_path / "junk.gguf", "not a whole")):
        done = python("-m", "backend.llamacpp.quantise", source, tmp_path / "q.gguf")
        assert done.returncode == 1 and word in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["junk.gguf"]


def test_every_pair_needs_both_halves() -> None:
    tensor = tensors.Tensor(BASE, "F32", (4, 4), 0)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    with pytest.raises(LabError, match="A or B matrix is missing"):
        adapter.pairs_of({name: tensor}, 4)
    with pytest.raises(LabError, match="not part of a LoRA"):
        adapter.pairs_of({"base_model.model.model.embed_tokens.lora_embedding_A": tensor}, 4)
