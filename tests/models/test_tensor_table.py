"""The table of tensors: names, shapes, types, places, and a file that ends too soon."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from support.gguf_layout import F32, LIST, U32, Gguf, Row, adapter, miniature, plain
from support.mangle import cuts

from models.check import BadFile, Header, read_header
from models.check.tensors import TYPES

HEADER = 30_496  # bytes of the toy before its data


def read(folder: Path, model: Gguf) -> Header:
    path = folder / "file.gguf"
    path.write_bytes(model.bytes())
    return read_header(path)


def refusal(folder: Path, model: Gguf) -> str:
    with pytest.raises(BadFile) as caught:
        read(folder, model)
    assert len(str(caught.value)) < 200
    return str(caught.value)


def test_a_model_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    shutil.copy(TINY / "tiny_base.gguf", path)
    whole = path.read_bytes()
    read_header(path)
    for length in sorted(cuts(whole, HEADER, 64, 200), reverse=True):
        os.truncate(path, length)
        with pytest.raises(BadFile) as caught:
            read_header(path)
        if length >= HEADER:
            wanted = f"it is incomplete: its header requires {len(whole):,} bytes and the file has {length:,}"
            assert str(caught.value) == wanted


def test_an_adapter_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    whole = (TINY / "tiny_lora.gguf").read_bytes()
    path.write_bytes(whole)
    for length in sorted(cuts(whole, 4352, 64, 50), reverse=True):
        os.truncate(path, length)
        with pytest.raises(BadFile, match="incomplete|ends before|empty|does not begin"):
            read_header(path)


def test_the_small_models_are_sound_before_they_are_damaged(tmp_path: Path) -> None:
    assert read(tmp_path, miniature()).tensors == 11 and read(tmp_path, adapter()).tensors == 2


def row(**changes: object) -> Callable[[Gguf], object]:
    """Change the first matrix of the miniature."""

    def change(model: Gguf) -> None:
        for name, value in changes.items():
            setattr(model.row("blk.0.attn_q.weight"), name, value)

    return change


def add(*rows: Row) -> Callable[[Gguf], object]:
    def change(model: Gguf) -> None:
        model.rows += rows
        model.lay()

    return change


def aligned(value: int, kind: int = U32, by: int = 32) -> Callable[[Gguf], object]:
    def change(model: Gguf) -> None:
        model.set("general.alignment", value, kind)
        model.alignment = by
        model.lay()

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (row(name=b"x" * 64), "name of 64 bytes instead of 1 to 63"),
        (row(name=b""), "name of 0 bytes"),
        (row(name=b"rope_freqs.weight\0"), "control character"),
        (row(name=b"blk.0.attn_k.weight"), "two tensors named blk.0.attn_k.weight"),
        (row(dimensions=0), "attn_q.weight has 0 dimensions instead of 1 to 4"),
        (row(dimensions=2**32 - 1), "4,294,967,295 dimensions"),
        (row(shape=[1] * 5), "has 5 dimensions"),
        (row(shape=[8, 0]), "invalid shape: 8 x 0"),
        (row(shape=[-8, 8]), "invalid shape: -8 x 8"),
        (row(shape=[2**63 - 1, 8]), "invalid shape"),
        (row(shape=[2**40, 2**40, 2**40, 2**40]), "at 864 instead|begins at|requires"),
        (row(type=4), "attn_q.weight is of unknown type 4"),
        (row(type=2**32 - 1), "unknown type 4,294,967,295"),
        (row(type=12), "rows of 8, which Q4_K cannot divide into blocks of 256"),
        (row(offset=33), "begins at 33, which is not a multiple of 32"),
        (row(offset=0), "begins at 0 instead of 224"),
        (row(offset=2**64 - 32), "begins at 18,446,744,073,709,551,584 instead of 224"),
        (row(shape=[8, 16]), "begins at 480 instead of 736"),
        (lambda model: model.rows.reverse(), "instead of 0"),
        (aligned(0), "alignment is 0, which is not a power of two between 8 and 65,536"),
        (aligned(4), "alignment is 4,"),
        (aligned(48), "alignment is 48,"),
        (aligned(2**31), "alignment is 2,147,483,648,"),
        (aligned(32, 10), "alignment is of type u64 instead of u32"),
        (aligned(32, F32), "alignment is of type f32 instead of u32"),
        (lambda model: model.set("general.alignment", [32], LIST, U32), "type list of u32 instead of u32"),
        (aligned(8, by=8), "not aligned to 32 bytes"),
        (row(name=b"blk.0.other.weight"), "attn_q.weight is missing"),
        (add(plain("other.weight", [8, 8])), "it has other.weight, which is not a tensor of a Llama"),
        (add(plain("blk.1.attn_q.weight", [8, 8])), "blk.1.attn_q.weight, but its header has 1 blocks"),
        (add(plain("blk.99999.attn_q.weight", [8, 8])), "has 1 blocks"),
        (add(plain("output.weight", [8, 5])), "output.weight is 8 x 5 but its header requires 8 x 4"),
        (add(plain("rope_freqs.weight", [4])), "rope_freqs.weight is 4 but its header requires 2"),
        (add(Row(b"rope_freqs.weight", [2], 1, bytes(4))), "is of type F16, which is not supported"),
        (add(Row(b"output.weight", [8, 4], 26, bytes(128))), "is of type I32, which is not supported"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path: Path, change: Callable[[Gguf], object], why: str) -> None:
    model = miniature()
    change(model)
    found = refusal(tmp_path, model)
    assert any(part in found for part in why.split("|")), found


@pytest.mark.parametrize("alignment", [32, 64, 4096, 65_536])
def test_other_alignments_are_read(tmp_path: Path, alignment: int) -> None:
    model = miniature()
    aligned(alignment, by=alignment)(model)
    assert read(tmp_path, model).tensors == 11


@pytest.mark.parametrize(
    "extra",
    [
        plain("output.weight", [8, 4]),
        plain("rope_freqs.weight", [2]),
        plain("blk.0.attn_q.bias", [8]),
        plain("blk.0.ffn_up.bias", [12]),
        plain("output.weight", [8, 4, 1, 1]),
    ],
)
def test_what_a_llama_may_have_is_read(tmp_path: Path, extra: Row) -> None:
    model = miniature()
    add(extra)(model)
    assert read(tmp_path, model).tensors == 12


@pytest.mark.parametrize("name", SHAPES := [row.name.decode() for row in miniature().rows])
def test_every_tensor_is_needed_in_its_shape(tmp_path: Path, name: str) -> None:
    without, other = miniature(), miniature()
    without.rows.remove(without.row(name))
    assert refusal(tmp_path, without.lay()) == f"its tensor {name} is missing"
    other.rows[SHAPES.index(name)] = plain(name, [6] * len(other.row(name).shape))
    assert f"its tensor {name} is 6" in refusal(tmp_path, other.lay())


def test_a_shorter_file_than_its_tensors_says_both_lengths(tmp_path: Path) -> None:
    path = tmp_path / "file.gguf"
    whole = miniature().bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(BadFile, match=f"header requires {len(whole):,} bytes and the file has {len(whole) - 1:,}"):
        read_header(path)


def test_bytes_behind_the_last_tensor_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "file.gguf"
    path.write_bytes(miniature().bytes() + b"x" * 100)
    assert read_header(path).tensors == 11


SIZES = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.ggml_type_name.restype, library.ggml_blck_size.restype = ctypes.c_char_p, ctypes.c_int64
library.ggml_type_size.restype = ctypes.c_size_t
for kind in range(int(sys.argv[2]) + 1):
    name = library.ggml_type_name(kind).decode().split()[0]
    print(kind, name, library.ggml_blck_size(kind), library.ggml_type_size(kind))
"""


def test_the_types_are_those_of_the_llama_cpp_that_is_installed() -> None:
    code = "import llama_cpp, pathlib; print(*(pathlib.Path(llama_cpp.__file__).parent / 'lib').glob('libggml-base.*'))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    command = [sys.executable, "-c", SIZES, found.stdout.split()[0], str(max(TYPES))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    theirs = {}
    for line in lines:
        kind, name, block, size = line.split()
        if int(size):
            theirs[int(kind)] = (name.upper(), int(block), int(size))
    assert theirs == TYPES
