"""What a training needs is reckoned before it begins, and what cannot fit is refused with the numbers."""

import re
from pathlib import Path
from typing import Any

import pytest
from support.train_in_process import train_here
from support.trainings import ended, small

from app.runs import view as runs_view
from app.train import view as train_view
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.lab import Lab
from backend.training import checkpoints, training
from backend.training.estimate import estimate
from backend.training.presets import presets
from backend.training.request import TrainSettings
from backend.training.training import Training

PLENTY = 10**12


def changed(preset: str, **settings: object) -> TrainSettings:
    return TrainSettings.model_validate(presets()[preset].spec.model_dump() | settings)


def memory(spec: TrainSettings) -> int:
    found = estimate(spec, PLENTY)
    assert found
    return found.memory


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({"batch": 2}, True),
        ({"max_length": 4096}, True),
        ({"rank": 64}, True),
        ({"optimizer": "adamw"}, True),
        ({"base": "unsloth/Llama-3.2-3B-Instruct"}, True),
        ({"method": "qlora"}, False),
        ({"projections": "attention"}, False),
        ({"max_length": 512}, False),
    ],
)
def test_a_setting_that_costs_memory_is_reckoned_so(settings: dict[str, object], more: bool) -> None:
    assert (memory(changed("1b_lora", **settings)) > memory(changed("1b_lora"))) is more


def test_the_weights_of_the_labs_bases_are_what_they_are() -> None:
    lora, qlora = (estimate(presets()[name].spec, PLENTY) for name in ("1b_lora", "1b_qlora"))
    assert lora and qlora
    assert lora.weights in (pytest.approx(1.236e9 * 2, rel=0.01), pytest.approx(1.236e9 * 4, rel=0.01))
    assert qlora.weights == pytest.approx(0.973e9 * 4.127 / 8 + 0.263e9 * 4, rel=0.01)


def test_a_base_that_nobody_knows_here_is_not_guessed() -> None:
    assert estimate(changed("1b_lora", base="somebody/some-llama"), PLENTY) is None
    assert "A try of five steps" in train_view.estimate(None)


def test_a_base_in_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": "wide"}')
    assert estimate(changed("1b_lora", base=str(tmp_path)), PLENTY) is None


def test_what_cannot_fit_is_refused_with_the_numbers_and_nothing_is_begun(settings: Settings) -> None:
    training = Training(settings, lambda: 2 * 10**9)
    for begin in (training.start, training.attempt):
        with pytest.raises(LabError, match=r"needs about [\d.]+ GB of memory and 2.0 GB are free: .* for the base"):
            begin(presets()["3b_qlora"].spec)
    assert training.statuses() == []


@pytest.mark.long
def test_a_try_measures_what_was_estimated_and_keeps_nothing(lab: Lab) -> None:
    spec = small("tried", steps=1000, batch=8, max_length=256)
    expected = estimate(spec, PLENTY)
    run = ended(lab.training.attempt(spec))
    status = lab.training.status(run.id)
    assert status.state == "done" and status.made is None and status.resumable is None
    assert status.result["seconds_per_step"] > 0 and status.result["memory"] > 10**8
    assert expected and 0.5 < expected.memory / status.result["memory"] < 3
    assert checkpoints.checkpoints(run.folder) == [] and not (run.folder / "adapter").exists()


def test_without_its_packages_training_says_what_to_install(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "NEEDED", ("torch", "no_such_package"))
    with pytest.raises(LabError, match=re.escape("(no_such_package). Run `pip install torch==2.13.0`")):
        lab.training.start(small())


def test_unsloth_is_asked_for_only_where_it_is(lab: Lab) -> None:
    if training.find_spec("unsloth") is None:
        with pytest.raises(LabError, match="Unsloth is not installed here"):
            lab.training.start(small(engine="unsloth"))


@pytest.mark.long
def test_patience_ends_a_training_that_gets_no_better_and_keeps_its_best(lab: Lab) -> None:
    hasty: dict[str, Any] = {"learning_rate": 0.5, "schedule": "constant", "warmup_steps": 0, "dropout": 0.5}
    hasty |= {"steps": 60, "evaluate_every": 2, "save_every": 2, "keep_best": True, "patience": 2}
    run = train_here(lab.settings.lab_runs, small("hasty", **hasty))
    one = lab.training.status(run.id)
    assert one.made, run.why
    assert one.made.steps < 60 and one.made.step <= one.made.steps - 4
    assert one.made.eval_best == min(one.curve.evaluations)
    assert runs_view.note(one) == "ended early: the evaluation loss did not improve any more"


def test_a_file_that_is_dropped_is_kept_where_runs_find_it_again(lab: Lab, tmp_path: Path) -> None:
    for _ in range(2):
        file = tmp_path / "my rows.jsonl"
        file.write_text("{}\n")
        kept = lab.training.save_upload(file)
        assert kept.name == "my rows.jsonl" and kept.read_text() == "{}\n" and not file.exists()
    (tmp_path / "rows.exe").write_text("")
    with pytest.raises(LabError, match="has no known format"):
        lab.training.save_upload(tmp_path / "rows.exe")
