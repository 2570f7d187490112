"""Encodes conversations as token ids and labels, in the same format as chat.

A prompt is tokenised as the inference worker tokenises it. The answer is tokenised separately, because the model
continues after the tokens of the prompt. Text of the rows never becomes a control token.
"""

from collections.abc import Callable, Container, Sequence
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
from backend.training.request import Learn, Thoughts, TrainSettings
from models.templates import templates

UNTRAINED = -100  # the label of a masked token
TAIL = 16  # characters of an answer that are compared
THOUGHT, THOUGHT_END = "<think>", "</think>"
Part = tuple[str, bool]  # text, and whether the template wrote it


Segment = tuple[list[Part], bool]  # a part of an example, and whether it is trained on


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


@dataclass(frozen=True)
class Written:
    """A conversation as the template writes it. `begins`: offsets where the contents of other messages begin; `ends`:
    the offset where the content of an answer ends, by the place of its message."""

    parts: list[Part]
    text: str
    begins: list[int]
    ends: dict[int, int]


@dataclass(frozen=True)
class Span:
    """Where an answer is in the text: offsets in characters of its start, the end of its content, and its end token."""

    start: int
    answered: int
    end: int
    continues: bool
    """Whether the text begins with the prompt, so that the answer is what the model would generate."""
    complete: bool
    """Whether the whole answer is there, with its thought."""


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

    @property
    def opens_thought(self) -> bool:
        """Whether the template begins each answer with a thought."""
        try:
            prompt = _text(self._template.parts([Message(role="user", content="?")]))
        except LabError:
            return False
        return prompt.rstrip().endswith(THOUGHT)

    @staticmethod
    def _source(folder: Path, own: str | None, template: str) -> str:
        if template != "own":
            return templates()[template].source
        if not own:
            raise LabError(f"{folder.name} has no chat template. Choose the chat template alpaca.")
        return own

    def encoded(self, segments: Sequence[Segment], longest: int) -> Encoded:
        """Encode an example, at most `longest` tokens."""
        ids: list[int] = []
        labels: list[int] = []
        for parts, trained in segments:
            new = encode(parts, self._control, self._special, self._tokens)
            ids += new
            labels += new if trained else [UNTRAINED] * len(new)
        return Encoded(ids[:longest], labels[:longest], len(ids))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a prompt: the messages, then the start of the answer."""
        return encode(self._template.parts(_plain(messages)), self._control, self._special, self._tokens)

    def examples(
        self,
        messages: Sequence[Message],
        learn: Learn = "answers",
        thoughts: Thoughts = "keep",
        masked: Container[int] = (),
    ) -> list[list[Segment]]:
        """The examples of a conversation, each up to the end of its last answer.

        Usually it is one. Where the chat template leaves out the thoughts of earlier answers, as many templates do,
        or begins each answer with a text of its own, an example with several answers would not be what the model sees
        in a chat. Then there is one example per answer: the prompt as in a chat, and the whole answer.

        `masked` are places of answers that are not trained on. LabError if the template refuses the conversation, or
        if it cannot be proven where it writes an answer.
        """
        turns = _plain(messages)
        if thoughts == "drop":
            turns = [_without_thought(message) for message in turns]
        written = self._written(turns)
        answers = [place for place, message in enumerate(turns) if message["role"] == "assistant"]
        spans = [self._span(written, turns, place) for place in answers]
        if all(span.continues and span.complete for span in spans):
            trained = [(span.start, span.end, place not in masked) for place, span in zip(answers, spans, strict=True)]
            return [_whole(written.parts, trained, learn)]
        if learn == "everything":
            answers = answers[-1:]
        return [self._single(turns[: place + 1], learn) for place in answers if place not in masked]

    def _single(self, turns: Sequence[Message], learn: Learn) -> list[Segment]:
        """An example with one answer, which ends the conversation."""
        written = self._written(turns)
        span = self._span(written, turns, len(turns) - 1)
        if span.continues and span.complete:
            return _whole(written.parts, [(span.start, span.end, True)], learn)
        if "tool_calls" in turns[-1]:
            raise LabError("the chat template writes a tool call differently when an answer begins")
        prompt = self._template.parts(turns[:-1])
        answer = (_continued(_text(prompt), turns[-1]["content"]), False)
        return [(prompt, learn == "everything"), ([answer, *_between(written.parts, span.answered, span.end)], True)]

    def _written(self, turns: Sequence[Message]) -> Written:
        parts = self._template.parts(turns, answering=False)
        begins, ends = self._template.places(turns, _text(parts))
        for place, message in enumerate(turns):
            if message["role"] != "assistant" and place not in begins:
                raise LabError(f"the chat template leaves out a message of the {message['role']}")
        return Written(parts, _text(parts), sorted(at for places in begins.values() for at in places), ends)

    def _text(self, turns: Sequence[Message], answering: bool) -> str:
        """The text of the parts of a prompt. If no message has control tokens, it is what the template writes."""
        if any(self._control.search(message["content"]) or "tool_calls" in message for message in turns):
            return _text(self._template.parts(turns, answering))
        return self._template.text(turns, answering)

    def _span(self, written: Written, turns: Sequence[Message], place: int) -> Span:
        """Where an answer is. LabError if that is not known."""
        prompt, text = self._text(turns[:place], answering=True), written.text
        start = len(prompt)
        until = text if place == len(turns) - 1 else self._text(turns[: place + 1], answering=False)
        if calls := turns[place].get("tool_calls"):
            names = [call["function"]["name"] for call in calls]
            if not text.startswith(until) or not all(name in until[start:] for name in names):
                raise LabError("the chat template does not write tool calls, or differently when their results follow")
            end = self._last_control(written.parts, start, len(until))
            return Span(start, end, end, text.startswith(prompt), True)
        if place not in written.ends:
            raise LabError("the chat template leaves out an answer")
        answered = written.ends[place]
        if not _ends_with(text[:answered], turns[place]["content"]):
            raise LabError("the chat template rewrites the end of an answer")
        last = min((begin for begin in written.begins if begin >= answered), default=len(text))
        if text.startswith(until):
            last = min(last, len(until))
        end = self._first_control(written.parts, answered, last)
        complete = _same(text[start:answered], turns[place]["content"])
        return Span(start, answered, end, text.startswith(prompt), complete)

    def split(self, parts: Sequence[Part], most: int) -> tuple[str, str, int]:
        """Split a segment after `most` tokens: the text before, the text after, and the number of tokens before."""
        ids = encode(parts, self._control, self._special, self._tokens)
        text = "".join(piece for piece, _ in parts)
        if len(ids) <= most:
            return text, "", len(ids)
        inside = self._tokenizer.decode(ids[:most], skip_special_tokens=False) if most else ""
        return inside, text[len(inside) :], most

    def _first_control(self, parts: Sequence[Part], start: int, last: int) -> int:
        """The offset after the control token that ends an answer: the first one of the template after `start`.

        It is before `last`, where the next message may begin; without such a token it is `start`.
        """
        at = 0
        for piece, by_template in parts:
            if by_template and at + len(piece) > start and at < last:
                match = self._control.search(piece, max(0, start - at), last - at)
                return at + match.end() if match else start
            at += len(piece)
        return start

    def _last_control(self, parts: Sequence[Part], start: int, last: int) -> int:
        """The offset after the last control token of the template between two offsets; otherwise `last`."""
        found, at = last, 0
        for piece, by_template in parts:
            if by_template:
                for match in self._control.finditer(piece, max(0, start - at), max(0, last - at)):
                    found = at + match.end()
            at += len(piece)
        return found

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _whole(parts: Sequence[Part], spans: Sequence[tuple[int, int, bool]], learn: Learn) -> list[Segment]:
    """One example of a whole conversation. `spans`: start and end of each answer, and whether it is trained on."""
    edges, start = list[tuple[int, int, bool]](), 0
    for begin, end, trained in spans:
        for edge in ((start, begin, learn == "everything"), (begin, end, trained)):
            if edges and edges[-1][2] == edge[2]:  # one segment, so that its text is tokenised at once
                edge = (edges.pop()[0], *edge[1:])
            edges.append(edge)
        start = end
    return [(_between(parts, begin, end), trained) for begin, end, trained in edges if end > begin]


def _text(parts: Sequence[Part]) -> str:
    return "".join(piece for piece, _ in parts)


def _same(written: str, content: str) -> bool:
    """Whether the template wrote the whole answer, apart from white space. Only thoughts are left out by templates."""
    return THOUGHT_END not in content or "".join(written.split()) == "".join(content.split())


def _ends_with(text: str, content: str) -> bool:
    """Whether a text ends with the end of an answer, apart from white space and broken control tokens."""
    end = content.rpartition(THOUGHT_END)[2].strip()[-TAIL:]
    return text[-4 * TAIL :].replace("\u200b", "").rstrip().endswith(end.replace("\u200b", ""))


def _without_thought(message: Message) -> Message:
    if message["role"] != "assistant":
        return message
    before, end, answer = message["content"].rpartition(THOUGHT_END)
    return message | {"content": answer.lstrip()} if end and THOUGHT in before else message


def _continued(prompt: str, content: str) -> str:
    """The answer after a prompt that may begin the answer's thought. An answer without a thought gets an empty one."""
    if not prompt.rstrip().endswith(THOUGHT):
        return content
    thought = content.lstrip().removeprefix(THOUGHT)
    if thought != content.lstrip():
        return thought.lstrip("\n") if prompt.endswith("\n") else thought
    return f"\n{THOUGHT_END}\n\n{content}" if THOUGHT_END not in content else content


