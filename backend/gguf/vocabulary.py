"""Reads the tokenizer of a Hugging Face folder for a GGUF. Only tokenizers that split text as Llama 3 does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from backend.core.errors import LabError
from backend.gguf.tensors import load_json

# The pattern that llama.cpp calls `llama-bpe`. With another pattern under that name, text would silently be tokenised
# in another way than in training.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Vocabulary:
    """The values of the `tokenizer.` keys of a GGUF."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    bos: int | None
    eos: int
    pad: int | None
    add_bos: bool
    template: str | None


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects in a JSON value, at any depth."""
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from objects_in(child)


def splits_like_llama3(data: dict[str, Any]) -> bool:
    """Whether the tokenizer splits text as `llama-bpe` does."""
    patterns = [item["Regex"] for item in objects_in(data.get("pre_tokenizer")) if "Regex" in item]
    return patterns == [LLAMA3_SPLIT] and data.get("normalizer") is None


def adds_first(data: dict[str, Any], token: str | None) -> bool:
    """Whether the post-processor adds this token before the text."""
    for item in objects_in(data.get("post_processor")):
        match item.get("single"):
            case [{"SpecialToken": {"id": first}}, *_] if first == token:
                return True
    return False


def text_of(token: Any) -> str | None:
    """The text of a special token, which is a string or an object with `content`; None for anything else."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def merge_text(pair: Any) -> str:
    """A merge as one string, with a space between its parts. A space in a part becomes its byte-level letter."""
    return pair if isinstance(pair, str) else " ".join(part.replace(" ", chr(ord(" ") + 256)) for part in pair)


def template_of(folder: Path, config: dict[str, Any]) -> str | None:
    """The chat template of tokenizer_config.json, else of chat_template.jinja, else None."""
    template = config.get("chat_template")
    if isinstance(template, list):
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
    file = folder / "chat_template.jinja"
    return template or (file.read_text(encoding="utf-8") if file.is_file() else None)


def token_rows(data: dict[str, Any], size: int) -> list[tuple[str, int]]:
    """Text and type of each id below `size`; unused ids get the name [PADi]. Raises LabError for a higher id."""
    rows = [(f"[PAD{i}]", int(TokenType.UNUSED)) for i in range(size)]
    plain = {i: (text, int(TokenType.NORMAL)) for text, i in data["model"]["vocab"].items()}
    added = {
        row["id"]: (row["content"], int(TokenType.CONTROL if row["special"] else TokenType.USER_DEFINED))
        for row in data.get("added_tokens", [])
    }
    for i, row in (plain | added).items():
        if i >= size:
            raise LabError(
                f"The tokenizer has the token {i}, but the embedding only {size} rows, so they do not belong together. "
                "Save model and tokenizer into one folder again."
            )
        rows[i] = row
    return rows


def vocabulary_of(folder: Path, size: int) -> Vocabulary:
    """Read the tokenizer of a folder whose embedding has `size` rows. Raises LabError if it cannot be converted."""
    data = load_json(folder / "tokenizer.json")
    config = load_json(folder / "tokenizer_config.json")
    if data.get("model", {}).get("type") != "BPE" or not splits_like_llama3(data):
        raise LabError(
            f"The tokenizer of {folder.name} does not split text as Llama 3 does, so a GGUF would tokenise text "
            "in another way. Choose a model with the tokenizer of Llama 3."
        )
    rows = token_rows(data, size)
    ids = {text: i for i, (text, _) in enumerate(rows)}
    bos, eos, pad = (text_of(config.get(f"{role}_token")) for role in ("bos", "eos", "pad"))
    if eos not in ids:
        raise LabError(f"{folder.name} has no token for the end of an answer. Set eos_token in tokenizer_config.json.")
    return Vocabulary(
        tokens=tuple(text for text, _ in rows),
        types=tuple(kind for _, kind in rows),
        merges=tuple(merge_text(pair) for pair in data["model"]["merges"]),
        bos=ids.get(bos or ""),
        eos=ids[eos or ""],
        pad=ids.get(pad or ""),
        add_bos=adds_first(data, bos),
        template=template_of(folder, config),
    )
