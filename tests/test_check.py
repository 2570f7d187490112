"""The bounded look at a file somebody dropped."""

import random
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from models import check
from models.check import BadFile, Header, read_header

ROOT = Path(__file__).parents[1]


def write(path: Path, architecture: str = "llama", template: str = "{{ messages }}") -> Path:
    """A small valid GGUF with one tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Small Llama é")
    writer.add_file_type(15)
    writer.add_license("apache-2.0")
    writer.add_context_length(2048)
    writer.add_token_list(["a", "bc", "\U0001f600", ""])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_token_scores([0.5, 1.0, 1.5, 2.0])
    writer.add_chat_template(template)
    writer.add_bool("llama.bool", True)
    writer.add_float64("llama.double", 0.5)
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("gguf") / "small.gguf").read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.gguf"


def read(path: Path, data: bytes) -> Header:
    path.write_bytes(data)
    return read_header(path)


def text(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


def header(*keys: bytes, version: int = 3, tensors: int = 1, count: int | None = None) -> bytes:
    """A header of raw keys behind the architecture."""
    llama = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    counts = struct.pack("<IQQ", version, tensors, len(keys) + 1 if count is None else count)
    return b"GGUF" + counts + llama + b"".join(keys)


def key(kind: int, value: bytes, name: bytes = b"key") -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return key(9, struct.pack("<IQ", kind, count) + items)


def facts(found: Header) -> list[object]:
    """Every property, because a header that was accepted must also be able to answer."""
    return [getattr(found, name) for name, value in vars(Header).items() if isinstance(value, property)]


def test_a_header_says_what_the_file_is(file: Path, small: bytes) -> None:
    found = read(file, small)
    assert (found.architecture, found.name, found.quantisation) == ("llama", "Small Llama é", "Q4_K_M")
    assert (found.context, found.licence, found.template) == (2048, "apache-2.0", "{{ messages }}")
    assert (found.tensors, found.is_adapter) == (1, False)


def test_lists_are_passed_over_and_what_follows_them_is_read(file: Path, small: bytes) -> None:
    found = read(file, small)
    assert "tokenizer.ggml.tokens" not in found.keys and found.keys["llama.double"] == 0.5


def test_an_adapter_is_known_by_its_type(file: Path) -> None:
    assert read(file, header(key(8, text(b"adapter"), b"general.type"))).is_adapter


def test_version_2_is_read_too(file: Path) -> None:
    assert read(file, header(version=2)).architecture == "llama"


def test_a_header_alone_has_answers_to_everything(file: Path) -> None:
    found = read(file, header())
    assert (found.context, found.quantisation, found.licence, found.template) == (0, "", "unknown", "")


def test_a_file_cut_anywhere_in_its_first_bytes_is_refused(file: Path, small: bytes) -> None:
    for length in range(300):
        with pytest.raises(BadFile):
            read(file, small[:length])


@pytest.mark.parametrize(
    "magic", [b"", b"GGU", b"GGML", b"gguf", b"FUGG", b"PK\x03\x04", b"\x00" * 100, b"<!DOCTYPE html>"]
)
def test_a_file_that_begins_otherwise_is_refused(file: Path, magic: bytes) -> None:
    with pytest.raises(BadFile):
        read(file, magic)


def test_a_big_endian_file_is_refused(file: Path) -> None:
    with pytest.raises(BadFile, match="counts make no sense"):
        read(file, b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + b"\x00" * 100)


@pytest.mark.parametrize("architecture", ["qwen2", "clip", "", "LLAMA", "llama" * 100])
def test_another_architecture_is_refused_by_name(file: Path, architecture: str) -> None:
    with pytest.raises(BadFile, match=architecture[:40] or "not given"):
        read_header(write(file, architecture))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (header(version=1), "version 1"),
        (header(version=2**32 - 1), "version 4294967295"),
        (header(tensors=2**64 - 1), "18446744073709551615 tensors"),
        (header(count=2**64 - 1), "18446744073709551615 keys"),
        (header(count=10_000), "ends before"),
        (header(key(8, text(b"x", 2**64 - 1))), "text of 18446744073709551615 bytes"),
        (header(key(8, text(b"x", 2**63))), "text of"),
        (header(key(8, text(b"x", 1000))), "ends before"),
        (header(key(4, struct.pack("<I", 1), b"n" * 2000)[:1500]), "passes its own end"),
        (header(text(b"", 2**64 - 1)), "text of"),
        (header(key(13, b"")), "unknown type 13"),
        (header(key(2**32 - 1, b"")), "unknown type"),
        (header(array(4, 2**64 - 1)), "lists of 18446744073709551615"),
        (header(array(12, 1_999_999)), "passes its own end"),
        (header(array(8, 1_999_999)), "ends before"),
        (header(array(8, 1, struct.pack("<Q", 2**64 - 1))), "passes its own end"),
        (header(array(8, 1, struct.pack("<Q", 2**63))), "passes its own end"),
        (header(array(9, 1)), "list of unknown type 9"),
        (header(array(77, 0)), "list of unknown type 77"),
    ],
)
def test_a_count_or_length_that_makes_no_sense_is_refused(file: Path, data: bytes, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        read(file, data)


@pytest.mark.parametrize(
    "value",
    [
        key(8, text(b"long"), b"llama.context_length"),
        key(6, struct.pack("<f", float("nan")), b"llama.context_length"),
        key(6, struct.pack("<f", float("inf")), b"llama.context_length"),
        key(8, text(b"\xff\xfe\x00"), b"general.name"),
        key(4, struct.pack("<I", 7), b"general.name"),
        key(8, text(b"fifteen"), b"general.file_type"),
        key(12, struct.pack("<d", float("nan")), b"general.file_type"),
        key(7, b"\x07", b"general.type"),
        key(9, struct.pack("<IQ", 4, 1) + b"\x00" * 4, b"general.license"),
    ],
)
def test_a_value_of_another_type_than_expected_does_no_harm(file: Path, value: bytes) -> None:
    found = read(file, header(value))
    assert facts(found) and isinstance(found.context, int)


def test_a_text_longer_than_a_chat_template_is_cut(file: Path) -> None:
    found = read(file, header(key(8, text(b"x" * 1_000_000)), key(4, struct.pack("<I", 5), b"after")))
    assert (len(found.keys["key"]), found.keys["after"]) == (check.KEPT_TEXT, 5)


def test_a_header_of_many_long_texts_is_refused(file: Path) -> None:
    many = [key(8, text(b"x" * 1_000_000), b"%d" % number) for number in range(80)]
    with pytest.raises(BadFile, match="longer than 64 MB"):
        read(file, header(*many))


def test_lists_are_counted_together(file: Path) -> None:
    items = array(0, 1_500_000, b"x" * 1_500_000)
    assert read(file, header(items)).architecture == "llama"
    with pytest.raises(BadFile, match="lists of 3000000 items"):
        read(file, header(items, items))


def test_a_missing_file_is_an_os_error(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(file)


def test_damaged_bytes_end_in_a_header_or_a_refusal(file: Path, small: bytes) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    refused = 0
    for _ in range(500):
        data = bytearray(small)
        data[chance.randrange(len(data) - 160)] = chance.randrange(256)
        try:
            assert len(facts(read(file, bytes(data)))) == 7
        except BadFile as error:
            refused += 1
            assert str(error).encode()
    assert 0 < refused < 500


BOUNDED = """
import resource, sys
from pathlib import Path
from models.check import BadFile, read_header
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_header(path)
    except BadFile:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_bounded_whatever_the_file_claims(tmp_path: Path, small: bytes) -> None:
    chance = random.Random(1)
    for number in range(100):
        data = bytearray(small)
        for _ in range(3):
            place = chance.randrange(len(data) - 8)
            data[place : place + 8] = struct.pack("<Q", chance.choice([2**20, 2**31, 2**40, 2**63, 2**64 - 1]))
        (tmp_path / f"{number}.gguf").write_bytes(data)
    done = subprocess.run([sys.executable, "-c", BOUNDED, str(tmp_path)], cwd=ROOT, capture_output=True, check=True)
    assert int(done.stdout) * (1 if sys.platform == "darwin" else 1024) < 16 << 20
