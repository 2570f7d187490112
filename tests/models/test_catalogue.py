"""Which variants there are, and how they stand."""

import json
import os
from pathlib import Path

import pytest
from support.gguf_layout import TEXT, adapter, miniature

from models.catalogue import Entry, catalogue, list_variants
from models.templates import templates

ONE, THREE = "jacobbista/llama3-1b-finetome", "jacobbista/llama3-3b-finetome"
LAB = {
    "base_1b": ("unsloth/Llama-3.2-1B-Instruct-GGUF", "main", "Llama-3.2-1B-Instruct-Q4_K_M.gguf", "base", "own"),
    "base_3b": ("unsloth/Llama-3.2-3B-Instruct-GGUF", "main", "Llama-3.2-3B-Instruct-Q4_K_M.gguf", "base", "own"),
    "1b_lora": (ONE, "1B_LoRA_N1000", "Llama-3.2-1B-Instruct.Q4_K_M.gguf", "lora", "alpaca"),
    "1b_qlora": (ONE, "1B_QLoRA_N1000", "Llama-3.2-1B-Instruct.Q4_K_M.gguf", "qlora", "alpaca"),
    "3b_qlora": (THREE, "3B_QLoRA_N1000", "Llama-3.2-3B-Instruct.Q4_K_M.gguf", "qlora", "alpaca"),
}


def gguf(**texts: str) -> bytes:
    """The smallest model with these keys; `__` stands for a dot."""
    file = miniature()
    for name, content in texts.items():
        file.set(name.replace("__", "."), content.encode(), TEXT)
    return file.bytes()


MODEL, ADAPTER = gguf(general__name="A model", general__license="mit"), adapter().bytes()


def drop(weights: Path, name: str, data: bytes = MODEL) -> Path:
    path = weights / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def register(weights: Path, folder: str, record: object) -> Path:
    return drop(weights, f"{folder}/variant.json", json.dumps(record).encode())


def found(weights: Path) -> dict[str, Entry]:
    """By id; every id once."""
    entries = list_variants(weights)
    by_id = {entry.variant.id: entry for entry in entries}
    assert len(by_id) == len(entries)
    return by_id


def new(weights: Path) -> dict[str, Entry]:
    """What is not in the catalogue."""
    known = {variant.id for variant in catalogue()}
    return {name: entry for name, entry in found(weights).items() if name not in known}


@pytest.mark.parametrize("name", LAB)
def test_the_labs_five_are_where_the_lab_published_them(name: str) -> None:
    variant = {variant.id: variant for variant in catalogue()}[name]
    assert (variant.repo, variant.revision, variant.file, variant.method, variant.template) == LAB[name]


def test_every_variant_of_the_catalogue_has_an_id_of_its_own() -> None:
    names = [variant.id for variant in catalogue()]
    assert len(set(names)) == len(names)


def test_every_template_of_the_catalogue_exists() -> None:
    assert {variant.template for variant in catalogue()} <= {"own", *templates()}


def test_a_folder_that_does_not_exist_holds_the_catalogue_alone(tmp_path: Path) -> None:
    assert set(found(tmp_path / "none")) == {variant.id for variant in catalogue()}


@pytest.mark.parametrize("name", LAB)
def test_a_variant_that_is_not_here_says_where_it_lies(tmp_path: Path, name: str) -> None:
    entry, (repo, *_) = found(tmp_path)[name], LAB[name]
    assert (entry.state, entry.runs) == ("not downloaded", False)
    assert entry.why == f"download it from {repo} on the Hub"


def test_a_downloaded_file_makes_its_variant_ready(tmp_path: Path) -> None:
    path = drop(tmp_path, f"1b_lora/{LAB['1b_lora'][2]}")
    entry = found(tmp_path)["1b_lora"]
    assert (entry.state, entry.model, entry.adapter) == ("ready", path, None)
    assert (entry.variant.template, entry.variant.method, entry.variant.size) == ("alpaca", "lora", len(MODEL))


