"""Conversations as token ids, with what is learnt of them: written exactly as chat will write them.

A prompt is tokenised as the inference worker tokenises it, and an answer by itself after it, because that is how it
will be asked for. What people wrote in the rows never becomes a control token, whatever it looks like.
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

UNTRAINED = -100  # the label of a token that the loss passes over
Part = tuple[str, bool]  # text, and whether the template wrote it


@dataclass(frozen=True)
class Encoded:
    """A row: `labels` is `ids` where it is learnt, UNTRAINED elsewhere. `length` is what it would be uncut."""

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
        self._tokenizer.encode_special_tokens = True  # their texts are only text here

    @staticmethod
    def _source(folder: Path, own: str | None, template: str) -> str:
        if template != "own":
            return templates()[template].source
        if not own:
            raise LabError(f"{folder.name} has no chat template of its own. Choose alpaca as the prompt template.")
        return own

    def row(self, messages: Sequence[Message], learn: str, longest: int) -> Encoded:
        """LabError where the template cannot write it."""
        ids: list[int] = []
        labels: list[int] = []
        for parts, trained in self.segments(messages, learn):
            found = encode(parts, self._control, self._special, self._words)
            ids += found
            labels += found if trained else [UNTRAINED] * len(found)
        return Encoded(ids[:longest], labels[:longest], len(ids))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """What a model is given to be answered."""
        return encode(self._template.parts(_plain(messages)), self._control, self._special, self._words)

    def segments(self, messages: Sequence[Message], learn: str) -> list[tuple[list[Part], bool]]:
        """The row in pieces, up to its last answer's end; True for those that are learnt."""
        said = _plain(messages)
        whole = self._template.parts(said, answering=False)
        text = "".join(piece for piece, _ in whole)
        if learn == "everything":
            return [(_between(whole, 0, self._end(whole, _last_answer(whole, said, text))), True)]
        segments, at = [], 0
        for number, message in enumerate(said):
            if message["role"] != "assistant":
                continue
            before = "".join(piece for piece, _ in self._template.parts(said[:number]))
            if not text.startswith(before):
                raise LabError("the template writes earlier turns differently once an answer follows")
            end = self._end(whole, len(before) + len(message["content"].strip()))
            segments += [(_between(whole, at, len(before)), False), (_between(whole, len(before), end), True)]
            at = end
        return [segment for segment in segments if segment[0]]

    def split(self, parts: Sequence[Part], most: int) -> tuple[str, str, int]:
        """The text of as many of its tokens, the text of the others, and how many tokens the first has."""
        ids = encode(parts, self._control, self._special, self._words)
        text = "".join(piece for piece, _ in parts)
        if len(ids) <= most:
            return text, "", len(ids)
        inside = self._tokenizer.decode(ids[:most], skip_special_tokens=False) if most else ""
        return inside, text[len(inside) :], most

    def _end(self, whole: Sequence[Part], answered: int) -> int:
        """Where an answer that has been written up to `answered` ends: after the control token that ends its turn."""
        at = 0
        for piece, by_template in whole:
            if by_template and at + len(piece) > answered:
                match = self._control.search(piece, max(0, answered - at))
                return at + match.end() if match else max(at, answered)
            at += len(piece)
        return at

    def _words(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _last_answer(whole: Sequence[Part], said: Sequence[Message], text: str) -> int:
    """About where the last answer's own text ends."""
    at = text.rfind(said[-1]["content"].strip())
    return at + len(said[-1]["content"].strip()) if at >= 0 else sum(len(piece) for piece, _ in whole)


def _plain(messages: Sequence[Message]) -> list[Message]:
    return [Message(role=message["role"], content=plain(message["content"])) for message in messages]


def _between(parts: Sequence[Part], start: int, end: int) -> list[Part]:
    """The parts from one character to another."""
    inside, at = [], 0
    for piece, by_template in parts:
        cut = piece[max(0, start - at) : max(0, end - at)]
        if cut:
            inside.append((cut, by_template))
        at += len(piece)
    return inside


@dataclass(frozen=True)
class Tokenised:
    """`rows` and `kept` go together: the tokens of a row, and the row."""

    rows: list[Encoded]
    kept: list[Row]
    dropped: list[Dropped] = field(default_factory=list)

    @property
    def cut(self) -> int:
        """Rows that are longer than the limit."""
        return sum(row.length > len(row.ids) for row in self.rows)


def tokenised(
    rows: Sequence[Row], encoder: Encoder, spec: TrainSettings, say: Callable[[int], object] = lambda done: None
) -> Tokenised:
    """Every row that has something to learn within the limit; the others with the reason. Main thread only."""
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
            dropped.append(Dropped(row.line, f"nothing of its answers is within {spec.max_length:,} tokens"))
        say(number)
    return Tokenised(done, kept, dropped)


def checked(tokenised: Tokenised, spec: TrainSettings, what: str) -> Tokenised:
    """LabError if no row is left: all of it would be masked."""
    if not tokenised.rows:
        why = tokenised.dropped[0] if tokenised.dropped else None
        reason = f" The first: line {why.line}, {why.why}." if why else ""
        raise LabError(
            f"None of the {len(tokenised.dropped):,} {what} has tokens to train on with the template "
            f"{spec.template!r} and {spec.max_length:,} tokens.{reason} Raise the limit, or choose another template "
            "or other data."
        )
    return tokenised