def _plain(messages: Sequence[Message]) -> list[Message]:
    return [message | {"content": plain(message["content"])} for message in messages]


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
    """`rows[i]` are the tokens of an example of the dataset's row `kept[i]`."""

    rows: list[Encoded]
    kept: list[Row]
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences on rows that are not written as they are in the dataset."""

    @property
    def cut(self) -> int:
        """Number of examples that were cut."""
        return sum(row.length > len(row.ids) for row in self.rows)

    @property
    def sources(self) -> list[Row]:
        """The rows that have an example, each once."""
        return list({row.index: row for row in self.kept}.values())


def tokenised(
    rows: Sequence[Row], encoder: Encoder, spec: TrainSettings, say: Callable[[int], object] = lambda done: None
) -> Tokenised:
    """Encode the rows. A row without a token to train on within the maximum length is dropped, with the reason.

    `say` gets the number of each row. Call this from the main thread only.
    """
    done, kept, dropped = list[Encoded](), list[Row](), list[Dropped]()
    masked = divided = thoughts = 0
    for number, row in enumerate(rows):
        try:
            examples = encoder.examples(row.messages, spec.learn, spec.thoughts, row.masked)
        except LabError as error:
            dropped.append(Dropped(row.line, str(error)))
            continue
        encoded = [encoder.encoded(example, spec.max_length) for example in examples]
        usable = [example for example in encoded if example.trained]
        done += usable
        kept += [row] * len(usable)
        if not usable:
            dropped.append(Dropped(row.line, f"no token of its answers is within {spec.max_length:,} tokens"))
        masked += len(row.masked)
        divided += len(examples) > 1
        thoughts += any(THOUGHT_END in row.messages[place]["content"] for place in row.answers)
        say(number)
    notes = _notes(masked, divided, thoughts, spec)
    if done and encoder.opens_thought:
        notes.append(f"The chat template begins each answer with {THOUGHT}: one without a thought gets an empty one.")
    return Tokenised(done, kept, dropped, notes)


def _notes(masked: int, divided: int, thoughts: int, spec: TrainSettings) -> list[str]:
    notes = []
    if masked:
        notes.append(f"{masked:,} answers are not trained on, because their weight is 0.")
    if thoughts:
        what = "is trained on" if spec.thoughts == "keep" else "is dropped"
        notes.append(f"{thoughts:,} rows have answers with a thought (<think>), which {what}.")
    if divided:
        notes.append(
            f"{divided:,} rows are divided into one example per answer, because the chat template writes an answer "
            "differently when another turn follows."
        )
    return notes


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
