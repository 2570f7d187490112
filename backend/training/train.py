"""python -m backend.training.train RUN: LoRA or QLoRA with TRL and PEFT, on CPU or GPU.

Where the spec wants Unsloth, or leaves the choice and Unsloth can be had on a CUDA GPU, this process becomes
backend.training.train_unsloth instead, which must import Unsloth before anything else.
"""

import contextlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from backend.core import machine
from backend.jobs.journal import Journal, run_worker
from backend.training.request import TrainRequest, TrainSettings, train_request
from backend.training.trainer import TrainableModel, run_training

LARGE = 300_000_000  # bytes of weights from which a CPU that computes in bfloat16 does so


def learner(folder: Path, spec: TrainSettings) -> TrainableModel:
    """The base with a fresh adapter."""
    dtype = dtype_for(folder)
    quantised = spec.method == "qlora" and not _holds_4_bits(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        quantization_config=nf4(dtype) if quantised else None,
        device_map={"": 0} if torch.cuda.is_available() else None,
        local_files_only=True,
    )
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # after the first evaluation this path has no gradient
            module.support_avx512bf16_for_cpu = False
    model.config.use_cache = False
    if spec.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=torch.cuda.is_available())
    return TrainableModel(get_peft_model(model, lora(spec)), "transformers", dtype)


def lora(spec: TrainSettings) -> LoraConfig:
    return LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets),
        use_rslora=spec.rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )


def nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def dtype_for(folder: Path) -> torch.dtype:
    """float32 for small models on a CPU, and wherever bfloat16 would be imitated; else bfloat16."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    large = sum(file.stat().st_size for file in folder.glob("*.safetensors")) > LARGE
    return torch.bfloat16 if large and machine.has_bfloat16() else torch.float32


def _holds_4_bits(folder: Path) -> bool:
    return '"quantization_config"' in (folder / "config.json").read_text(encoding="utf-8")


def wants_unsloth(spec: TrainSettings) -> bool:
    if spec.engine == "auto":
        return torch.cuda.is_available() and importlib.util.find_spec("unsloth") is not None
    return spec.engine == "unsloth"


def _asks_for_unsloth(run: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # `work` says that it cannot be read
        return wants_unsloth(train_request(run).spec)
    return False


def train(request: TrainRequest, journal: Journal) -> None:
    run_training(request, journal, learner)


def main(arguments: list[str]) -> Any:
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # several would multiply the batch behind the spec's back
    if _asks_for_unsloth(Path(arguments[0])):
        os.execv(sys.executable, [sys.executable, "-m", "backend.training.train_unsloth", *arguments])
    sys.exit(run_worker(TrainRequest, train))


if __name__ == "__main__":
    main(sys.argv[1:])
