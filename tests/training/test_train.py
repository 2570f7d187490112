"""Trainings of the embedded model with the real TRL, PEFT, bitsandbytes and W&B: what they make, and how they stop."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from peft import PeftModel
from pydantic import SecretStr
from safetensors.torch import load_file, save_file
from servers.wandb import serving
from support.train_in_process import resume_here, train_here
from support.trainings import ended, reached, small, step_of, trained, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerControl, TrainerState

from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.jobs.events import TrainStep
from backend.jobs.fake_request import FakeRequest
from backend.jobs.journal import Journal
from backend.jobs.launcher import launch
from backend.jobs.run import Run
from backend.lab import Lab
from backend.training import checkpoints
from backend.training.artifacts import read_record
from backend.training.progress import Progress
from backend.training.request import TrainRequest
from backend.training.save_artifacts import NO_IMPORTANCE, warn_of_no_importance
from backend.training.status import read_curve
from backend.training.tracking import tracked
from backend.training.trainer import readable_errors

KEY = "0123456789abcdef" * 2 + "01234567"  # as long as W&B wants one


WHOLE = small("whole", steps=16, evaluate_every=4, keep_best=True, importance=True, track="wandb")


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("trainings")
    (home / "weights").mkdir()
    with Lab(Settings(_env_file=None, lab_runs=home / "runs", lab_weights=home / "weights")) as lab:
        yield lab


@pytest.fixture(scope="module")
def whole(shared_lab: Lab) -> Run:
    """A training that nobody disturbed, with everything that can be asked for."""
    run = trained(shared_lab, WHOLE)
    assert run.state == "done", (run.why, run.log(20))
    return run


def adapter_of(run: Run) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(run.folder / "adapter" / "adapter_model.safetensors")
    return found


def test_the_loss_falls_and_every_step_is_on_the_curve(whole: Run) -> None:
    found = read_curve(whole.folder)
    assert found.steps == list(range(1, 17))
    assert found.losses[-1] < found.losses[0] - 1
    assert found.evaluated == [0, 4, 8, 12, 16]
    assert found.evaluations[-1] < found.evaluations[0]
    assert all(rate >= 0 for rate in found.rates) and all(norm > 0 for norm in found.norms)
    assert (found.facts["step"], found.facts["steps"], found.facts["samples"]) == (16, 16, 64)
    assert found.facts["tokens"] > 500 and found.facts["tokens_per_second"] > 0 and found.facts["memory"] > 10**8


def test_what_was_made_says_what_made_it(whole: Run) -> None:
    made = read_record(whole.folder)
    assert made.spec == WHOLE
    assert (made.base, made.rows, made.held, made.steps, made.samples) == ("tiny_base", 200, 8, 16, 64)
    assert made.step in (4, 8, 12, 16)
    assert made.eval_best is not None and made.eval_first is not None and made.eval_best < made.eval_first
    assert re.fullmatch("[0-9a-f]{64}", made.data)
    assert made.template == (TINY / "base" / "chat_template.jinja").read_text()
    assert made.seconds > 0 and made.versions["trl"]


def test_the_card_stands_beside_the_adapter(whole: Run) -> None:
    text = (whole.folder / "adapter" / "README.md").read_text()
    made = read_record(whole.folder)
    for fact in ("tiny_base", "lora, rank 16, alpha 32", "tiny_habit", made.data[:16], "16 of 16", "Evaluation loss"):
        assert fact in text


def test_the_adapter_is_one_that_peft_loads_and_the_reference_is_what_it_says(whole: Run) -> None:
    base = AutoModelForCausalLM.from_pretrained(TINY / "base", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, whole.folder / "adapter").eval()
    reference = np.load(whole.folder / "adapter" / "reference.npz")
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor(reference["tokens"][None].astype(np.int64))).logits[0].numpy()
    assert len(reference["tokens"]) >= 20
    assert np.abs(logits[int(reference["first"]) :] - reference["logits"]).max() < 0.02


def test_the_tokenizer_beside_it_carries_the_template_that_was_trained(whole: Run) -> None:
    tokenizer = AutoTokenizer.from_pretrained(whole.folder / "adapter")
    assert tokenizer.chat_template == read_record(whole.folder).template
    assert tokenizer.eos_token == "<|eot_id|>"


def test_the_importance_of_every_linear_layer_was_measured(whole: Run) -> None:
    found = np.load(whole.folder / "adapter" / "importance.npz")
    assert len(found.files) == 4 * 7
    assert found["blk.0.attn_q.weight"].shape == (256,) and found["blk.3.ffn_down.weight"].shape == (768,)
    assert all((found[name] >= 0).all() and found[name].max() > 0 for name in found.files)


def test_weights_and_biases_writes_into_the_run_where_there_is_no_key(whole: Run) -> None:
    where = Path(read_curve(whole.folder).facts["tracked"])
    assert where.is_relative_to(whole.folder) and list(where.glob("*.wandb"))


@pytest.fixture(scope="module")
def undisturbed(shared_lab: Lab) -> Run:
    return train_here(shared_lab.settings.lab_runs, small("undisturbed", steps=16))


def stopped_here(lab: Lab) -> Run:
    return train_here(lab.settings.lab_runs, small("disturbed", steps=16), stop_at=5)


def stopped_as_process(lab: Lab) -> Run:
    run = lab.training.start(small("disturbed", steps=16))
    reached(run, 3)
    lab.training.stop(run.id)
    return ended(run)


def resumed_as_process(lab: Lab, run: Run) -> Run:
    return ended(lab.training.resume(run.id))


@pytest.mark.parametrize(
    ("stopped", "resumed"),
    [
        (stopped_here, lambda lab, run: resume_here(run)),
        pytest.param(stopped_as_process, resumed_as_process, marks=pytest.mark.long),
    ],
)
def test_a_training_that_was_stopped_and_resumed_ends_as_one_that_was_not(
    stopped: Callable[[Lab], Run], resumed: Callable[[Lab, Run], Run], shared_lab: Lab, undisturbed: Run
) -> None:
    run = stopped(shared_lab)
    assert run.state == "stopped" and 3 <= step_of(run) < 16
    standing = shared_lab.training.status(run.id)
    assert standing.resumable == step_of(run) and standing.made is None
    assert resumed(shared_lab, run).state == "done", run.log(20)
    found = read_curve(run.folder)
    assert found.steps == list(range(1, 17))
    assert found.losses == pytest.approx(read_curve(undisturbed.folder).losses, rel=1e-3)
    made = read_record(run.folder)
    assert made.tokens_trained == read_record(undisturbed.folder).tokens_trained
    assert made.seconds > 0.9 * found.seconds  # of both legs
    theirs = adapter_of(undisturbed)
    for name, tensor in adapter_of(run).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4)


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_training_goes_on_from_the_one_before(shared_lab: Lab) -> None:
    run = train_here(shared_lab.settings.lab_runs, small("damaged", preset="tiny_qlora", learning_rate=1e-3), stop_at=9)
    newest = checkpoints.checkpoints(run.folder)[0]
    assert newest[0] == 9
    (newest[1] / "optimizer.pt").write_bytes(b"")  # as a kill in the middle of a save leaves it
    assert shared_lab.training.status(run.id).resumable == 8
    assert resume_here(run).state == "done", run.why
    found = read_curve(run.folder)
    assert found.steps == list(range(1, 13)) and found.facts["begins"] == 8
    assert ["step 9 was not used" in warning for warning in found.facts["said"]] == [True]
    assert read_record(run.folder).spec.method == "qlora"


@pytest.mark.long
def test_a_trainer_that_is_killed_is_resumed_from_its_newest_whole_checkpoint(shared_lab: Lab) -> None:
    run = shared_lab.training.start(small("killed", preset="tiny_qlora", steps=24, learning_rate=1e-3))
    reached(run, 9)
    assert run.workers and run.workers.worker
    os.kill(run.workers.worker[0], signal.SIGKILL)
    ended(run)
    assert run.state == "failed" and "killed" in run.why
    newest = checkpoints.checkpoints(run.folder)[0]
    (newest[1] / "optimizer.pt").write_bytes(b"")  # as a kill in the middle of a save leaves it
    before = shared_lab.training.status(run.id).resumable
    assert before is not None and before < newest[0]
    assert ended(shared_lab.training.resume(run.id)).state == "done", run.log(20)
    found = read_curve(run.folder)
    assert found.steps == list(range(1, 25))
    assert [f"step {newest[0]} was not used" in warning for warning in found.facts["said"]] == [True]
    assert read_record(run.folder).spec.method == "qlora"


def test_resuming_with_other_rows_is_refused(shared_lab: Lab, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", 60)
    data = {"source": str(file), "rows": 40, "held_first": 40, "held_rows": 4}
    run = train_here(shared_lab.settings.lab_runs, small("changed", data=data), stop_at=4)
    assert run.state == "stopped"
    file.write_text(file.read_text().replace("plus one", "and one"))
    resume_here(run)
    assert run.state == "failed" and "dataset has changed" in run.why
    assert shared_lab.training.status(run.id).resumable == 4  # nothing is lost: the old file may come back


def test_starting_the_same_twice_is_one_run(shared_lab: Lab) -> None:
    first = shared_lab.training.start(small("twice", steps=400))
    assert shared_lab.training.start(small("twice", steps=400)) == first
    for _ in range(2):
        shared_lab.training.stop(first.id)
    assert ended(first).state == "stopped"


def test_a_training_that_is_done_cannot_be_resumed(shared_lab: Lab, whole: Run) -> None:
    with pytest.raises(LabError, match="cannot be resumed"):
        shared_lab.training.resume(whole.id)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"max_length": 16, "template": "alpaca"}, "has tokens to train on"),
        ({"base": "nobody"}, "is not a base"),
        ({"data": {"source": "/nowhere/rows.jsonl"}}, "There is no file"),
    ],
    ids=["all masked", "no base", "no data"],
)
def test_what_cannot_end_well_ends_with_a_sentence(shared_lab: Lab, changed: dict[str, object], said: str) -> None:
    run = train_here(shared_lab.settings.lab_runs, small("doomed", **changed))
    assert run.state == "failed"
    assert said in run.why, run.why


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence(shared_lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(TINY / "base", folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("inf")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    run = train_here(shared_lab.settings.lab_runs, small("broken", base=str(folder)))
    assert run.state == "failed" and "not a finite number (step 1" in run.why, run.why


@pytest.mark.parametrize(
    ("losses", "ends"),
    [([2.0] * 30 + [9.0] * 3, True), ([2.0] * 30 + [9.0, 2.0] * 5, False), ([0.1] * 30 + [1.0] * 9, False)],
    ids=["a spike that stays", "spikes that pass", "a small one"],
)
def test_a_spike_ends_the_run_when_it_stays(losses: list[float], ends: bool, tmp_path: Path) -> None:
    progress, state = Progress(Journal(tmp_path), 4), TrainerState(max_steps=len(losses))

    def learn() -> None:
        for state.global_step, loss in enumerate(losses, 1):
            progress.on_log(None, state, TrainerControl(), {"loss": loss, "learning_rate": 0.5, "grad_norm": 1.0})

    if ends:
        with pytest.raises(LabError, match="rose from 2.00 to 9.00"):
            learn()
    else:
        learn()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError(
    "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)])  # fmt: skip
def test_too_little_memory_is_said_in_a_sentence(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="not enough memory"), readable_errors(tmp_path):
        raise error


def test_a_missing_importance_matrix_is_said_beside_earlier_warnings(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.step(TrainStep(state="loading the base", said=["The checkpoint of step 9 was not used."]), now=True)
    warn_of_no_importance(journal)
    assert read_curve(tmp_path).facts["said"] == ["The checkpoint of step 9 was not used.", NO_IMPORTANCE]


def test_tokens_of_a_run_that_was_resumed_twice_are_counted_once_each(tmp_path: Path) -> None:
    older = [{"num_tokens": count} for count in (10, 20, 30, 8, 16, 5)] + [{"eval_loss": 1.0}]
    newer = [{"num_tokens": 4, "num_input_tokens_seen": 4}, {"num_tokens": 7, "num_input_tokens_seen": 7}]
    progress = Progress(Journal(tmp_path), 4)
    progress.count_from(TrainerState(log_history=older + newer, num_input_tokens_seen=7))
    assert progress.tokens == 30 + 16 + 5 + 7


def keyed(settings: Settings, key: str) -> Settings:
    return settings.model_copy(update={"wandb_api_key": SecretStr(key)})


@pytest.mark.long
def test_with_a_key_the_run_is_online_and_its_link_is_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server, Lab(keyed(settings, KEY)) as lab:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        run = trained(lab, small("online", track="wandb", steps=4))
    assert run.state == "done", (run.why, run.log(20))
    assert read_curve(run.folder).facts["tracked"] == f"{server.url}/me/peft-lab/runs/{run.id}"
    assert [line["train/loss"] for line in server.history if "train/loss" in line] == read_curve(run.folder).losses
    assert KEY in server.keys
    assert KEY.encode() not in b"".join(file.read_bytes() for file in run.folder.rglob("*") if file.is_file())


@pytest.mark.long
def test_a_key_that_is_refused_is_said_and_stands_nowhere(settings: Settings) -> None:
    with Lab(keyed(settings, "not-a-key-xyz")) as lab:
        run = trained(lab, small("refused", track="wandb"))
    assert run.state == "failed" and "Weights & Biases refused" in run.why, (run.why, run.log(20))
    assert b"not-a-key-xyz" not in b"".join(file.read_bytes() for file in run.folder.rglob("*") if file.is_file())


def test_a_key_that_wandb_refuses_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "not-a-key-xyz")
    request = TrainRequest(spec=small("refused", track="wandb"))
    with pytest.raises(LabError, match="Weights & Biases refused"), tracked(request, Journal(tmp_path)):
        raise AssertionError("it was accepted")
    assert b"not-a-key-xyz" not in b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_keys_reach_no_other_worker(settings: Settings) -> None:
    with Lab(keyed(settings, KEY)) as lab:
        run = launch(
            lab.training.runs, "rehearse", "tells", FakeRequest(steps=1, manner="tells"), secrets={"WANDB_API_KEY": KEY}
        )
        ended(run)
    assert KEY not in run.log(400) and "[secret]" not in run.log(400)


def test_looking_at_data_tells_what_training_would_meet(shared_lab: Lab, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "mixed.jsonl", 30)
    lines = file.read_text().splitlines()
    lines[3] = "{"
    lines[5] = json.dumps({"messages": [{"role": "user", "content": "Nobody answers."}]})
    lines[7] = lines[8] = lines[2]
    lines[25] = lines[2]
    lines[9] = lines[9].replace('"10"', json.dumps("ten " * 60))
    file.write_text("\n".join(lines))
    data = {"source": str(file), "rows": 20, "held_first": 20, "held_rows": 8}
    run = ended(shared_lab.training.inspect(small("looked", data=data, template="alpaca", max_length=100)))
    assert run.state == "done", (run.why, run.log(20))
    found = shared_lab.training.dataset_report(run.id)
    assert found
    assert (found.rows, found.held, found.dropped) == (18, 8, 2)
    assert [line for line, *_ in found.why_dropped] == [4, 6]
    assert (found.cut, found.duplicates, found.leaks) == (1, 2, 1)
    assert sum(found.counts) == 18 and found.longest > 100
    assert 0 < found.learnt < found.tokens
    assert found.foreign and found.shape == "messages"
    learnt = [text for text, is_learnt in found.samples[0].pieces if is_learnt]
    assert learnt == ["1<|eot_id|>"]


def test_an_adapter_learns_in_32_bits_and_names_its_base_by_name(shared_lab: Lab) -> None:
    run = train_here(shared_lab.settings.lab_runs, small("exact", preset="tiny_qlora", optimizer="adamw_8bit", steps=4))
    assert run.state == "done", run.why
    assert {tensor.dtype for tensor in adapter_of(run).values()} == {torch.float32}
    settings = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "tiny_base"
    with pytest.raises(LabError, match="has no importance matrix"):
        shared_lab.training.export(run.id, importance=True)
