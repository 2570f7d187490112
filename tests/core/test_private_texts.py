"""What a run, a judge or a failure is called holds no folder of this machine, no word of a prompt and no address."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from conftest import GENERATION
from huggingface_hub import constants
from support.run_folders import written

from app.compare import comparison
from app.judge import form_choices
from app.judge.form_choices import ENDPOINT, OVERLAP, FormChoices
from backend.core.errors import LabError, short, without_paths
from backend.core.settings import Settings
from backend.data.dataset import DatasetSpec
from backend.hub import client
from backend.hub.names import HubPath
from backend.inference.conversation import Turn
from backend.jobs.events import append_event
from backend.jobs.folders import Exit
from backend.jobs.run import Run
from backend.lab import Lab
from backend.library import weights_folder
from backend.remote import errors
from backend.remote.errors import ApiError
from backend.report import files
from backend.training import checkpoints

HOME = str(Path.home())


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/srv/secret/runs cannot be used: no space. Try again.", "runs cannot be used: no space. Try again."),
        ("[Errno 2] No such file: '/srv/my secret/a b.json'", "[Errno 2] No such file: 'a b.json'"),
        ("it lies in (/srv/secret/x.gguf), and", "it lies in (x.gguf), and"),
        (f"Look into {HOME}, then", "Look into ~, then"),
        (f"{HOME}/secret/x.json is damaged", "x.json is damaged"),
        ("https://huggingface.co/owner/name is gated", "https://huggingface.co/owner/name is gated"),
        ("owner/name and/or 3/4 of /v1", "owner/name and/or 3/4 of /v1"),
    ],
)
def test_a_path_is_shown_by_its_last_part(text: str, left: str) -> None:
    assert without_paths(text) == left
    assert short("/srv/secret/rows.csv") == "rows.csv" and short("owner/name") == "owner/name"


def test_why_a_run_failed_tells_no_folder_and_nothing_that_was_printed(tmp_path: Path) -> None:
    folder = written(tmp_path, "train", "20261101-120000-000")
    old = "The process crashed (SIGSEGV). It last said: what is my secret? Its log has more; start it again."
    (folder / "exit.json").write_text(Exit(state="failed", why=old).model_dump_json())
    assert Run(folder).why == "The process crashed (SIGSEGV)."
    (folder / "exit.json").unlink()
    (folder / "events.jsonl").unlink()
    append_event(folder, "failed", why="FileNotFoundError: /srv/secret/rows.csv is not there.")
    assert (Run(folder).state, Run(folder).why) == ("failed", "FileNotFoundError: rows.csv is not there.")


def test_a_judgement_of_the_screen_is_not_named_after_the_prompt(lab: Lab) -> None:
    now = comparison.with_prompt(
        comparison.new_comparison(("tiny_base", "tiny_lora"), blind=False, votes=()),
        "my secret",
        "",
        FormChoices().sampling,
    )
    said = [Turn(role="assistant", content="x", variant="v", generation=GENERATION, state="ended")] * 2
    now = replace(now, turns=tuple((*turns, one) for turns, one in zip(now.turns, said, strict=True)))
    spec, _ = form_choices.judge_comparison(lab, now, "", OVERLAP, "lab", "score")
    assert spec.name == form_choices.COMPARISON and "secret" not in spec.name


def test_the_methods_paragraph_names_a_file_without_its_folder(lab: Lab) -> None:
    folder = written(lab.settings.lab_runs, "evaluate", "20261101-120000-000")
    whole = json.loads((folder / "spec.json").read_text())
    whole["asked"]["data"] = DatasetSpec(source="/srv/secret/rows.csv").model_dump()
    (folder / "spec.json").write_text(json.dumps(whole))
    found = lab.evaluations.result(folder.name)
    for what in files.EXPORTS:
        assert "/srv" not in files.export(found, what)
    assert "eval split of rows.csv" in files.export(found, "methods paragraph")


def test_the_judge_s_own_address_is_in_no_text(settings: Settings) -> None:
    mine = {"judge_base_url": "https://secret.example/v1", "judge_model": "mine"}
    with Lab(Settings(**(settings.model_dump() | mine), _env_file=None)) as lab:
        (option,) = (name for name, id in form_choices.judges(lab.settings, lab.entries()) if id == ENDPOINT)
        assert option == "mine at the address in JUDGE_BASE_URL"
        with pytest.raises(LabError) as refused:
            lab.evaluations.endpoint()
    said = [str(refused.value), str(errors.too_long_to_wait(500, "https://secret.example/v1"))]
    for kind in ("key", "forbidden", "credit", "no_model", "moved", "unreachable"):
        found = ApiError(kind, detail="secret.example says no")  # type: ignore[arg-type]
        said.append(errors.reason_to_stop(found, "mine", "https://secret.example/v1"))
        assert errors.reason_to_stop(found, "m", "https://api.openai.com/v1").startswith("api.openai.com")
    assert all(said) and "secret" not in " ".join(said)


def test_the_hub_s_own_address_and_folders_are_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://secret.example")
    errors = [
        httpx.ConnectError("no"), httpx.ConnectTimeout("no"), httpx.TooManyRedirects("no"),
        httpx.ReadError("no"), httpx.DecodingError("no"), OSError(errno.EACCES, "denied", "/srv/secret/hub"),
    ]  # fmt: skip
    for error in errors:
        sentence = str(client.lab_error(error, HubPath("owner/name")))
        assert "secret" not in sentence and sentence, error


def test_a_disk_that_refuses_names_a_folder_by_its_last_parts(tmp_path: Path) -> None:
    place = tmp_path / "secret" / "models" / "weights"
    place.mkdir(parents=True)
    (place / ".arriving").write_text("")
    with pytest.raises(LabError) as refused:
        weights_folder.remove_leftovers(place)
    assert "weights/.arriving is a file" in str(refused.value) and "secret" not in str(refused.value)


def test_what_is_wrong_with_a_checkpoint_names_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "secret"
    folder.mkdir()
    assert checkpoints.fault(2, folder) == os.strerror(errno.ENOENT)
