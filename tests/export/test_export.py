"""What a training run made becomes a variant that is the trained model, or there is no variant."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from conftest import TINY
from support.exports import (
    BASE,
    OWN,
    TEMPLATE,
    adapted,
    entry,
    exported,
    leave,
    ours,
    text_ids,
    trained,
)
from transformers import AutoTokenizer

from backend.training.artifacts import CARD, FOLDER, IMPORTANCE, MADE, REFERENCE, TrainingRecord

__all__ = ["trained"]  # the fixture


def keys(file: Path | None) -> dict[str, Any]:
    assert file
    return {key: field.contents() for key, field in gguf.GGUFReader(file).fields.items()}


def test_the_merged_model_is_a_variant_that_says_where_it_came_from(trained: Path, tmp_path: Path) -> None:
    run = exported(trained, tmp_path)
    found, said = run.result, ours(tmp_path)
    assert found["agreement"] > 0.8 and found["kl"] < 0.1 and found["positions"] == len(text_ids()) - 20
    assert said.variant.model_dump(include={"base", "method", "quantisation", "licence", "template", "over"}) == {
        "base": "tiny_base", "method": "lora", "quantisation": "Q4_K_M", "licence": "Apache-2.0", "template": "own",
        "over": "",
    }  # fmt: skip
    assert said.variant.about.startswith("trained here") and said.variant.size == found["size"]
    assert said.path and sorted(os.listdir(said.path.parent)) == [CARD, "mine.gguf", "variant.json"]
    assert os.listdir(tmp_path / "weights" / ".arriving") == ["lock"]
    states = [step["state"] for step in run.facts("step") if "done" not in step]
    assert states == ["merging", "quantising", "checking", "placing"]


@pytest.mark.parametrize(
    ("kind", "number", "most"), [("Q5_K_M", 17, 2_700_000), ("Q8_0", 7, 3_800_000), ("F16", 1, 7_100_000)]
)
def test_every_quantisation_is_the_trained_model(
    kind: str, number: int, most: int, trained: Path, tmp_path: Path
) -> None:
    found = exported(trained, tmp_path, quantisation=kind).result
    said = ours(tmp_path)
    assert keys(said.model)["general.file_type"] == number and found["size"] < most
    assert said.variant.quantisation == kind and found["agreement"] > 0.9


def test_the_template_is_the_trained_one_and_the_special_tokens_those_of_the_adapter(tmp_path: Path) -> None:
    run = leave(tmp_path / "20300101-000000-000-train-mine", adapted())
    config = json.loads((run / FOLDER / "tokenizer_config.json").read_text())
    (run / FOLDER / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|end_of_text|>"}))
    exported(run, tmp_path, quantisation="F16").result  # noqa: B018
    said, ids = keys(ours(tmp_path).model), AutoTokenizer.from_pretrained(BASE).get_vocab()
    assert said["tokenizer.chat_template"] == TEMPLATE
    assert said["tokenizer.ggml.eos_token_id"] == ids["<|end_of_text|>"] != ids["<|eot_id|>"]
    assert said["tokenizer.ggml.bos_token_id"] == ids["<|begin_of_text|>"]
    assert said["general.name"] == "mine"


def test_without_a_tokenizer_of_its_own_it_has_the_bases(tmp_path: Path) -> None:
    run = leave(tmp_path / "20300101-000000-000-train-mine", adapted())
    (run / FOLDER / "tokenizer.json").unlink()
    exported(run, tmp_path, quantisation="F16").result  # noqa: B018
    said, ids = keys(ours(tmp_path).model), AutoTokenizer.from_pretrained(BASE).get_vocab()
    assert said["tokenizer.ggml.eos_token_id"] == ids["<|eot_id|>"] and said["tokenizer.chat_template"] == TEMPLATE


@pytest.mark.long
def test_importance_changes_how_it_is_quantised(trained: Path, tmp_path: Path) -> None:
    plain = exported(trained, tmp_path, id="plain").result
    weighed = exported(trained, tmp_path, id="aided", importance=True).result
    assert plain["size"] == weighed["size"] and plain["sha256"] != weighed["sha256"]
    assert weighed["agreement"] > 0.8
    run = shutil.copytree(trained, tmp_path / trained.name)
    (run / FOLDER / IMPORTANCE).unlink()
    assert "has no importance matrix" in exported(run, tmp_path, importance=True).why
    np.savez(run / FOLDER / IMPORTANCE, **{"blk.0.attn_q.weight": np.ones(17, np.float32)})
    assert "could not quantise" in exported(run, tmp_path, importance=True).why
    np.savez(run / FOLDER / IMPORTANCE, **{"blk.0.attn_q.weight": np.full(256, np.nan, np.float32)})
    assert "other than mean squares" in exported(run, tmp_path, importance=True).why
    assert entry(tmp_path) is None


def with_template(trained: Path, home: Path, source: str) -> Path:
    """A copy of the run that was trained with another template of the base's own."""
    run = shutil.copytree(trained, home / trained.name)
    record = TrainingRecord.model_validate_json((run / FOLDER / MADE).read_bytes())
    (run / FOLDER / MADE).write_text(record.model_copy(update={"template": source}).model_dump_json())
    return run


