"""The library: what it refuses to start, and how a new variant gets its name."""

import shutil
from pathlib import Path

import pytest
from conftest import TINY

from backend.core.errors import LabError
from backend.hub.listing import RepositoryFile, RepositoryListing
from backend.jobs.run import runs_in
from backend.lab import Lab
from models.variant import Variant

GGUF = RepositoryFile(path="toy.gguf", size=1000)
MODEL = RepositoryListing(repo="owner/name", revision="main", commit="a" * 40, kind="gguf", files=(GGUF,))


def drop(lab: Lab, name: str) -> None:
    shutil.copy(TINY / "tiny_base.gguf", lab.settings.lab_weights / f"{name}.gguf")


def started(lab: Lab) -> list[str]:
    return [run.spec.name for run in runs_in(lab.settings.lab_runs)]


@pytest.mark.parametrize(
    ("listing", "file", "words"),
    [
        (MODEL.model_copy(update={"architecture": "qwen2"}), GGUF, "has qwen2 models, and this app runs only Llama"),
        (MODEL, RepositoryFile(path="a.gguf", size=1, why="part 1 of 3"), "cannot be used: part 1 of 3"),
        (
            MODEL.model_copy(update={"kind": "adapter"}),
            RepositoryFile(path="adapter_model.safetensors", size=1),
            "LoRA adapter",
        ),
        (MODEL, RepositoryFile(path="huge.gguf", size=10**18), "The disk has"),
        (MODEL, RepositoryFile(path="../../x.gguf", size=1), "not a file that this app downloads"),
        (MODEL.model_copy(update={"repo": "--x/y"}), GGUF, "not the name of a repository"),
        (MODEL.model_copy(update={"revision": "../../x"}), GGUF, "not a branch"),
    ],
)
def test_what_cannot_end_well_is_not_begun(
    lab: Lab, listing: RepositoryListing, file: RepositoryFile, words: str
) -> None:
    with pytest.raises(LabError, match=words):
        lab.library.download_file(listing, file)
    assert started(lab) == []


@pytest.mark.parametrize("variant", ["tiny_base", "echo", "nobody", "", "../../etc"])
def test_only_what_the_catalogue_can_fetch_is_fetched_by_name(lab: Lab, variant: str) -> None:
    with pytest.raises(LabError):
        lab.library.download(variant)
    assert started(lab) == []


def test_what_is_here_is_not_fetched_again(lab: Lab) -> None:
    folder = lab.settings.lab_weights / "base_1b"
    folder.mkdir()
    shutil.copy(TINY / "tiny_base.gguf", folder / "Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    with pytest.raises(LabError, match="base_1b is already downloaded. Remove it first"):
        lab.library.download("base_1b")


def test_a_base_that_others_run_over_is_not_removed(lab: Lab) -> None:
    drop(lab, "mine")
    shutil.copy(TINY / "tiny_lora.gguf", lab.settings.lab_weights / "tuned@mine.gguf")
    with pytest.raises(LabError, match="tuned runs over mine. Remove tuned first"):
        lab.library.remove("mine")
    lab.library.remove("tuned")
    lab.library.remove("mine")
    assert list(lab.settings.lab_weights.glob("*.gguf")) == []


def test_removing_a_dropped_file_leaves_a_folder_of_its_name_alone(lab: Lab) -> None:
    (lab.settings.lab_weights / "foo.gguf").write_text("<!DOCTYPE html>")
    mine = lab.settings.lab_weights / "foo" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("keep me")
    lab.library.remove("foo")
    assert mine.read_text() == "keep me" and not (lab.settings.lab_weights / "foo.gguf").exists()


def test_a_record_that_cannot_be_read_is_removed_with_its_folder(lab: Lab) -> None:
    folder = lab.settings.lab_weights / "torn"
    folder.mkdir()
    (folder / "variant.json").write_text("{")
    lab.library.remove("torn")
    assert not folder.exists()


def test_the_address_of_a_mirror_is_not_shown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://bob:hunter2@mirror.example")
    assert lab.describe("base_1b").page == "https://huggingface.co/unsloth/Llama-3.2-1B-Instruct-GGUF"


def test_a_refused_header_is_read_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab.settings.lab_weights / "page.gguf").write_text("<!DOCTYPE html>")
    assert lab.entry("page").state == "damaged"
    monkeypatch.setattr("models.catalogue.read_header", lambda path: pytest.fail("it was read again"))
    assert lab.entry("page").state == "damaged"


def test_adapter_files_without_a_base_are_refused_at_once(lab: Lab, tmp_path: Path) -> None:
    files = [tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"]
    for settings, said in (
        (None, "This is a LoRA adapter. Choose its base under “Base of an adapter”"),
        ("{", "This is a LoRA adapter. Choose its base"),
        ('{"base_model_name_or_path": "owner/other"}', "trained on owner/other, of which there is none here. Choose"),
    ):
        if settings:
            files[0].write_text(settings)
        with pytest.raises(LabError, match=said):
            lab.library.import_files(files)
    assert started(lab) == []


@pytest.mark.parametrize(
    "name",
    [
        "unsloth/llama-3.2-1b-instruct-bnb-4bit",
        "unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit",
        "meta/Llama-3.2-1B-Instruct",
    ],
)
def test_an_adapter_finds_the_variant_of_its_base(name: str, lab: Lab) -> None:
    folder = lab.settings.lab_weights / "base_1b"
    folder.mkdir()
    shutil.copy(TINY / "tiny_base.gguf", folder / "Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    assert lab.library._base_named(name) == "base_1b"
    copy = lab.settings.lab_weights / "copy"
    copy.mkdir()
    shutil.copy(TINY / "tiny_base.gguf", copy / "copy.gguf")
    record = Variant(id="copy", file="copy.gguf", base="unsloth/Llama-3.2-1B-Instruct")
    (copy / "variant.json").write_text(record.model_dump_json())
    with pytest.raises(LabError, match=r"there are several \((base_1b, copy|copy, base_1b)\) here"):
        lab.library._base_named(name)


def test_a_name_that_is_taken_gets_a_number(lab: Lab, tmp_path: Path) -> None:
    drop(lab, "toy")
    assert lab.library._free_id("toy", "", "") == "toy_2"
    assert lab.library._free_id("other", "", "") == "other"


def test_a_dropped_file_has_nothing_to_be_compared_with(lab: Lab) -> None:
    drop(lab, "mine")
    with pytest.raises(LabError, match="has no checksum"):
        lab.library.verify("mine")
