"""A person's first file is small: every size trains, with an eval split where the file can give one."""

import json
from pathlib import Path

import pytest
from support.train_in_process import train_here
from support.trainings import small

from backend.data.dataset import DatasetSpec
from backend.lab import Lab
from backend.training.status import read_curve

LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("rows", "held"),
    [pytest.param(1, 0, marks=LONG), pytest.param(2, 0, marks=LONG), (9, 0), pytest.param(10, 1, marks=LONG), (20, 2)],
)
def test_a_small_file_trains(rows: int, held: int, lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"instruction": f"What is {i}?", "output": f"It is {i}."} for i in range(rows)]))
    data = DatasetSpec(source=str(path), splits="all")
    more = {"steps": 2, "save_every": 1, "evaluate_every": 1, "keep_best": True, "patience": 3}
    run = train_here(lab.settings.lab_runs, small("small_file", data=data, **more))
    status = lab.training.status(run.id)
    assert status.made, run.why
    assert (status.made.rows, status.made.held) == (rows - held, held)
    assert (status.made.spec.data.rows, status.made.spec.data.held_rows) == (rows - held, held)
    assert (status.made.eval_best is None) is (held == 0)
    said = read_curve(run.folder).facts.get("said", [])
    assert any("There is no eval split (fewer than ten rows)" in text for text in said) is (held == 0)
