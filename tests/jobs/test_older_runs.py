"""Runs, evaluations, votes and variants that the version before the restructuring wrote are still read."""

import json
import shutil
import time
from pathlib import Path

import pytest
from conftest import ROOT, TINY

from backend.core.settings import Settings
from backend.lab import Lab
from models.catalogue import list_variants

OLD = ROOT / "tests" / "fixtures" / "before_restructuring"
TRAINING = "20261126-085454-246-train-old_lora"
EXPORT = "20261126-085511-098-export-old_lora_adapter"
EVALUATION = "20261126-085512-914-evaluate-tiny_base___tiny_lora"


@pytest.fixture
def old(tmp_path: Path) -> Lab:
    """A lab with copies of those folders. The variant's GGUF is not in the fixtures: another adapter replaces it. The
    runs are as if made a moment ago, because ended transfers are shown for one day."""
    runs, weights = tmp_path / "runs", tmp_path / "weights"
    shutil.copytree(OLD / "lab_runs", runs)
    for stored in runs.glob("*/spec.json"):
        stored.write_text(json.dumps(json.loads(stored.read_text()) | {"created": time.time()}))
    shutil.copytree(OLD / "lab_weights", weights)
    shutil.copy(TINY / "tiny_lora.gguf", weights / "old_lora_adapter" / "old_lora_adapter.gguf")
    return Lab(Settings(_env_file=None, lab_runs=runs, lab_weights=weights))


def test_a_training_and_its_export_are_read(old: Lab) -> None:
    export, training = old.training.statuses()
    assert (training.id, training.state, export.id, export.state) == (TRAINING, "done", EXPORT, "done")
    assert training.spec and (training.spec.steps, training.spec.rank, training.spec.data.held_rows) == (6, 16, 60)
    assert training.made and training.made.rows == 2400 and training.made.spec == training.spec
    assert training.curve.steps == [1, 2, 3, 4, 5, 6] and training.curve.evaluated == [0, 3, 6]
    assert training.curve.losses[0] > 0 and training.curve.facts["samples"] == 96
    assert export.export and export.export.form == "adapter" and export.result["id"] == "old_lora_adapter"


def test_an_evaluation_is_read_with_its_verdict(old: Lab) -> None:
    (status,) = old.evaluations.statuses()
    assert (status.id, status.state, status.failed) == (EVALUATION, "done", 0)
    result = old.evaluations.result(EVALUATION)
    assert len(result.questions) == 7 and len(result.answers) == 14 and len(result.scores) == 14
    assert result.verdict.sentence.startswith("tiny_lora is better than tiny_base by 0.7 (0.5 to 0.9)")
    assert result.spec.variants == ("tiny_base", "tiny_lora") and result.identity.kind == "rule"


def test_a_variant_is_read(old: Lab) -> None:
    entry = next(entry for entry in list_variants(old.settings.lab_weights) if entry.variant.id == "old_lora_adapter")
    assert entry.state == "ready" and entry.variant.over == "tiny_base" and entry.variant.quantisation == "F16"
    assert entry.variant.about == "made here: tiny_base after 6 steps of lora on 2,400 rows"


def test_a_download_a_verification_and_a_speed_test_are_read(old: Lab) -> None:
    statuses = {status.kind: status for status in old.library.transfers()}
    assert statuses["download"].variant == "some" and "The Hub is in trouble" in statuses["download"].why
    assert statuses["verify"].variant == "old_lora_adapter" and statuses["verify"].result["ok"] is True
    assert statuses["speed"].state == "done"
    (speed,) = old.library.speeds()
    assert speed.id == "tiny_base" and speed.generation_speed > 0


def test_a_vote_is_read(old: Lab) -> None:
    (vote,) = old.votes()
    assert (
        vote.blind
        and vote.winner == 1
        and [candidate.variant for candidate in vote.candidates]
        == [
            "tiny_base",
            "tiny_lora",
        ]
    )
    assert {record.variant: (record.won, record.lost) for record in old.wins()} == {
        "tiny_base": (0, 1),
        "tiny_lora": (1, 0),
    }
