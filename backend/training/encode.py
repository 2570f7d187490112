"""Encodes conversations as token ids and labels, in the same format as chat.

A prompt is tokenised as the inference worker tokenises it. The answer is tokenised separately, because the model
continues after the tokens of the prompt. Text of the rows never becomes a control token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gguf import TokenType
from tokenizers import Tokenizer

from backend.core.errors import LabError
from backend.core.messages import Message, plain
from backend.data.rows import Dropped, Row
from backend.gguf.tensors import load_json
from backend.gguf.vocabulary import vocabulary_of
from backend.llamacpp.chat_template import ChatTemplate, control_pattern, encode
from backend.training.request import TrainSettings
from models.templates import templates

UNTRAINED = -100  # the label of a masked token
Part = tuple[str, bool]  # text, and whether the template wrote it


@dataclass(frozen=True)
class Encoded:
    """A row of t tokens: `ids` [t] and `labels` [t]. A label is the id, or UNTRAINED if the token is masked.

    `length` is the number of tokens before the row was cut.
    """

    ids: list[int]
    labels: list[int]
    length: int

    @property
    def trained(self) -> int:
        return sum(label != UNTRAINED for label in self.labels)


class Encoder:
    """The tokenizer of a base's folder and one chat template."""

    def __init__(self, folder: Path, template: str) -> None:
        words = vocabulary_of(folder, int(load_json(folder / "config.json")["vocab_size"]))
        texts = {text: i for i, text in enumerate(words.tokens) if words.types[i] == TokenType.CONTROL}
        self.source = self._source(folder, words.template, template)
        self.has_own = bool(words.template)
        self.pad = words.pad if words.pad is not None else words.eos
        self._special, self._control = texts, control_pattern(list(texts))
        bos = words.tokens[words.bos] if words.bos is not None else ""
        self._template = ChatTemplate(self.source, bos, words.tokens[words.eos], self._control)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True  # their texts are ordinary text

    @staticmethod
    def _source(folder: Path, own: str | None, template: str) -> str:
        if template != "own":
            return templates()[template].source
        if not own:
            raise LabError(f"{folder.name} has no chat template. Choose the chat template alpaca.")
        return own

    def row(self, messages: Sequence[Message], learn: str, longest: int) -> Encoded:
        """Encode a conversation, at most `longest` tokens. LabError if the template refuses it."""
        ids: list[int] = []
        labels: list[int] = []
        for parts, trained in self.segments(messages, learn):
            new = encode(parts, self._control, self._special, self._tokens)
            ids += new
            labels += new if trained else [UNTRAINED] * len(new)
        return Encoded(ids[:longest], labels[:longest], len(ids))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a prompt: the messages, then the start of the answer."""
        return encode(self._template.parts(_plain(messages)), self._control, self._special, self._tokens)

    def segments(self, messages: Sequence[Message], learn: str) -> list[tuple[list[Part], bool]]:
        """Split a conversation into segments, up to the end of the last answer. True: the segment is trained on."""
        turns = _plain(messages)
        parts = self._template.parts(turns, answering=False)
        text = "".join(piece for piece, _ in parts)
        if learn == "everything":
            return [(_between(parts, 0, self._end(parts, _last_answer(parts, turns, text))), True)]
        segments, start = [], 0
        for number, message in enumerate(turns):
            if message["role"] != "assistant":
                continue
            before = "".join(piece for piece, _ in self._template.parts(turns[:number]))
            if not text.startswith(before):
                raise LabError("the chat template writes earlier turns differently when an answer follows")
            end = self._end(parts, len(before) + len(message["content"].strip()))
            segments += [(_between(parts, start, len(before)), False), (_between(parts, len(before), end), True)]
            start = end
        return [segment for segment in segments if segment[0]]

    def split(self, parts: Sequence[Part], most: int) -> tuple[str, str, int]:
        """Split a segment after `most` tokens: the text before, the text after, and the number of tokens before."""
        ids = encode(parts, self._control, self._special, self._tokens)
        text = "".join(piece for piece, _ in parts)
        if len(ids) <= most:
            return text, "", len(ids)
        inside = self._tokenizer.decode(ids[:most], skip_special_tokens=False) if most else ""
        return inside, text[len(inside) :], most

    def _end(self, parts: Sequence[Part], answered: int) -> int:
        """The offset in characters after the control token that ends an answer. Its text ends at `answered`."""
        start = 0
        for piece, by_template in parts:
            if by_template and start + len(piece) > answered:
                match = self._control.search(piece, max(0, answered - start))
                return start + match.end() if match else max(start, answered)
            start += len(piece)
        return start

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _last_answer(parts: Sequence[Part], turns: Sequence[Message], text: str) -> int:
    """The offset in characters where the text of the last answer ends."""
    start = text.rfind(turns[-1]["content"].strip())
    return start + len(turns[-1]["content"].strip()) if start >= 0 else sum(len(piece) for piece, _ in parts)


def _plain(messages: Sequence[Message]) -> list[Message]:
    return [Message(role=message["role"], content=plain(message["content"])) for message in messages]


def _between(parts: Sequence[Part], start: int, end: int) -> list[Part]:
    """The parts between two offsets in characters."""
    inside, at = [], 0
    for piece, by_template in parts:
        cut = piece[max(0, start - at) : max(0, end - at)]
        if cut:
            inside.append((cut, by_template))
        at += len(piece)
    return inside


@dataclass(frozen=True)
class Tokenised:
    """`rows[i]` are the tokens of the dataset's row `kept[i]`."""

    rows: list[Encoded]
    kept: list[Row]
    dropped: list[Dropped] = field(default_factory=list)

    @property
    def cut(self) -> int:
        """Number of rows that were cut."""
        return sum(row.length > len(row.ids) for row in self.rows)


def tokenised(
    rows: Sequence[Row], encoder: Encoder, spec: TrainSettings, say: Callable[[int], object] = lambda done: None
) -> Tokenised:
    """Encode the rows. A row without a token to train on within the maximum length is dropped, with the reason.

    `say` gets the number of each row. Call this from the main thread only.
    """
    done, kept, dropped = [], [], []
    for number, row in enumerate(rows):
        try:
            encoded = encoder.row(row.messages, spec.learn, spec.max_length)
        except LabError as error:
            dropped.append(Dropped(row.line, str(error)))
            continue
        if encoded.trained:
            done.append(encoded)
            kept.append(row)
        else:
            dropped.append(Dropped(row.line, f"no token of its answers is within {spec.max_length:,} tokens"))
        say(number)
    return Tokenised(done, kept, dropped)


def checked(tokenised: Tokenised, spec: TrainSettings, what: str) -> Tokenised:
    """Return `tokenised`. LabError if it has no rows."""
    if not tokenised.rows:
        first = tokenised.dropped[0] if tokenised.dropped else None
        reason = f" The first: line {first.line}, {first.why}." if first else ""
        raise LabError(
            f"None of the {len(tokenised.dropped):,} {what} has tokens to train on with the chat template "
            f"{spec.template!r} and a maximum length of {spec.max_length:,} tokens.{reason} Raise the maximum length, "
            "or choose another chat template or dataset."
        )
    return tokenised