def test_the_adapter_runs_over_the_base_that_is_here(trained: Path, tmp_path: Path) -> None:
    found, said = exported(trained, tmp_path, form="adapter").result, ours(tmp_path)
    assert said.variant.over == found["over"] == "tiny_base" and said.model == TINY / "tiny_base.gguf"
    assert said.variant.quantisation == "F16" and said.variant.method == "lora"
    assert found["agreement"] > 0.8 and found["kl"] < 0.1 and found["size"] < 1_000_000
    assert sorted(os.listdir(said.path.parent)) == [CARD, "mine.gguf", "variant.json"] if said.path else False


def test_an_adapter_that_its_base_would_speak_to_wrongly_is_refused(trained: Path, tmp_path: Path) -> None:
    run = with_template(trained, tmp_path, OWN.replace("| trim", "| upper"))
    assert "Export the merged model, which has its own template" in exported(run, tmp_path, form="adapter").why
    assert entry(tmp_path) is None


def test_an_adapter_without_a_base_here_says_what_to_download(tmp_path: Path) -> None:
    run = leave(tmp_path / "20300101-000000-000-train-mine", adapted(), base="unsloth/Llama-3.2-1B-Instruct")
    assert "Download base_1b in the Library, or export the merged" in exported(run, tmp_path, form="adapter").why


def test_a_base_in_a_folder_is_merged_into_and_one_that_is_gone_is_told(tmp_path: Path) -> None:
    base = shutil.copytree(BASE, tmp_path / "my base")
    run = leave(tmp_path / "20300101-000000-000-train-mine", adapted(), base=str(base), folder=str(base))
    exported(run, tmp_path).result  # noqa: B018
    assert ours(tmp_path).variant.licence == "unknown"
    shutil.rmtree(base)
    assert (
        "no config.json that can be read" in exported(run, tmp_path, id="again").why
        and entry(tmp_path, "again") is None
    )


def test_another_model_than_the_trained_one_is_refused_with_the_numbers(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / trained.name)
    with np.load(run / FOLDER / REFERENCE) as kept:
        facts = dict(kept)
    rng = np.random.default_rng(1)
    for columns, words in ((slice(None), "of 180 positions the most likely token"), (slice(1000), "has 1024 tokens")):
        logits = rng.permuted(facts["logits"], axis=1)[:, columns]
        np.savez(run / FOLDER / REFERENCE, tokens=facts["tokens"], logits=logits, first=facts["first"])
        assert words in exported(run, tmp_path).why
        assert entry(tmp_path) is None and (run / FOLDER / MADE).exists()
    (run / FOLDER / REFERENCE).unlink()
    assert "kl" not in exported(run, tmp_path).result
    assert ours(tmp_path).state == "ready"


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = adapted()
    with torch.no_grad():
        next(weight for name, weight in model.named_parameters() if "lora_B" in name)[0, 0] = float("nan")
    run = leave(tmp_path / "20300101-000000-000-train-mine", model)
    for form in ("merged", "adapter"):
        assert "infinite or NaN" in exported(run, tmp_path, form=form).why and entry(tmp_path) is None
