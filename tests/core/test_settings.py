"""Settings are read from the repository wherever the app is started, and a wrong one is a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from backend.core.errors import LabError
from backend.core.settings import Settings, settings_from_environment


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "abc", "a whole number from 0 to 65535"),
        ("PORT", "99999", "a whole number from 0 to 65535"),
        ("PORT", "-1", "a whole number from 0 to 65535"),
        ("LAB_CONTEXT", "x", "a whole number from 256 to 131072"),
        ("LAB_SLOTS", "1.5", "a whole number from 1 to 64"),
        ("JUDGE_CAP_RUN", "nan", "a number from 0 to 1000"),
        ("JUDGE_CAP_DAY", "inf", "a number from 0 to 10000"),
        ("JUDGE_FREE", "perhaps", "1 or 0"),
        ("LAB_TRUSTED", "maybe", "1 or 0"),
        ("LAB_RUNS", "~no-such-user/runs", "the path of a folder"),
    ],
)
def test_a_setting_that_cannot_be_used_is_a_sentence(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(LabError) as refused:
        settings_from_environment()
    said = str(refused.value)
    assert said.startswith(f"{name}='{value}' cannot be used: write {allowed}.") and "start again" in said


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"PORT=abc\n", "PORT='abc' cannot be used"),
        (b"PORT=1\xff\xfe\n", "not text in UTF-8"),
        (b"LAB_SLOTS=0", "from 1 to 64"),
    ],
)
def test_a_broken_env_file_is_a_sentence(
    content: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_bytes(content)
    for name in ("PORT", "LAB_SLOTS"):  # make exports PORT, and the environment comes before .env
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    with pytest.raises(LabError, match=why):
        settings_from_environment()


FOLDERS = """
from backend.core.settings import ROOT, Settings
print(Settings.model_config["env_file"] == ROOT / ".env", Settings().lab_runs, Settings().lab_weights)
"""


def test_places_are_the_repository_s_whatever_the_current_directory_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LAB_RUNS=/nowhere\nPORT=abc\n")  # of another program
    env = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FOLDERS]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    if (ROOT / ".env").exists():
        assert done.stdout.startswith("True"), done.stderr
        return
    assert done.stdout.split() == ["True", str(ROOT / "runs"), str(ROOT / "models" / "weights")], done.stderr
    env |= {"LAB_RUNS": "mine/runs", "LAB_WEIGHTS": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.split()[1:] == [str(ROOT / "mine" / "runs"), str(tmp_path)], done.stderr


def test_the_app_ends_with_one_sentence(tmp_path: Path) -> None:
    """From another directory, too."""
    env = os.environ | {"PORT": "abc"}
    done = subprocess.run([sys.executable, str(ROOT / "app.py")], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("PORT='abc' cannot be used: write a whole number from 0 to 65535.")
