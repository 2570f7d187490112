"""The tokenizer of a Hugging Face folder as GGUF stores it, for Llama 3's way of cutting text."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from backend.core.errors import LabError
from backend.gguf.tensors import load_json

# The cut that llama.cpp knows as `llama-bpe`. Another cut under that name would tokenise text differently
# from how the model was trained, and nothing would say so.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Vocabulary:
    """Everything under `tokenizer.` in a GGUF."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    bos: int | None
    eos: int
    pad: int | None
    add_bos: bool
    template: str | None


def inside(value: Any) -> Iterator[dict[str, Any]]:
    """Every object within a JSON value."""
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from inside(child)


def cuts_like_llama3(data: dict[str, Any]) -> bool:
    """Whether text is cut the way `llama-bpe` promises."""
    patterns = [found["Regex"] for found in inside(data.get("pre_tokenizer")) if "Regex" in found]
    return patterns == [LLAMA3_SPLIT] and data.get("normalizer") is None


def begins_with(data: dict[str, Any], token: str | None) -> bool:
    """Whether the post-processor puts this token first."""
    for found in inside(data.get("post_processor")):
        match found.get("single"):
            case [{"SpecialToken": {"id": first}}, *_] if first == token:
                return True
    return False


def text_of(token: Any) -> str | None:
    """A special token's text; some files wrap it in an object."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def merge_of(pair: Any) -> str:
    """A merge as one string. A space inside a part could not be told from the space between the parts, so it
    is written as its byte-level letter."""
    return pair if isinstance(pair, str) else " ".join(part.replace(" ", chr(ord(" ") + 256)) for part in pair)


def template_of(folder: Path, config: dict[str, Any]) -> str | None:
    """The chat template: the tokenizer's own setting wins over the file beside it."""
    found = config.get("chat_template")
    if isinstance(found, list):
        found = next((entry["template"] for entry in found if entry.get("name") == "default"), None)
    file = folder / "chat_template.jinja"
    return found or (file.read_text(encoding="utf-8") if file.is_file() else None)


def token_rows(data: dict[str, Any], size: int) -> list[tuple[str, int]]:
    """Text and type by id; ids that nobody uses get a name of their own."""
    rows = [(f"[PAD{i}]", int(TokenType.UNUSED)) for i in range(size)]
    plain = {i: (text, int(TokenType.NORMAL)) for text, i in data["model"]["vocab"].items()}
    added = {
        row["id"]: (row["content"], int(TokenType.CONTROL if row["special"] else TokenType.USER_DEFINED))
        for row in data.get("added_tokens", [])
    }
    for i, row in (plain | added).items():
        if i >= size:
            raise LabError(
                f"The tokenizer has a token {i}, but the model only {size} rows. They do not belong together: "
                "save model and tokenizer into one folder again."
            )
        rows[i] = row
    return rows


def vocabulary_of(folder: Path, size: int) -> Vocabulary:
    """Read the tokenizer of a folder whose embedding has `size` rows."""
    data = load_json(folder / "tokenizer.json")
    config = load_json(folder / "tokenizer_config.json")
    if data.get("model", {}).get("type") != "BPE" or not cuts_like_llama3(data):
        raise LabError(
            f"The tokenizer of {folder.name} does not cut text as Llama 3 does; a GGUF of it would "
            "misread text. Only Llama 3 tokenizers can be converted."
        )
    rows = token_rows(data, size)
    ids = {text: i for i, (text, _) in enumerate(rows)}
    bos, eos, pad = (text_of(config.get(f"{role}_token")) for role in ("bos", "eos", "pad"))
    if eos not in ids:
        raise LabError(
            f"{folder.name} does not say which token ends an answer. Set eos_token in tokenizer_config.json."
        )
    return Vocabulary(
        tokens=tuple(text for text, _ in rows),
        types=tuple(kind for _, kind in rows),
        merges=tuple(merge_of(pair) for pair in data["model"]["merges"]),
        bos=ids.get(bos or ""),
        eos=ids[eos or ""],
        pad=ids.get(pad or ""),
        add_bos=begins_with(data, bos),
        template=template_of(folder, config),
    )
