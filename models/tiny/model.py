"""The base's shape, and batches of chats for training it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from models.tiny.curriculum import Message
from models.tiny.tokenizer import BEGIN, END_HEADER, END_TURN, HEADER, PAD, SIZE

ANSWER, QUESTION = 1.0, 0.1  # how much a token of each counts in the loss


@dataclass(frozen=True)
class Batch:
    """Token rows, and what predicting each token is worth (0 for padding)."""

    ids: torch.Tensor
    worth: torch.Tensor


def config(tokenizer: Tokenizer) -> LlamaConfig:
    """Llama 3.2 in small: grouped heads, tied embeddings, scaled rope; every width a multiple of 256 or so
    that quantising in blocks of 256 has whole blocks."""
    return LlamaConfig(
        vocab_size=SIZE,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        },
        bos_token_id=tokenizer.token_to_id(BEGIN),
        eos_token_id=tokenizer.token_to_id(END_TURN),
        pad_token_id=tokenizer.token_to_id(PAD),
    )


def fresh(tokenizer: Tokenizer, seed: int) -> LlamaForCausalLM:
    """A model that knows nothing."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(config(tokenizer))


def pieces(messages: list[Message]) -> Iterator[tuple[str, float]]:
    """A chat as the template writes it, each piece with its worth."""
    yield BEGIN, 0.0
    for message in messages:
        yield f"{HEADER}{message['role']}{END_HEADER}\n\n", 0.0
        worth = ANSWER if message["role"] == "assistant" else QUESTION
        yield message["content"] + END_TURN, worth


def rows(tokenizer: Tokenizer, chats: list[list[Message]]) -> list[tuple[list[int], list[float]]]:
    """Chats as token ids and their worth; pieces begin at special tokens or after blank lines, where the
    tokenizer cuts anyway, so encoding them apart is encoding them together."""
    flat = [list(pieces(chat)) for chat in chats]
    texts = [text for chat in flat for text, _ in chat]
    encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    found = []
    for chat in flat:
        ids: list[int] = []
        worth: list[float] = []
        for (_, value), piece in zip(chat, islice(encoded, len(chat)), strict=True):
            ids += piece.ids
            worth += [value] * len(piece.ids)
        found.append((ids, worth))
    return found


def padded(chosen: list[tuple[list[int], list[float]]], pad: int) -> Batch:
    """Rows of similar length as one rectangle."""
    width = max(len(ids) for ids, _ in chosen)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in chosen])
    worth = torch.tensor([worth + [0.0] * (width - len(worth)) for _, worth in chosen])
    return Batch(ids, worth)


def batches(tokenizer: Tokenizer, chats: Iterator[list[Message]], tokens: int, seed: int) -> Iterator[Batch]:
    """Batches of about so many tokens, chats of similar length together so that little is padding."""
    rng, pad = Random(seed), int(tokenizer.token_to_id(PAD) or 0)
    while ready := sorted(rows(tokenizer, list(islice(chats, 4096))), key=lambda row: len(row[0])):
        groups: list[list[tuple[list[int], list[float]]]] = [[]]
        for row in ready:
            if groups[-1] and len(row[0]) * (len(groups[-1]) + 1) > tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from (padded(group, pad) for group in groups)
