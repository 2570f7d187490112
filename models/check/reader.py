"""The keys of a GGUF's header, read within bounds: whatever the file says, it costs little memory and little time.

The file is read through a window of a megabyte; every count and length is checked before it is used; lists are passed
over, and of a text no more is kept than a chat template takes.
"""

import struct
import time
from array import array
from typing import Any, BinaryIO

from models.check.value import BadFile, Fact, shown

MOST_KEYS, MOST_TENSORS, MOST_NAME = 10_000, 10_000, 256  # a name is counted in bytes
MOST_ITEMS = 2_000_000  # of all lists together
MOST_TOKENS = 1 << 19  # the largest vocabulary known has half of it
MOST_TEXT, MOST_ITEM = 16 << 20, 1 << 20  # bytes; a whole tokenizer as JSON takes 9 MB
KEPT_TEXT, KEPT_TEXTS = 1 << 16, 4 << 20  # bytes of one text, and of all names and texts together
MOST_BYTES = 64 << 20  # of the whole header; a large vocabulary takes 20 MB
MOST_SECONDS = 2.0
WINDOW = 1 << 20
SHOWN_ITEMS = 8

TEXT, LIST = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
KINDS = {
    0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "text", 9: "list", 10: "u64",
    11: "i64", 12: "f64",
}  # fmt: skip
TOKENS = "tokenizer.ggml.tokens"
_length = struct.Struct("<Q").unpack_from


class Reader:
    """A file from its beginning on, with what was spent on it so far."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self.words = array("q")
        """A hash of each token of the vocabulary, as llama.cpp will spell it."""
        self._file = file
        self._window, self._place, self._read = b"", 0, 0
        self._end = time.thread_time() + MOST_SECONDS  # of computing: a busy machine is not the file's fault
        self._items = self._kept = 0

    @property
    def at(self) -> int:
        """How many bytes of the file lie behind."""
        return self._read - len(self._window) + self._place

    def hurry(self) -> None:
        """BadFile once the time or the room for a header is used up."""
        if time.thread_time() > self._end:
            raise BadFile(f"its header takes longer than {MOST_SECONDS:g} seconds to read")
        if self.at > MOST_BYTES:
            raise BadFile(f"its header is longer than {MOST_BYTES >> 20} MB")

    def take(self, count: int) -> bytes:
        """The next bytes. BadFile if the file ends before."""
        self._fill(count)
        self._place += count
        return self._window[self._place - count : self._place]

    def numbers(self, form: str) -> tuple[Any, ...]:
        """Numbers as `struct` writes them."""
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def name(self, most: int) -> bytes:
        """A key or the name of a tensor: short, and without what C would read as its end."""
        (length,) = self.numbers("<Q")
        if not 0 < length <= most:
            raise BadFile(f"it holds a name of {length:,} bytes, where 1 to {most} belong")
        data = self.take(length)
        if min(data) < 32:
            raise BadFile(f"it holds a name with a control character, {shown(data)!r}")
        self._kept += length
        return data

    def facts(self, count: int) -> dict[str, Fact]:
        """All keys with their values. BadFile if one is there twice."""
        facts: dict[str, Fact] = {}
        seen = set()
        for _ in range(count):
            self.hurry()
            name = self.name(MOST_NAME)
            if name in seen:
                raise BadFile(f"it says {shown(name)} twice")
            seen.add(name)
            facts[shown(name)] = self._fact(name == TOKENS.encode())
        return facts

    def _fact(self, vocabulary: bool) -> Fact:
        (kind,) = self.numbers("<I")
        if kind in NUMBERS:
            return Fact(KINDS[kind], self.numbers("<" + NUMBERS[kind])[0])
        if kind == TEXT:
            return Fact("text", self._text())
        if kind == LIST:
            return self._list(vocabulary)
        raise BadFile(f"it holds a value of unknown type {kind}")

    def _text(self) -> str:
        (length,) = self.numbers("<Q")
        if length > MOST_TEXT:
            raise BadFile(f"it holds a text of {length:,} bytes in its header")
        data = self.take(min(length, KEPT_TEXT, KEPT_TEXTS - min(self._kept, KEPT_TEXTS)))
        self._kept += len(data)
        self._skip(length - len(data))
        return shown(data)

    def _list(self, vocabulary: bool) -> Fact:
        kind, count = self.numbers("<IQ")
        self._items += count
        if self._items > MOST_ITEMS:
            raise BadFile(f"its header holds lists of {self._items:,} items")
        if vocabulary and count > MOST_TOKENS:
            raise BadFile(f"its vocabulary has {count:,} tokens, and {MOST_TOKENS:,} are the most")
        if kind == TEXT:
            self._pass_texts(count, vocabulary)
            return Fact("list of text", count, f"{count:,} texts")
        if kind not in NUMBERS:
            raise BadFile(f"it holds a list of unknown type {kind}")
        described = f"{count:,} numbers"
        if count <= SHOWN_ITEMS:
            described = ", ".join(f"{number:g}" for number in self.numbers(f"<{count}{NUMBERS[kind]}")) or "nothing"
        else:
            self._skip(struct.calcsize("<" + NUMBERS[kind]) * count)
        return Fact(f"list of {KINDS[kind]}", count, described)

    def _pass_texts(self, count: int, vocabulary: bool) -> None:
        """Walk over a list of texts, a window at a time. Half a million of them are ordinary, hence the plain loop."""
        left, words = count, self.words
        while left:
            window, place = self._window, self._place
            last = len(window) - 8
            while left and place <= last:
                begin = place + 8
                end = begin + _length(window, place)[0]
                if end > len(window):
                    break
                if vocabulary:
                    words.append(hash(spelled(window[begin:end], count - left)))
                place = end
                left -= 1
            self._place = place
            if left:
                self._fill(8)
                (length,) = _length(self._window, self._place)
                if length > MOST_ITEM:
                    raise BadFile(f"it holds a text of {length:,} bytes in a list")
                self._fill(8 + length)

    def _fill(self, count: int) -> None:
        """Have that many more bytes in the window."""
        if len(self._window) - self._place >= count:
            return
        self.hurry()
        more = self._file.read(max(WINDOW, count))
        self._read += len(more)
        self._window = self._window[self._place :] + more
        self._place = 0
        if len(self._window) < count:
            raise BadFile("it ends before its header does")

    def _skip(self, count: int) -> None:
        if count > self.size - self.at:
            raise BadFile("it names a length that passes its own end")
        if count <= len(self._window) - self._place:
            self._place += count
            return
        self._read = self.at + count
        self._window, self._place = b"", 0
        self._file.seek(self._read)


def spelled(token: bytes, number: int) -> bytes:
    """A token as llama.cpp will have it: up to the first zero byte; one that is empty then gets a name of its own."""
    if b"\0" in token:
        token = token.partition(b"\0")[0]
    return token or b"[EMPTY_%d]" % number