def test_a_damaged_download_is_seen(tmp_path: Path) -> None:
    drop(tmp_path, f"base_1b/{LAB['base_1b'][2]}", MODEL[:20])
    entry = found(tmp_path)["base_1b"]
    assert (entry.state, entry.runs) == ("damaged", False)
    assert LAB["base_1b"][2] in entry.why


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = drop(tmp_path, "mine.gguf")
    assert found(tmp_path)["mine"].variant.about == "A model"
    path.write_bytes(gguf(general__name="Another model"))
    assert found(tmp_path)["mine"].variant.about == "Another model"


def test_a_dropped_model_is_ready_under_its_name(tmp_path: Path) -> None:
    path = drop(tmp_path, "my-model.Q8.gguf")
    entry = new(tmp_path)["my-model.Q8"]
    assert (entry.state, entry.model, entry.variant.licence) == ("ready", path, "mit")


def test_a_dropped_adapter_runs_over_the_base_it_names(tmp_path: Path) -> None:
    base, adapter = drop(tmp_path, "mine.gguf"), drop(tmp_path, "poet@mine.gguf", ADAPTER)
    entry = new(tmp_path)["poet"]
    assert (entry.state, entry.model, entry.adapter, entry.variant.method) == ("ready", base, adapter, "lora")


@pytest.mark.parametrize("name", ["poet@nobody.gguf", "poet@base_1b.gguf", "poet@echo.gguf", "poet@poet.gguf"])
def test_an_adapter_whose_base_is_not_ready_waits_for_it(tmp_path: Path, name: str) -> None:
    drop(tmp_path, name, ADAPTER)
    entry = new(tmp_path)["poet"]
    assert (entry.state, entry.model) == ("needs its base", None)
    assert name.partition("@")[2].removesuffix(".gguf") in entry.why


def test_an_adapter_cannot_run_over_an_adapter(tmp_path: Path) -> None:
    for name, data in (("mine.gguf", MODEL), ("one@mine.gguf", ADAPTER), ("two@one.gguf", ADAPTER)):
        drop(tmp_path, name, data)
    assert new(tmp_path)["two"].state == "needs its base"


def test_an_adapter_that_names_no_base_says_how_to_name_it(tmp_path: Path) -> None:
    drop(tmp_path, "poet.gguf", ADAPTER)
    assert "rename it to poet@BASE.gguf" in new(tmp_path)["poet"].why


def test_an_adapter_registered_as_qlora_stays_one(tmp_path: Path) -> None:
    drop(tmp_path, "mine.gguf")
    drop(tmp_path, "run/a.gguf", ADAPTER)
    register(tmp_path, "run", {"id": "run", "file": "a.gguf", "over": "mine", "method": "qlora"})
    entry = new(tmp_path)["run"]
    assert (entry.state, entry.variant.method) == ("ready", "qlora")


def test_a_dropped_file_does_not_take_a_name_of_the_catalogue(tmp_path: Path) -> None:
    drop(tmp_path, "base_1b.gguf")
    drop(tmp_path, "echo.gguf")
    entries = found(tmp_path)
    assert entries["base_1b"].state == "not downloaded" and entries["echo"].variant.runtime == "echo"
    assert entries["base_1b_2"].state == entries["echo_2"].state == "ready"


@pytest.mark.parametrize(
    "name",
    [
        "a b.gguf",
        "ünïcode 日本.gguf",
        "..gguf",
        "-rf.gguf",
        "$(touch x).gguf",
        "<script>.gguf",
        "a\nb.gguf",
        "'\".gguf",
        "x" * 200 + ".gguf",
        "@.gguf",
        "a@b@c.gguf",
        "._x.gguf",
    ],
)
def test_a_file_with_a_strange_name_has_an_id_all_the_same(tmp_path: Path, name: str) -> None:
    path = drop(tmp_path, name)
    [entry] = new(tmp_path).values()
    assert (entry.state, entry.model) == ("ready", path)


@pytest.mark.parametrize("data", [MODEL, ADAPTER, b""])
def test_a_name_that_is_not_unicode_is_said_in_unicode(tmp_path: Path, data: bytes) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.gguf")).write_bytes(data)
    [entry] = new(tmp_path).values()
    assert entry.state == "damaged" and entry.why.encode() and entry.variant.model_dump_json()


