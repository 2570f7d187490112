"""Arrivals are swept, placed whole or not at all, and removed."""

import fcntl
import multiprocessing
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from conftest import TINY

from backend.core.errors import LabError
from backend.library import weights_folder
from models.catalogue import list_variants
from models.variant import Variant

VARIANT = Variant(id="mine", file="m.gguf", quantisation="Q4_K_M", sha256="0" * 64)


def staged(folder: Path) -> Path:
    (folder / "model").mkdir()
    shutil.copy(TINY / "tiny_base.gguf", folder / "model" / "m.gguf")
    return folder / "model"


def put(weights: Path, variant: Variant = VARIANT) -> Path:
    with weights_folder.staging(weights, "run1") as folder:
        return weights_folder.install(staged(folder), weights, variant)


def state(weights: Path, name: str = "mine") -> str:
    return next((entry.state for entry in list_variants(weights) if entry.variant.id == name), "unknown")


def left(weights: Path) -> list[str]:
    return sorted(path.name for path in (weights / weights_folder.STAGING).iterdir())


def test_a_placed_variant_is_ready_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = put(tmp_path)
    assert path == tmp_path / "mine" / "m.gguf" and state(tmp_path) == "ready"
    assert left(tmp_path) == ["lock"]
    assert sorted(os.listdir(tmp_path / "mine")) == ["m.gguf", "variant.json"]


def test_what_is_staged_is_gone_when_anything_is_raised(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), weights_folder.staging(tmp_path, "run1") as folder:
        staged(folder)
        raise KeyboardInterrupt
    assert left(tmp_path) == ["lock"] and state(tmp_path) == "unknown"


def abandon(weights: Path) -> None:
    with weights_folder.staging(weights, "killed") as folder:
        staged(folder)
        os._exit(9)


def test_only_what_nobody_holds_is_swept(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=abandon, args=(tmp_path,))
    process.start()
    process.join()
    (tmp_path / weights_folder.STAGING / "older").mkdir()  # killed before it had a lock
    with weights_folder.staging(tmp_path, "alive") as folder:
        assert weights_folder.remove_leftovers(tmp_path) == (TINY / "tiny_base.gguf").stat().st_size
        assert left(tmp_path) == ["alive", "lock"] and (folder / "lock").exists()
    assert weights_folder.remove_leftovers(tmp_path) == 0 and left(tmp_path) == ["lock"]


def test_a_usable_variant_is_never_written_over(tmp_path: Path) -> None:
    path = put(tmp_path)
    before = path.stat()
    with pytest.raises(LabError, match="already exists"):
        put(tmp_path)
    assert os.path.samestat(before, path.stat())


def test_a_damaged_one_makes_way(tmp_path: Path) -> None:
    put(tmp_path).write_bytes(b"GGUF")
    assert state(tmp_path) == "damaged"
    put(tmp_path)
    assert state(tmp_path) == "ready" and left(tmp_path) == ["lock"]


def test_other_files_in_its_place_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(LabError, match="notes.txt"):
        put(tmp_path)
    assert os.listdir(tmp_path / "mine") == ["notes.txt"] and left(tmp_path) == ["lock"]


def test_a_lock_held_for_ever_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_folder, "LOCK_TIMEOUT", 0.2)
    with weights_folder.staging(tmp_path, "run1"), pytest.raises(LabError, match="already in progress"):
        put(tmp_path)
    with (tmp_path / weights_folder.STAGING / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LabError, match="Another process holds"):
            weights_folder.remove_leftovers(tmp_path)


def test_a_link_in_place_of_a_variant_is_not_followed(tmp_path: Path) -> None:
    weights, other = tmp_path / "weights", tmp_path / "other"
    weights.mkdir()
    other.mkdir()
    (other / "mine.txt").write_text("precious")
    (weights / "mine").symlink_to(other)
    put(weights)
    assert (weights / "mine").is_dir() and not (weights / "mine").is_symlink()
    assert (other / "mine.txt").read_text() == "precious" and os.listdir(other) == ["mine.txt"]


def test_a_link_in_place_of_the_arrivals_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / weights_folder.STAGING).symlink_to(tmp_path)
    with pytest.raises(LabError, match="link"):
        put(tmp_path / "weights")


def test_removing_says_what_it_frees(tmp_path: Path) -> None:
    size = put(tmp_path).stat().st_size
    record = (tmp_path / "mine" / "variant.json").stat().st_size
    assert weights_folder.remove(tmp_path, "mine") == size + record
    assert state(tmp_path) == "unknown" and left(tmp_path) == ["lock"]
    with pytest.raises(LabError, match="nothing to remove"):
        weights_folder.remove(tmp_path, "mine")


def test_a_second_name_of_the_file_frees_nothing(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    os.link(put(weights), tmp_path / "elsewhere.gguf")
    assert weights_folder.remove(weights, "mine") < 1000
    assert (tmp_path / "elsewhere.gguf").exists()


def test_dropped_and_damaged_files_can_be_removed_and_the_toy_cannot(tmp_path: Path) -> None:
    shutil.copy(TINY / "tiny_base.gguf", tmp_path / "dropped.gguf")
    shutil.copy(TINY / "tiny_lora.gguf", tmp_path / "lora@dropped.gguf")
    (tmp_path / "bad.gguf").write_text("no")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "variant.json").write_text("{")
    for name in ("lora", "bad", "odd", "dropped"):
        weights_folder.remove(tmp_path, name)
    assert os.listdir(tmp_path) == [weights_folder.STAGING]
    with pytest.raises(LabError, match="part of the app"):
        weights_folder.remove(tmp_path, "tiny_base")
    for name in ("../x", ".arriving", "", "a/b"):
        with pytest.raises(LabError):
            weights_folder.remove(tmp_path, name)


def test_a_disk_without_room_is_refused_with_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 0, 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    weights_folder.check_space(tmp_path, 800_000_000)
    with pytest.raises(LabError, match=r"1,000 MB free.*1,009 MB are needed.*Free 9 MB"):
        weights_folder.check_space(tmp_path, 900_000_000)
