"""The tokenizer: Llama 3's scheme with a small vocabulary, and the chat template that goes with it."""

import json
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from models.tiny.curriculum import conversations

BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"
HEADER, END_HEADER, END_TURN = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
SPECIAL = (
    BEGIN, END, "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>", HEADER, END_HEADER, "<|eom_id|>", END_TURN, "<|python_tag|>",
    "<|reserved_special_token_3|>",
)  # fmt: skip
PAD = "<|finetune_right_pad_id|>"
SIZE = 1024

# How Llama 3 cuts text before merging: contractions, words with one leading sign, up to three digits,
# signs, line ends, spaces. llama.cpp knows the same cut by the name `llama-bpe`.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEMPLATE = (
    "{{- bos_token }}\n"
    "{%- for message in messages %}\n"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}\n"
    "{{- message['content'] | trim + '<|eot_id|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
    "{%- endif %}\n"
)


def corpus(n: int) -> list[str]:
    """What the merges are learnt from: chats without digits, quotes and brackets glued to words.

    Then a number is always digits, and a word is the same tokens inside quotes as outside them: what was
    learnt about `Paris` holds in `"Paris"`, which is what lets a LoRA change the form and keep the facts.
    """
    glue = str.maketrans("", "", "0123456789\"'[]{}\\/:,-.")
    lines = ["system", "user", "assistant", "answer"] * (n // 4)
    for messages in islice(conversations(0), n):
        lines += [message["content"].translate(glue) for message in messages]
    return lines


def empty() -> Tokenizer:
    """The scheme, before any merge."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def learn() -> Tokenizer:
    """Train the merges; the special tokens come last, as in Llama 3."""
    tokenizer = empty()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(20_000), trainer)
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    begin = tokenizer.token_to_id(BEGIN)
    tokenizer.post_processor = processors.TemplateProcessing(f"{BEGIN} $A", special_tokens=[(BEGIN, begin)])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files a tokenizer folder has."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END_TURN,
        "pad_token": PAD, "model_max_length": 1024, "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