def test_files_whose_names_become_the_same_id_are_kept_apart(tmp_path: Path) -> None:
    for name in ("a b.gguf", "a_b.gguf", "a?b.gguf"):
        drop(tmp_path, name)
    assert set(new(tmp_path)) == {"a_b", "a_b_2", "a_b_3"}


@pytest.mark.parametrize("data", [b"", b"GGUF", b"<html>", gguf(general__architecture="qwen2"), MODEL[:-1]])
def test_a_dropped_file_that_is_no_model_is_damaged_and_says_why(tmp_path: Path, data: bytes) -> None:
    drop(tmp_path, "mine.gguf", data)
    entry = new(tmp_path)["mine"]
    assert entry.state == "damaged" and entry.why.startswith("mine.gguf is not usable: ")


def test_a_link_to_nowhere_and_a_folder_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "link.gguf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.gguf").mkdir()
    assert new(tmp_path) == {}


def test_a_record_cannot_take_the_toy_away(tmp_path: Path) -> None:
    path = drop(tmp_path, "mine/model.gguf")
    register(tmp_path, "mine", {"id": "tiny_base", "file": "model.gguf"})
    assert new(tmp_path)["tiny_base_2"].model == path


def test_a_folder_with_a_record_is_a_variant(tmp_path: Path) -> None:
    path = drop(tmp_path, "run-7/model.gguf")
    register(tmp_path, "run-7", {"id": "poet", "about": "mine", "file": "model.gguf", "template": "alpaca"})
    entry = new(tmp_path)["poet"]
    assert (entry.state, entry.model, entry.variant.template) == ("ready", path, "alpaca")


def test_a_folder_without_a_record_is_none(tmp_path: Path) -> None:
    drop(tmp_path, "unfinished/model.gguf")
    assert new(tmp_path) == {}


def test_a_record_stands_in_for_the_catalogues_entry(tmp_path: Path) -> None:
    drop(tmp_path, "other/mine.gguf")
    register(tmp_path, "other", {"id": "base_1b", "file": "mine.gguf"})
    assert found(tmp_path)["base_1b"].model == tmp_path / "other" / "mine.gguf"


@pytest.mark.parametrize("file", ["/etc/passwd", "../../secret.gguf", "..", ".", "", "a\x00b", "variant.json"])
def test_a_record_reaches_no_file_outside_its_folder(tmp_path: Path, file: str) -> None:
    drop(tmp_path, "secret.gguf")
    register(tmp_path / "weights", "run", {"id": "run", "file": file})
    entry = new(tmp_path / "weights")["run"]
    assert not entry.runs and entry.model is None


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 10_000,
        b"[]",
        b"{}",
        b'{"id": "../escape"}',
        b'{"id": ""}',
        b'{"id": "a\\n"}',
        b'{"id": "run", "runtime": "shell"}',
        b'{"id": "run", "surprise": 1}',
        b'{"id": "run", "size": -1}',
        b'{"id": "run", "file": "\\ud800"}',
    ],
)
def test_a_record_that_cannot_be_read_is_a_damaged_variant(tmp_path: Path, record: bytes) -> None:
    drop(tmp_path, "my run/variant.json", record)
    entry = new(tmp_path)["my_run"]
    assert entry.state == "damaged" and entry.why.startswith("its variant.json cannot be read: ")


def test_a_bad_record_leaves_the_other_variants_alone(tmp_path: Path) -> None:
    drop(tmp_path, "bad/variant.json", b"{")
    drop(tmp_path, "good/model.gguf")
    register(tmp_path, "good", {"id": "good", "file": "model.gguf"})
    assert found(tmp_path)["good"].state == "ready"


def test_what_the_file_says_of_itself_does_not_replace_the_record(tmp_path: Path) -> None:
    drop(tmp_path, "run/model.gguf")
    register(tmp_path, "run", {"id": "run", "file": "model.gguf", "about": "mine", "licence": "own"})
    variant = new(tmp_path)["run"].variant
    assert (variant.about, variant.licence) == ("mine", "own")
