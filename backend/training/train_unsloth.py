"""`python -m backend.training.train_unsloth RUN`: the same training, with the base loaded by Unsloth.

Unsloth changes Transformers, TRL and PEFT when it is imported, so it is imported first, in a separate process.
"""

import sys
from pathlib import Path

import unsloth

from backend.jobs.journal import Journal, run_worker
from backend.training.request import TrainRequest, TrainSettings
from backend.training.trainer import TrainableModel, run_training


def load_model(folder: Path, spec: TrainSettings) -> TrainableModel:
    """Load the base and add a new adapter."""
    model, _ = unsloth.FastLanguageModel.from_pretrained(
        model_name=str(folder),
        max_seq_length=spec.max_length,
        load_in_4bit=spec.method == "qlora",
        local_files_only=True,
    )
    adapted = unsloth.FastLanguageModel.get_peft_model(
        model,
        r=spec.rank,
        target_modules=list(spec.targets),
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        bias="none",
        use_gradient_checkpointing="unsloth",
        random_state=spec.seed,
        use_rslora=spec.rslora,
    )
    return TrainableModel(adapted, "unsloth", model.dtype)


def train(request: TrainRequest, journal: Journal) -> None:
    run_training(request, journal, load_model)


if __name__ == "__main__":
    sys.exit(run_worker(TrainRequest, train))
