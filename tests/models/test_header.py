"""The bounded look at a file somebody dropped: what it says, and what it is if it is no model."""

import random
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from conftest import TINY
from support.gguf_layout import F32, FORMS, LIST, TEXT, U32, adapter, miniature

from models.check import BadFile, Header, read_header

SHAPES = {
    "token_embd": (4, 8), "output_norm": (8,), "blk.0.attn_norm": (8,), "blk.0.ffn_norm": (8,), "blk.0.attn_q": (8, 8),
    "blk.0.attn_k": (4, 8), "blk.0.attn_v": (4, 8), "blk.0.attn_output": (8, 8), "blk.0.ffn_gate": (12, 8),
    "blk.0.ffn_up": (12, 8), "blk.0.ffn_down": (8, 12),
}  # fmt: skip


def write(path: Path, architecture: str = "llama", template: str = "{{ messages }}") -> Path:
    """A small valid Llama, written by the gguf package."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Small Llama é")
    writer.add_file_type(15)
    writer.add_license("apache-2.0")
    writer.add_context_length(2048)
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(12)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "bc", "\U0001f600", ""])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_token_scores([0.5, 1.0, 1.5, 2.0])
    writer.add_token_merges(["b c"])
    writer.add_chat_template(template)
    writer.add_bool("llama.bool", True)
    writer.add_float64("llama.double", 0.5)
    for name, shape in SHAPES.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, dtype=np.float32))
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


def words(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def facts(found: Header) -> list[object]:
    """Every property, because a header that was accepted must also be able to answer."""
    return [getattr(found, name) for name, value in vars(Header).items() if isinstance(value, property)]


def test_a_header_says_what_the_file_is(file: Path, small: bytes) -> None:
    found = read(file, small)
    assert (found.architecture, found.name, found.quantisation) == ("llama", "Small Llama é", "Q4_K_M")
    assert (found.context, found.licence, found.template) == (2048, "apache-2.0", "{{ messages }}")
    assert (found.tensors, found.is_adapter, found.vocabulary) == (11, False, 4)
    assert (found.types, found.parameters) == ({"F32": 11}, sum(int(np.prod(shape)) for shape in SHAPES.values()))


def test_what_is_shipped_is_sound() -> None:
    base, lora = read_header(TINY / "tiny_base.gguf"), read_header(TINY / "tiny_lora.gguf")
    assert (base.tensors, base.vocabulary, base.context, base.quantisation) == (39, 1024, 1024, "Q4_K_M")
    assert (base.types, base.parameters) == ({"F32": 10, "Q4_K": 24, "Q6_K": 5}, 3_410_208)
    assert (lora.is_adapter, lora.types, lora.vocabulary) == (True, {"F16": 56}, 0)


def test_lists_are_described_and_what_follows_them_is_read(file: Path, small: bytes) -> None:
    found = read(file, small)
    assert "tokenizer.ggml.tokens" not in found.keys and found.keys["llama.double"] == 0.5
    assert found.lists == {
        "tokenizer.ggml.tokens": "4 texts",
        "tokenizer.ggml.token_type": "1, 1, 1, 3",
        "tokenizer.ggml.scores": "0.5, 1, 1.5, 2",
        "tokenizer.ggml.merges": "1 texts",
    }


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(("count", "wanted"), [(0, "nothing"), (8, "0, 0, 0, 0, 0, 0, 0, 0"), (1234, "1,234 numbers")])
def test_a_list_of_any_numbers_is_described(file: Path, kind: int, count: int, wanted: str) -> None:
    found = read(file, miniature().set("some.list", [0] * count, LIST, kind).bytes())
    assert found.lists["some.list"] == wanted


def test_an_adapter_is_known_by_its_type(file: Path) -> None:
    assert read(file, adapter().bytes()).is_adapter


def test_version_2_is_read_too(file: Path) -> None:
    model = miniature()
    model.version = 2
    assert read(file, model.bytes()).architecture == "llama"


def test_a_header_that_says_little_has_answers_to_everything(file: Path) -> None:
    found = read(file, miniature().drop("general.name").bytes())
    assert (found.name, found.quantisation, found.licence, found.template) == ("", "", "unknown", "")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "it is a web page, not a model (the download was answered with an error page)"),
        (b"\xef\xbb\xbf\r\n <HTML lang=en>", "it is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "it is a Git LFS pointer"),
        (b"PK\x03\x04" + bytes(100), "it is a zip archive, as PyTorch's .bin files are"),
        (b"\x80\x02}q\x00", "it is a Python pickle, which this app never opens"),
        (b"\x1f\x8b\x08\x00", "it is a compressed archive"),
        (words(b'{"__metadata__":{"format":"pt"}}'), "it is a safetensors file"),
        (b'{"architectures": ["LlamaForCausalLM"]}', "it is a JSON text"),
        (b'\n[{"error": "not found"}]', "it is a JSON text"),
        (b"lmgg\x01\x00\x00\x00", "it is in a format older than GGUF"),
        (b"tjgg\x03\x00\x00\x00", "it is in a format older than GGUF"),
        (b"FUGG\x00\x00\x00\x03", "it is a big-endian GGUF"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(100), "it is a big-endian GGUF"),
        (bytes(1000), "it begins with zeros"),
        (b"GGU", "it does not begin with GGUF"),
        (b"gguf" + bytes(20), "it does not begin with GGUF"),
        (b"\x7fELF", "it does not begin with GGUF"),
        (b"GGUF", "it ends before its header does"),
        (b"GGUF\x03\x00\x00\x00", "it ends before its header does"),
    ],
)
def test_a_file_that_is_no_gguf_is_called_what_it_is(file: Path, data: bytes, what: str) -> None:
    with pytest.raises(BadFile) as caught:
        read(file, data)
    assert str(caught.value).startswith(what)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"general.architecture": (b"qwen2", TEXT)}, "its architecture is qwen2, and only llama is supported"),
        ({"general.architecture": (b"LLAMA", TEXT)}, "its architecture is LLAMA, and only llama is supported"),
        ({"general.architecture": (b"llama" * 100, TEXT)}, "its architecture is " + "llama" * 8 + ", and only"),
        ({"general.architecture": (b"", TEXT)}, "its architecture is missing, and only llama is supported"),
        ({"general.architecture": (5, U32)}, "its architecture is 5, and only llama is supported"),
        ({"general.architecture": (b"clip", TEXT)}, "it is the vision part of a model (mmproj)"),
        ({"general.type": (b"mmproj", TEXT)}, "it is the vision part of a model (mmproj)"),
        ({"general.architecture": (b"nomic-bert", TEXT)}, "its architecture is nomic-bert, which makes embeddings"),
        ({"general.type": (b"vocab", TEXT)}, "it has a vocabulary only"),
        ({"split.count": (3, 2), "split.no": (1, 2)}, "it is part 2 of 3 of a split model; split models"),
        ({"split.count": (3, 2)}, "it is one of the 3 parts of a split model"),
        ({"llama.expert_count": (8, U32)}, "it is a mixture of experts, which this app does not support"),
        ({"llama.attention.causal": (False, 7)}, "it is a model for embeddings, which cannot answer"),
        ({"llama.pooling_type": (1, U32)}, "it is a model for embeddings, which cannot answer"),
    ],
)
def test_an_honest_file_that_cannot_run_here_hears_why(
    file: Path, changes: dict[str, tuple[object, int]], what: str
) -> None:
    model = miniature()
    for name, (value, kind) in changes.items():
        model.set(name, value, kind)
    with pytest.raises(BadFile) as caught:
        read(file, model.bytes())
    assert str(caught.value).startswith(what) and len(str(caught.value)) < 200


def test_a_vocabulary_without_weights_is_called_that(file: Path) -> None:
    model = miniature()
    model.rows = []
    with pytest.raises(BadFile, match="a vocabulary only"):
        read(file, model.bytes())


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("general.license", 7, U32),
        ("general.type", True, 7),
        ("general.type", [1, 2], LIST),
        ("general.quantization_version", b"two", TEXT),
        ("tokenizer.chat_template", 1.5, F32),
        ("some.text", b"\xff\xfe\x00", TEXT),
    ],
)
def test_a_value_of_another_type_than_expected_does_no_harm(file: Path, name: str, value: object, kind: int) -> None:
    found = read(file, miniature().set(name, value, kind, U32).bytes())
    assert facts(found) and isinstance(found.context, int)


def test_names_and_texts_that_are_no_utf_8_are_shown_all_the_same(file: Path) -> None:
    model = miniature().set("general.name", b"caf\xe9", TEXT)
    model.keys[-1].name += b"\xe9"
    found = read(file, model.set("tokenizer.ggml.merges", [b"\xff"], LIST, TEXT).bytes())
    assert found.name == "caf\ufffd" and found.lists["tokenizer.ggml.merges\ufffd"] == "1 texts"


def test_a_missing_file_is_an_os_error(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(file)


def test_damaged_bytes_end_in_a_header_or_a_refusal(file: Path, small: bytes) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, refused = random.Random(seed), 0
    for _ in range(500):
        data = bytearray(small)
        data[chance.randrange(1800)] = chance.randrange(256)
        try:
            assert len(facts(read(file, bytes(data)))) == 7
        except BadFile as error:
            refused += 1
            assert str(error).encode() and str(error)[0].islower()
    assert 0 < refused < 500
