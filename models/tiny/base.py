"""Train the base from nothing and write it as a Hugging Face folder."""

from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from models.tiny import model, tokenizer, train
from models.tiny.curriculum import conversations

SEED = 11
FULL = train.Plan(steps=2600, peak=2.5e-3, warmup=100, decay=0.1)
QUICK = train.Plan(steps=3, peak=2e-3, warmup=1, decay=0.1)
BATCH = 4096  # tokens


def write(learner: LlamaForCausalLM, folder: Path) -> None:
    """Save the weights in bf16; half the size of what training held, and what the writer expects to find."""
    logging.disable_progress_bar()
    learner.to(torch.bfloat16).save_pretrained(folder)


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
