"""Reads the keys of a GGUF's header with limited memory and time, for any content of the file.

The file is read through a window of one megabyte. Every count and length is checked before it is used. Lists are
skipped, and a text is cut at a length that is enough for a chat template.
"""

import struct
import time
from array import array
from typing import Any, BinaryIO

from models.check.value import BadFile, Fact, decoded

MOST_KEYS, MOST_TENSORS, MOST_NAME = 10_000, 10_000, 256  # MOST_NAME in bytes
MOST_ITEMS = 2_000_000  # of all lists together
MOST_TOKENS = 1 << 19  # twice the largest vocabulary known
MOST_TEXT, MOST_ITEM = 16 << 20, 1 << 20  # bytes; a whole tokenizer as JSON takes 9 MB
STORED_TEXT, STORED_TEXTS = 1 << 16, 4 << 20  # bytes of one text, and of all names and texts together
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
    """Reads a file from its beginning, and counts the time and bytes it takes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self.token_hashes = array("q")
        """A hash of each token of the vocabulary, as llama.cpp reads it."""
        self._file = file
        self._window, self._position, self._read = b"", 0, 0
        self._end = time.thread_time() + MOST_SECONDS  # seconds of computing, so that a busy machine does not count
        self._items = self._stored = 0

    @property
    def offset(self) -> int:
        """Number of bytes of the file that were read or skipped."""
        return self._read - len(self._window) + self._position

    def check_limits(self) -> None:
        """Raise BadFile if the header takes too much time or too many bytes."""
        if time.thread_time() > self._end:
            raise BadFile(f"its header takes longer than {MOST_SECONDS:g} seconds to read")
        if self.offset > MOST_BYTES:
            raise BadFile(f"its header is longer than {MOST_BYTES >> 20} MB")

    def read_bytes(self, count: int) -> bytes:
        """Read the next `count` bytes. Raises BadFile if the file is too short."""
        self._fill(count)
        self._position += count
        return self._window[self._position - count : self._position]

    def numbers(self, form: str) -> tuple[Any, ...]:
        """Read numbers in a format of `struct`."""
        return struct.unpack(form, self.read_bytes(struct.calcsize(form)))

    def name(self, most: int) -> bytes:
        """Read a key or the name of a tensor. Raises BadFile for a long one, and for control characters such as NUL."""
        (length,) = self.numbers("<Q")
        if not 0 < length <= most:
            raise BadFile(f"it has a name of {length:,} bytes instead of 1 to {most}")
        data = self.read_bytes(length)
        if min(data) < 32:
            raise BadFile(f"it has a name with a control character, {decoded(data)!r}")
        self._stored += length
        return data

    def facts(self, count: int) -> dict[str, Fact]:
        """Read all keys with their values. Raises BadFile if a key occurs twice."""
        facts: dict[str, Fact] = {}
        seen = set()
        for _ in range(count):
            self.check_limits()
            name = self.name(MOST_NAME)
            if name in seen:
                raise BadFile(f"it has the key {decoded(name)} twice")
            seen.add(name)
            facts[decoded(name)] = self._fact(name == TOKENS.encode())
        return facts

    def _fact(self, vocabulary: bool) -> Fact:
        (kind,) = self.numbers("<I")
        if kind in NUMBERS:
            return Fact(KINDS[kind], self.numbers("<" + NUMBERS[kind])[0])
        if kind == TEXT:
            return Fact("text", self._text())
        if kind == LIST:
            return self._list(vocabulary)
        raise BadFile(f"it has a value of unknown type {kind}")

    def _text(self) -> str:
        (length,) = self.numbers("<Q")
        if length > MOST_TEXT:
            raise BadFile(f"it has a text of {length:,} bytes in its header")
        data = self.read_bytes(min(length, STORED_TEXT, STORED_TEXTS - min(self._stored, STORED_TEXTS)))
        self._stored += len(data)
        self._skip(length - len(data))
        return decoded(data)

    def _list(self, vocabulary: bool) -> Fact:
        kind, count = self.numbers("<IQ")
        self._items += count
        if self._items > MOST_ITEMS:
            raise BadFile(f"its header has lists of {self._items:,} items")
        if vocabulary and count > MOST_TOKENS:
            raise BadFile(f"its vocabulary has {count:,} tokens, and {MOST_TOKENS:,} are the most")
        if kind == TEXT:
            self._skip_texts(count, vocabulary)
            return Fact("list of text", count, f"{count:,} texts")
        if kind not in NUMBERS:
            raise BadFile(f"it has a list of unknown type {kind}")
        described = f"{count:,} numbers"
        if count <= SHOWN_ITEMS:
            described = ", ".join(f"{number:g}" for number in self.numbers(f"<{count}{NUMBERS[kind]}")) or "nothing"
        else:
            self._skip(struct.calcsize("<" + NUMBERS[kind]) * count)
        return Fact(f"list of {KINDS[kind]}", count, described)

    def _skip_texts(self, count: int, vocabulary: bool) -> None:
        """Skip a list of texts. Lists of 500,000 texts are common, so the loop is written for speed."""
        left, token_hashes = count, self.token_hashes
        while left:
            window, position = self._window, self._position
            last = len(window) - 8
            while left and position <= last:
                start = position + 8
                end = start + _length(window, position)[0]
                if end > len(window):
                    break
                if vocabulary:
                    token_hashes.append(hash(as_read(window[start:end], count - left)))
                position = end
                left -= 1
            self._position = position
            if left:
                self._fill(8)
                (length,) = _length(self._window, self._position)
                if length > MOST_ITEM:
                    raise BadFile(f"it has a text of {length:,} bytes in a list")
                self._fill(8 + length)

    def _fill(self, count: int) -> None:
        """Read until the window has `count` more bytes."""
        if len(self._window) - self._position >= count:
            return
        self.check_limits()
        more = self._file.read(max(WINDOW, count))
        self._read += len(more)
        self._window = self._window[self._position :] + more
        self._position = 0
        if len(self._window) < count:
            raise BadFile("it ends before its header does")

    def _skip(self, count: int) -> None:
        if count > self.size - self.offset:
            raise BadFile("it has a length that exceeds the end of the file")
        if count <= len(self._window) - self._position:
            self._position += count
            return
        self._read = self.offset + count
        self._window, self._position = b"", 0
        self._file.seek(self._read)


def as_read(token: bytes, number: int) -> bytes:
    """A token as llama.cpp reads it: up to the first NUL byte; an empty token gets a name with its number."""
    if b"\0" in token:
        token = token.partition(b"\0")[0]
    return token or b"[EMPTY_%d]" % number
