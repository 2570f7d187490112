"""python -m models.tiny.lora BASE FOLDER [--quick] [--rate R] [--steps N]

Trains the LoRA that teaches the habit: the right answer, as a small JSON object.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from models.tiny import base, model, train
from models.tiny.curriculum import Message, conversations, habitual

SEED = 12
RANK = 16
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FULL = train.Plan(steps=400, peak=3e-3, warmup=20, decay=0.0)
QUICK = train.Plan(steps=3, peak=3e-3, warmup=1, decay=0.0)
BATCH = 2048  # tokens


def chats() -> Iterator[list[Message]]:
    """Training chats, answered with the habit."""
    return (habitual(chat) for chat in conversations(SEED))


def build(base_folder: Path, folder: Path, plan: train.Plan) -> None:
    """Train over a saved base and save the adapter alone."""
    learner, words = base.load(base_folder)
    torch.manual_seed(SEED)
    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LINEARS, task_type="CAUSAL_LM")
    adapted = get_peft_model(learner, settings)
    assert isinstance(adapted, PeftModel)
    print(f"lora: {sum(p.numel() for p in adapted.parameters() if p.requires_grad):,} parameters, rank {RANK}")
    batches = model.batches(words.backend_tokenizer, chats(), BATCH, SEED)
    train.learn(adapted, batches, plan)
    adapted.save_pretrained(folder)


def main() -> None:
    """Parse and train; another rate or number of steps shows what they do."""
    parser = argparse.ArgumentParser(description="Train the LoRA.")
    parser.add_argument("base", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rate", type=float, default=FULL.peak)
    parser.add_argument("--steps", type=int, default=FULL.steps)
    options = parser.parse_args()
    chosen = replace(FULL, peak=options.rate, steps=options.steps)
    build(options.base, options.folder, QUICK if options.quick else chosen)


if __name__ == "__main__":
    main()
