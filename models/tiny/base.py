"""python -m models.tiny.base FOLDER [--quick]: train the base from nothing, write it as a Hugging Face folder."""

import argparse
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from models.tiny import model, tokenizer, train
from models.tiny.curriculum import conversations

SEED = 11
FULL = train.Plan(steps=2900, peak=2e-3, warmup=100, decay=0.1)
QUICK = train.Plan(steps=3, peak=2e-3, warmup=1, decay=0.1)
BATCH = 4096  # tokens


def write(learner: LlamaForCausalLM, folder: Path) -> None:
    """Save the weights in bf16; half the size of what training held, and what the writer expects to find."""
    logging.disable_progress_bar()
    learner.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # saved for its owner alone, but meant to be shipped


def build(folder: Path, quick: bool) -> None:
    """Everything from the tokenizer to the saved weights."""
    words = tokenizer.learn()
    tokenizer.save(words, folder)
    learner = model.fresh(words, SEED)
    print(f"base: {sum(p.numel() for p in learner.parameters()):,} parameters, from nothing")
    chats = model.batches(words, conversations(SEED), BATCH, SEED)
    train.learn(learner, chats, QUICK if quick else FULL)
    write(learner, folder)


def load(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The saved base in fp32, ready to be trained on."""
    learner = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return learner, PreTrainedTokenizerFast.from_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the base.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    build(options.folder, options.quick)
