"""The scripts in examples/ do what their first lines say, and are short."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

ROWS = [
    "model,id,instruction,reference,candidate",
    *(f"good,{n},What is {n}?,It is {n}.,It is {n}." for n in range(7)),
    *(f"bad,{n},What is {n}?,It is {n}.,No." for n in range(7)),
]


def run(folder: Path, name: str, *arguments: str) -> str:
    """What the script prints, with runs and weights in `folder`."""
    environment = os.environ | {"LAB_RUNS": str(folder / "runs"), "LAB_WEIGHTS": str(folder / "weights")}
    words = [sys.executable, "-m", f"examples.{name}", *arguments]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_chat_prints_the_answer_of_a_variant(tmp_path: Path) -> None:
    assert run(tmp_path, "chat", "What is the capital of France?").startswith("Paris\n(3 tokens, ")


def test_compare_prints_the_answer_of_each_variant(tmp_path: Path) -> None:
    answers = run(tmp_path, "compare", "What is the capital of Italy?", "tiny_base", "tiny_lora")
    assert answers == 'tiny_base: Rome\ntiny_lora: {"answer": "Rome"}\n'


def test_evaluate_prints_the_verdict(tmp_path: Path) -> None:
    assert run(tmp_path, "evaluate", "8", "tiny_base", "tiny_lora").startswith("tiny_lora is better than tiny_base by ")


def test_import_answers_prints_the_verdict(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("\n".join(ROWS))
    assert run(tmp_path, "import_answers", str(tmp_path / "answers.csv")).startswith("bad is worse than good by ")


@pytest.mark.long
def test_train_and_export_asks_the_variant_it_made(tmp_path: Path) -> None:
    assert "tokens/s" in run(tmp_path, "train_and_export", "mine", "4")
    assert [path.name for path in (tmp_path / "weights").iterdir() if not path.name.startswith(".")] == ["mine"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_an_example_has_at_most_30_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 30
