"""From messages to tokens: the chat template, rendered within limits, with user text kept powerless.

A template is part of a model file, so it may be hostile: it runs in Jinja's sandbox, for a bounded time, in
bounded memory, to a bounded length. What a user typed is bracketed while the template runs, so that afterwards
it is known which characters the template wrote: only those may become control tokens.
"""

import json
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from backend.core import machine
from backend.core.errors import LabError
from backend.core.messages import Message

SECONDS = 2.0
ENDLESS = 10.0  # of processor time: one step that multiplies huge numbers hears the alarm seconds late
MEMORY = 256 << 20
CHARACTERS = 1_000_000
OPEN, CLOSE = "\ufdd0", "\ufdd1"  # not characters: messages.clean takes them out of what a user typed
MARK = re.compile(f"([{OPEN}{CLOSE}])([0-9]+)[{OPEN}{CLOSE}]")
ADVICE = "Choose another variant, or name a template for this one in its variant.json."
Encode = Callable[[Sequence[Message]], list[int]]


class LimitExceeded(BaseException):
    """A limit of this file was passed. Not an Exception: Jinja swallows those while it folds constants."""


class ChatTemplate:
    """One template, compiled once. A template that passed a limit is not run again."""

    def __init__(self, source: str, bos: str, eos: str, control: re.Pattern[str]) -> None:
        self._control = control
        self._names = {"bos_token": bos, "eos_token": eos, "tools": None, "documents": None}
        self._broken = ""
        try:
            with limits():
                self._template = _sandbox().from_string(source)
        except (LimitExceeded, Exception) as error:  # Jinja lets through what Python's compiler raises, and more
            raise LabError(f"The chat template of this model cannot be read ({_first_line(error)}). {ADVICE}") from None

    def parts(self, messages: Sequence[Message], answering: bool = True) -> list[tuple[str, bool]]:
        """The prompt in pieces; True marks what the template wrote, False what a person or a model wrote.
        `answering`: with the beginning of an answer at its end.

        Templates may trim what they are given, and brackets would hide the blanks from them; so the bracketed
        text is compared with the plain rendering, and trimmed messages are tried when the two differ. For a
        template that rewrites its messages in other ways, control tokens in them are broken up beforehand.
        In every case it must have written just the control tokens that it writes around text of dots.
        """
        plain = self._render(messages, answering)
        its_own = self._control.findall(self._render(_rewritten(messages, _dotted, calls=True), answering))
        for candidate in (list(messages), _rewritten(messages, str.strip)):
            marked = self._render(_rewritten(candidate, lambda content: OPEN + content + CLOSE), answering)
            if marked.replace(OPEN, "").replace(CLOSE, "") == plain:
                parts = _split(marked)
                if _paired(parts) and self._written(parts) == its_own:
                    return parts
        broken = [(self._render(_rewritten(messages, self._disarmed, calls=True), answering), True)]
        if self._written(broken) == its_own:
            return broken
        raise LabError(f"The chat template of this model makes control tokens out of what was said. {ADVICE}")

    def text(self, messages: Sequence[Message], answering: bool = True) -> str:
        """What the template writes. Text of the messages may look like a control token in it."""
        return self._render(messages, answering)

    def places(self, messages: Sequence[Message], text: str) -> tuple[dict[int, list[int]], dict[int, int]]:
        """Where messages are in `text`, which is the prompt that `parts` made of them, without the start of an answer.

        Returns, by the place of a message: the offsets at which the content of another role begins, and the offset at
        which the content of an answer ends. A template may leave out the start of an answer, such as a thought.
        LabError if it writes messages so differently that these places cannot be proven.
        """
        disarmed = _rewritten(messages, self._disarmed, calls=True)
        for candidate in (
            messages, _rewritten(messages, str.strip), disarmed, _rewritten(disarmed, str.strip)
        ):  # fmt: skip
            marked = self._render([_marked(message, place) for place, message in enumerate(candidate)], False)
            if MARK.sub("", marked) == text:
                break
        else:
            raise LabError("the chat template rewrites the messages, so it is not known where an answer ends")
        begins, ends, removed = dict[int, list[int]](), dict[int, int](), 0
        for mark in MARK.finditer(marked):
            place, at = int(mark[2]), mark.start() - removed
            removed += len(mark[0])
            if mark[1] == OPEN:
                begins.setdefault(place, []).append(at)
            elif place in ends:
                raise LabError("the chat template writes an answer twice")
            else:
                ends[place] = at
        return begins, ends

    def _written(self, parts: Sequence[tuple[str, bool]]) -> list[str]:
        return [found for text, by_template in parts if by_template for found in self._control.findall(text)]

    def _disarmed(self, content: str) -> str:
        return self._control.sub(lambda found: found[0][:1] + "\u200b" + found[0][1:], content)

    def _render(self, messages: Sequence[Message], answering: bool) -> str:
        if self._broken:
            raise LabError(self._broken)
        try:
            with limits():
                return _bounded(
                    self._template.generate(messages=list(messages), add_generation_prompt=answering, **self._names)
                )
        except (LimitExceeded, MemoryError, RecursionError) as error:
            why = _first_line(error)
            self._broken = f"The chat template of this model was stopped ({why}) and is not run again. {ADVICE}"
            raise LabError(self._broken) from None
        except Exception as error:  # whatever a template can raise
            raise LabError(f"The chat template of this model refuses ({_first_line(error)}). {ADVICE}") from None


