"""Which checkpoint a run goes on from: the newest that is whole, whatever a kill has left behind it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from backend.training import checkpoints


def write(run: Path, step: int) -> Path:
    """As transformers leaves one."""
    folder = run / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"base_model.model.x.lora_A.weight": np.ones((2, 3), np.float32)}, folder / checkpoints.WEIGHTS)
    for name in checkpoints.PICKLED:
        torch.save({"state": {0: torch.ones(1000)}}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def scramble(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64 * [170])
    file.write_bytes(data)


BROKEN = {
    "no state": lambda folder: (folder / "trainer_state.json").unlink(),
    "half a state": lambda folder: truncate(folder / "trainer_state.json"),
    "a state that is no object": lambda folder: (folder / "trainer_state.json").write_text("[]"),
    "the state of another step": lambda folder: (folder / "trainer_state.json").write_text('{"global_step": 7}'),
    "no weights": lambda folder: (folder / checkpoints.WEIGHTS).unlink(),
    "half the weights": lambda folder: truncate(folder / checkpoints.WEIGHTS),
    "no tensor": lambda folder: save_file({}, folder / checkpoints.WEIGHTS),
    "an empty optimiser": lambda folder: (folder / "optimizer.pt").write_bytes(b""),
    "half an optimiser": lambda folder: truncate(folder / "optimizer.pt"),
    "a scrambled optimiser": lambda folder: scramble(folder / "optimizer.pt"),
    "no schedule": lambda folder: (folder / "scheduler.pt").unlink(),
    "no random state": lambda folder: (folder / "rng_state.pth").unlink(),
    "nothing at all": lambda folder: [file.unlink() for file in folder.iterdir()],
    "weights that are no numbers": lambda folder: save_file(
        {"x": np.full((2, 2), np.nan, np.float32)}, folder / checkpoints.WEIGHTS
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_newest_is_set_aside_and_the_one_before_it_is_taken(what: str, tmp_path: Path) -> None:
    older, newer = write(tmp_path, 20), write(tmp_path, 40)
    BROKEN[what](newer)
    step, path, warnings = checkpoints.newest_and_warnings(tmp_path)
    assert (step, path) == (20, older)
    assert len(warnings) == 1 and "step 40 was not used" in warnings[0]
    assert not newer.exists() and (tmp_path / "checkpoints" / "broken-40-1").is_dir()


def test_the_newest_is_taken_by_its_number_not_by_its_letters(tmp_path: Path) -> None:
    write(tmp_path, 9)
    newest = write(tmp_path, 100)
    assert checkpoints.newest(tmp_path) == (100, newest)


def test_a_bfloat16_adapter_is_looked_at_too(tmp_path: Path) -> None:
    folder = write(tmp_path, 3)
    from_torch = {"x": torch.full((4, 4), float("nan"), dtype=torch.bfloat16)}
    save_torch(from_torch, folder / checkpoints.WEIGHTS)
    assert not checkpoints.is_finite(folder)
    save_torch({"x": torch.ones((4, 4), dtype=torch.bfloat16)}, folder / checkpoints.WEIGHTS)
    assert checkpoints.is_finite(folder)


def test_when_none_is_whole_the_run_begins_anew_and_says_why(tmp_path: Path) -> None:
    for step in (20, 40):
        (write(tmp_path, step) / "optimizer.pt").write_bytes(b"")
    step, path, warnings = checkpoints.newest_and_warnings(tmp_path)
    assert (step, path, len(warnings)) == (0, None, 2)
    assert checkpoints.newest_and_warnings(tmp_path) == (0, None, [])


def test_what_was_set_aside_twice_is_kept_twice(tmp_path: Path) -> None:
    for _ in range(2):
        (write(tmp_path, 40) / "optimizer.pt").write_bytes(b"")
        checkpoints.newest_and_warnings(tmp_path)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"broken-40-1", "broken-40-2"}


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) is None
    write(tmp_path, 5)
    shutil.rmtree(tmp_path / "checkpoints")
    assert checkpoints.newest_and_warnings(tmp_path) == (0, None, [])
