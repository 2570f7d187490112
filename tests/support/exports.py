"""Training runs without training, and their exports."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from conftest import ROOT, TINY
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer, LlamaForCausalLM

from backend.data.dataset import DatasetSpec
from backend.training.artifacts import CARD, FOLDER, IMPORTANCE, MADE, REFERENCE, TrainingRecord
from backend.training.request import LINEARS, TrainSettings
from models.catalogue import Entry, list_variants
from models.tiny.curriculum import held_out
from support.workers import Run, environment

BASE = TINY / "base"
OWN = (BASE / "chat_template.jinja").read_text()
TEMPLATE = OWN + "{# the same, in other words #}"
ALPHA, RANK = 12, 8


def adapted(stabilised: bool = False, dtype: torch.dtype = torch.float32) -> PeftModel:
    """The toy with a LoRA that changes what it says."""
    torch.manual_seed(5)
    model = LlamaForCausalLM.from_pretrained(BASE, dtype=dtype)
    settings = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=list(LINEARS), use_rslora=stabilised, task_type="CAUSAL_LM"
    )
    found = get_peft_model(model, settings)
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.02 if stabilised else 0.06)
    return found.eval()


def text_ids() -> list[int]:
    """A conversation the toy knows, as it is written for it."""
    words = AutoTokenizer.from_pretrained(BASE)
    turns = [{"role": "user", "content": question.prompt} for question in held_out(8, seed=3)]
    turns = [turn for one in turns for turn in (one, {"role": "assistant", "content": "It is so, I think."})]
    return list(words.apply_chat_template(turns, return_dict=False))[:200]


def spoken(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float().numpy()


def leave(run: Path, model: PeftModel, **more: Any) -> Path:
    """What a training run leaves, by hand."""
    folder = run / FOLDER
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    spec = TrainSettings(name="mine", base="tiny_base", data=DatasetSpec(source="tiny_habit"), rank=RANK, alpha=ALPHA)
    record = TrainingRecord(
        spec=spec, base="tiny_base", template=TEMPLATE, data="0" * 64, rows=20, held=4, tokens_trained=1000, step=10,
        steps=10, samples=40, seconds=1.0, memory=1, engine="transformers", machine="here",
    )  # fmt: skip
    (folder / MADE).write_text(record.model_copy(update=more).model_dump_json())
    (folder / CARD).write_text("# mine\n")
    ids = text_ids()
    logits = spoken(model, ids)
    np.savez(folder / REFERENCE, tokens=np.array(ids, np.int32), logits=logits[20:].astype(np.float16), first=20)
    inputs: dict[str, np.ndarray] = {}
    rng = np.random.default_rng(0)
    for tensor in gguf.GGUFReader(TINY / "tiny_base.gguf").tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
            inputs[tensor.name] = rng.uniform(0.01, 4, int(tensor.shape[0])).astype(np.float32)
    np.savez(folder / IMPORTANCE, **inputs)
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run, in a folder whose name is no ASCII."""
    return leave(tmp_path_factory.mktemp("läufe \u6771\u4eac") / "20300101-000000-000-train-mine", adapted())


def start(run: Path, home: Path, *before: str, **asked: Any) -> Run:
    """An export of that run, under way."""
    folder = home / f"export {len(list(home.glob('export *')))}" / "20300101-000001-000-export-mine"
    folder.mkdir(parents=True)
    (home / "weights").mkdir(exist_ok=True)
    spec = {"run": str(run), "id": "mine", "weights": str(home / "weights")} | asked
    (folder / "spec.json").write_text(json.dumps({"asked": spec}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "backend.export.export", str(folder)],
            cwd=ROOT, env=environment(home), stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    return Run(folder, process)


def exported(run: Path, home: Path, **asked: Any) -> Run:
    return start(run, home, **asked).wait()


def entry(home: Path, name: str = "mine") -> Entry | None:
    return next((found for found in list_variants(home / "weights") if found.variant.id == name), None)


def ours(home: Path) -> Entry:
    found = entry(home)
    assert found and found.runs, found
    return found
