"""`python -m backend.training.train RUN`: LoRA or QLoRA with TRL and PEFT, on CPU or GPU.

If Unsloth is chosen, or the engine is auto and Unsloth is installed on a machine with a CUDA GPU, this process is
replaced by backend.training.train_unsloth, because Unsloth must be imported before Transformers.
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

LARGE = 300_000_000  # bytes of weights; larger models are trained in bfloat16 if the CPU supports it


def load_model(folder: Path, spec: TrainSettings) -> TrainableModel:
    """Load the base and add a new adapter."""
    dtype = dtype_for(folder)
    quantised = spec.method == "qlora" and not _is_4bit(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        quantization_config=nf4(dtype) if quantised else None,
        device_map={"": 0} if torch.cuda.is_available() else None,
        local_files_only=True,
    )
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # this path has no gradient after an evaluation
            module.support_avx512bf16_for_cpu = False
    model.config.use_cache = False
    if spec.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=torch.cuda.is_available())
    return TrainableModel(get_peft_model(model, lora_config(spec)), "transformers", dtype)


def lora_config(spec: TrainSettings) -> LoraConfig:
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
    """bfloat16 if the hardware supports it. Small models on a CPU use float32, and old GPUs use float16."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    large = sum(file.stat().st_size for file in folder.glob("*.safetensors")) > LARGE
    return torch.bfloat16 if large and machine.has_bfloat16() else torch.float32


def _is_4bit(folder: Path) -> bool:
    return '"quantization_config"' in (folder / "config.json").read_text(encoding="utf-8")


def wants_unsloth(spec: TrainSettings) -> bool:
    if spec.engine == "auto":
        return torch.cuda.is_available() and importlib.util.find_spec("unsloth") is not None
    return spec.engine == "unsloth"


def _run_wants_unsloth(run: Path) -> bool:
    with contextlib.suppress(
        OSError, ValueError, LookupError, TypeError
    ):  # run_worker reports a request that cannot be read
        return wants_unsloth(train_request(run).spec)
    return False


def train(request: TrainRequest, journal: Journal) -> None:
    run_training(request, journal, load_model)


def main(arguments: list[str]) -> Any:
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # with several GPUs, the trainer would multiply the batch size
    if _run_wants_unsloth(Path(arguments[0])):
        cache = Path(arguments[0]).parent / ".unsloth"  # otherwise Unsloth writes its code into the working directory
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache))
        os.execv(sys.executable, [sys.executable, "-m", "backend.training.train_unsloth", *arguments])
    sys.exit(run_worker(TrainRequest, train))


if __name__ == "__main__":
    main(sys.argv[1:])