def encode(
    parts: Sequence[tuple[str, bool]],
    control: re.Pattern[str],
    special: dict[str, int],
    words: Callable[[str], list[int]],
) -> list[int]:
    """Token ids. Text between two control tokens is tokenised in one run, as training tokenised it.

    `control` finds the control tokens' texts, `special` gives their ids, `words` tokenises with specials off.
    """
    tokens: list[int] = []
    run = ""
    for text, by_template in parts:
        for piece in control.split(text) if by_template else [text]:
            if by_template and piece in special:
                tokens += words(run) if run else []
                tokens.append(special[piece])
                run = ""
            else:
                run += piece
    return tokens + (words(run) if run else [])


def control_pattern(texts: Sequence[str]) -> re.Pattern[str]:
    """Finds any of the texts, the longest first, and keeps them when it splits."""
    ordered = sorted(texts, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")" if ordered else r"(\A\Z)")


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"**"})  # one huge power is a single step that no alarm can interrupt

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        raise SecurityError(f"{operator} is not allowed")


def _sandbox() -> ImmutableSandboxedEnvironment:
    sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    sandbox.filters["tojson"] = _to_json
    sandbox.globals.update(raise_exception=_raise, strftime_now=lambda form: datetime.now().strftime(form))
    return sandbox


def _raise(message: object) -> None:
    raise TemplateError(str(message)[:200])  # made text here, within the limits


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, sort_keys: bool = False) -> str:
    """As training writes it: Jinja's own would escape for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)


def _bounded(pieces: Iterator[str]) -> str:
    text = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > CHARACTERS:
            raise LimitExceeded(f"it wrote more than {CHARACTERS:,} characters")
        text.append(piece)
    return "".join(text)


def _rewritten(messages: Sequence[Message], rewrite: Callable[[str], str], calls: bool = False) -> list[Message]:
    """The messages with other contents. With `calls`, the texts of tool calls are rewritten, too."""
    new = [message | {"content": rewrite(message["content"])} for message in messages]
    for message in new if calls else ():
        if "tool_calls" in message:
            message["tool_calls"] = _rewritten_value(message["tool_calls"], rewrite)
    return new


def _rewritten_value(value: Any, rewrite: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return rewrite(value)
    if isinstance(value, dict):
        return {key: item if key == "type" else _rewritten_value(item, rewrite) for key, item in value.items()}
    return [_rewritten_value(item, rewrite) for item in value] if isinstance(value, list) else value


def _dotted(content: str) -> str:
    """Of the same shape, with nothing in it that a control token could be made of."""
    return re.sub(r"\S", "·", content)


def _marked(message: Message, place: int) -> Message:
    """The message with a mark: before its content, or behind it if it is an answer. A tool call has none."""
    if "tool_calls" in message:
        return message
    if message["role"] == "assistant":
        return message | {"content": f"{message['content']}{CLOSE}{place}{CLOSE}"}
    return message | {"content": f"{OPEN}{place}{OPEN}{message['content']}"}


def _split(marked: str) -> list[tuple[str, bool]]:
    pieces = re.split(f"{OPEN}(.*?){CLOSE}", marked, flags=re.DOTALL)
    return [(piece, index % 2 == 0) for index, piece in enumerate(pieces) if piece]


def _paired(parts: Sequence[tuple[str, bool]]) -> bool:
    """Whether every bracket found its other half; a template that cuts messages up may lose one."""
    return not any(OPEN in text or CLOSE in text for text, _ in parts)


def _first_line(error: BaseException) -> str:
    line = (str(error) or type(error).__name__).splitlines()[0][:200]
    return line.encode("utf-8", "replace").decode()  # a template can write half a character


@contextmanager
def limits() -> Iterator[None]:
    """Stop what runs inside after SECONDS or MEMORY more bytes. Main thread only: the alarm arrives there.

    Python hears the alarm between two steps; one endless step (hashing tuples nested 60 deep) never lets it. For
    that there is a second timer, whose signal ends the process: the engine says so and starts another.
    """

    def late(number: int, frame: FrameType | None) -> Any:
        raise LimitExceeded(f"it ran for more than {SECONDS:g} seconds")

    handler = signal.signal(signal.SIGALRM, late)
    try:
        with machine.memory_limit(MEMORY):
            try:
                signal.setitimer(signal.ITIMER_PROF, ENDLESS)
                signal.setitimer(signal.ITIMER_REAL, SECONDS)
                yield
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.setitimer(signal.ITIMER_PROF, 0)
    except MemoryError:
        raise LimitExceeded(f"it asked for more than {MEMORY >> 20} MB") from None
    finally:
        signal.signal(signal.SIGALRM, handler)


def fit_history(messages: Sequence[Message], encode: Encode, context: int, max_tokens: int) -> tuple[list[int], int]:
    """Leave out the oldest turns until the prompt fits into the context.

    Returns the prompt's token ids and the number of messages left out. The system message and the newest question are
    always kept; `max_tokens`, but at most a quarter of the context, are kept free for the answer. LabError with the
    code "too_long" if the newest question alone does not fit.
    """
    limit = context - min(max_tokens, context // 4)
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = list(messages[len(system) :])
    starts = [index for index, message in enumerate(turns) if message["role"] == "user"] or [0]
    starts[0] = 0
    low, high = 0, len(starts) - 1
    tokens = encode([*system, *turns])
    if len(tokens) <= limit:
        return tokens, 0
    while low < high:  # find the fewest turns to leave out: the prompt shrinks with each
        middle = (low + high) // 2
        fits = len(encode([*system, *turns[starts[middle] :]])) <= limit
        low, high = (low, middle) if fits else (middle + 1, high)
    tokens = encode([*system, *turns[starts[low] :]])
    if len(tokens) > limit:
        raise LabError(
            f"Your message needs {len(tokens):,} tokens, but this model's context holds {context:,}, of which "
            f"{context - limit:,} are kept for the answer. Send a shorter message, or a part of it.",
            "too_long",
        )
    return tokens, starts[low]
