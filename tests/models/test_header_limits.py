"""What the look at a dropped file costs, and that no count or length in it is believed."""

import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from support.gguf_layout import LIST, TEXT, miniature, plain

from models.check import BadFile, Header, read_header, reader


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.gguf"


def read(path: Path, data: bytes) -> Header:
    path.write_bytes(data)
    return read_header(path)


def words(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


def head(*keys: bytes, version: int = 3, tensors: int = 1, count: int | None = None) -> bytes:
    """A header of raw keys behind the architecture, and no tensors."""
    llama = words(b"general.architecture") + struct.pack("<I", 8) + words(b"llama")
    counts = struct.pack("<IQQ", version, tensors, len(keys) + 1 if count is None else count)
    return b"GGUF" + counts + llama + b"".join(keys)


def key(kind: int, value: bytes, name: bytes = b"key") -> bytes:
    return words(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"", name: bytes = b"key") -> bytes:
    return key(9, struct.pack("<IQ", kind, count) + items, name)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (head(version=1), "version 1 of GGUF"),
        (head(version=0), "version 0"),
        (head(version=2**32 - 1), "version 4294967295"),
        (head(tensors=2**64 - 1), "18,446,744,073,709,551,615 tensors"),
        (head(count=2**64 - 1), "18,446,744,073,709,551,615 keys"),
        (head(count=10_000), "ends before"),
        (head(key(8, words(b"x", 2**64 - 1))), "text of 18,446,744,073,709,551,615 bytes"),
        (head(key(8, words(b"x", 2**63))), "text of"),
        (head(key(8, words(b"x", 1000))), "ends before"),
        (head(key(8, words(b"x" * 70_000, 80_000))), "exceeds the end of the file"),
        (head(key(4, bytes(4), b"n" * 257)), "name of 257 bytes"),
        (head(words(b"", 2**64 - 1)), "name of 18,446,744,073,709,551,615 bytes"),
        (head(key(4, bytes(4), b"")), "name of 0 bytes"),
        (head(key(4, bytes(4), b"llama.block_count\0")), "control character"),
        (head(key(4, bytes(4)), key(5, bytes(4))), "it has the key key twice"),
        (head(key(13, b"")), "unknown type 13"),
        (head(key(2**32 - 1, b"")), "unknown type"),
        (head(array(4, 2**64 - 1)), "lists of 18,446,744,073,709,551,615"),
        (head(array(12, 1_999_999)), "exceeds the end of the file"),
        (head(array(8, 1_999_999)), "ends before"),
        (head(array(8, 1, struct.pack("<Q", 2**64 - 1))), "text of 18,446,744,073,709,551,615 bytes in a list"),
        (head(array(8, 1, struct.pack("<Q", 2**63))), "text of"),
        (head(array(8, 1, struct.pack("<Q", 1000))), "ends before"),
        (head(array(9, 1)), "list of unknown type 9"),
        (head(array(77, 0)), "list of unknown type 77"),
        (head(array(8, 600_000, name=b"tokenizer.ggml.tokens")), "vocabulary has 600,000 tokens"),
    ],
)
def test_a_count_or_length_that_makes_no_sense_is_refused(file: Path, data: bytes, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        read(file, data)


def test_a_text_longer_than_a_chat_template_is_cut(file: Path) -> None:
    found = read(file, miniature().set("key", b"x" * 1_000_000, TEXT).set("after", 5).bytes())
    assert (len(found.keys["key"]), found.keys["after"]) == (reader.STORED_TEXT, 5)


def test_all_texts_together_are_cut_too(file: Path) -> None:
    model = miniature()
    for number in range(100):
        model.set(f"key{number}", b"x" * 100_000, TEXT)
    kept = [value for value in read(file, model.bytes()).keys.values() if isinstance(value, str)]
    assert len(kept) > 100 and sum(map(len, kept)) <= reader.STORED_TEXTS


def test_a_header_of_many_long_texts_is_refused(file: Path) -> None:
    many = [key(8, words(b"x" * 1_000_000), b"%d" % number) for number in range(80)]
    with pytest.raises(BadFile, match="longer than 64 MB"):
        read(file, head(*many))


def test_lists_are_counted_together(file: Path) -> None:
    model = miniature().set("one", [0] * 1_500_000, LIST, 0)
    assert read(file, model.bytes()).architecture == "llama"
    with pytest.raises(BadFile, match="lists of 3,000,0"):
        read(file, model.set("two", [0] * 1_500_000, LIST, 0).bytes())


def test_the_time_is_limited(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_SECONDS", -1.0)
    with pytest.raises(BadFile, match="takes longer than -1 seconds to read"):
        read(file, miniature().bytes())


def test_the_time_runs_out_inside_a_list_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = miniature().set("long", [b"x" * 1000] * 6000, LIST, TEXT).bytes()
    assert read(file, data)
    clock = iter(range(1000))
    few = len(miniature().keys) + 1
    monkeypatch.setattr(reader, "MOST_SECONDS", few + 4.5)  # each look at the clock costs a second
    monkeypatch.setattr(reader.time, "thread_time", lambda: next(clock))
    with pytest.raises(BadFile, match="takes longer than"):
        read(file, data)
    assert next(clock) < few + 8


BOUNDED = """
import resource, sys
from pathlib import Path
from models.check import BadFile, read_header
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_header(path)
        print("read")
    except BadFile as error:
        print(error)
"""


def large_vocabulary() -> bytes:
    """A sound model with as many tokens as there may be."""
    model = miniature().drop("tokenizer.ggml.token_type")
    tokens = [b"<0x%02X>" % byte for byte in range(256)] + [b"%090d" % number for number in range(256, 1 << 19)]
    model.set("tokenizer.ggml.tokens", tokens, LIST, TEXT).set("tokenizer.ggml.model", b"llama", TEXT)
    model.rows[0] = plain("token_embd.weight", [8, 1 << 19])
    return model.lay().bytes()


def costly(folder: Path) -> int:
    """Write the worst files that the limits let through, and some that they do not. How many."""
    long = b"n" * 240
    files = [
        head(array(TEXT, 1_999_999, bytes(16 * 10**6))),
        large_vocabulary(),
        head(*(key(TEXT, words(bytes(1_000_000)), b"%d" % n) for n in range(60))),
        head(*(key(TEXT, words(bytes(5000)), long + b"%d" % n) for n in range(9_999))),
        head(*(array(12, 8, bytes(64), long + b"%d" % n) for n in range(9_999))),
        head(array(TEXT, 55, words(bytes(1 << 20)) * 55)),
        head(array(TEXT, 1_999_999, words(b"x" * 22) * 1_999_999)),
        head(array(0, 1_999_999, bytes(1_999_999)), key(TEXT, words(b"x", 2**50))),
        head(tensors=10_000) + b"".join(
            words(b"%063d" % n) + struct.pack("<I4qIQ", 4, 1, 1, 1, 1, 0, 32 * n) for n in range(10_000)
        ),
    ]  # fmt: skip
    for number, data in enumerate(files):
        (folder / f"{number}.gguf").write_bytes(data)
    return len(files)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is counted from /proc")
def test_memory_stays_bounded_whatever_the_file_claims(tmp_path: Path) -> None:
    many, chance, small = costly(tmp_path), random.Random(1), miniature().bytes()
    for number in range(100):
        data = bytearray(small)
        for _ in range(3):
            place = chance.randrange(1000)
            data[place : place + 8] = struct.pack("<Q", chance.choice([2**20, 2**31, 2**40, 2**63, 2**64 - 1]))
        (tmp_path / f"x{number}.gguf").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= many + 100
    assert lines[1] == "read"  # the largest vocabulary; the files come in the order of their names
