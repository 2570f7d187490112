"""The app starts and answers in the environments that people have (docs/environments.md)."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT, start_app, stop_app
from support.session import Visitor

NOWHERE = "/proc/nowhere"  # no user, not even root, can make a folder there


@dataclass(frozen=True)
class Environment:
    """`variables`: of the app. `root`: makes the folder of the app's code. `folder`: the working directory."""

    variables: dict[str, str] = field(default_factory=dict)
    root: Callable[[Path], Path] = lambda home: ROOT
    folder: str = ""
    cores: int = 0


def copy_of_repository(home: Path) -> Path:
    """The tracked files in a folder whose path has blanks and letters of other alphabets."""
    target = home / "мой проект 一 é"
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "bench/")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


ENVIRONMENTS = {
    "no home": Environment({"HOME": NOWHERE, "XDG_CACHE_HOME": "", "HF_HOME": ""}),
    "an ASCII locale": Environment({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "another working directory": Environment(folder="/"),
    "a path with blanks and other alphabets": Environment(root=copy_of_repository),
    "a temporary folder of Gradio that cannot be written": Environment({"GRADIO_TEMP_DIR": NOWHERE}),
    "a temporary folder that does not exist": Environment({"TMPDIR": NOWHERE}),
    "a folder of runs that cannot be made": Environment({"LAB_RUNS": NOWHERE}),
    "a folder of weights that cannot be made": Environment({"LAB_WEIGHTS": NOWHERE}),
    "one core": Environment(cores=1),
    "HF_HUB_OFFLINE": Environment({"HF_HUB_OFFLINE": "1"}),
}
QUICK = {"an ASCII locale"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in ENVIRONMENTS]
)
def test_the_app_starts_and_answers(name: str, tmp_path: Path) -> None:
    chosen = ENVIRONMENTS[name]
    app = start_app(
        tmp_path, code=chosen.root(tmp_path), folder=chosen.folder or None, cores=chosen.cores, **chosen.variables
    )
    try:
        assert "Paris" in str(Visitor(app).chat("What is the capital of France?").result(60)[1])
    finally:
        stop_app(app)
    assert "Traceback" not in (tmp_path / "app.log").read_text()


def test_every_environment_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in ENVIRONMENTS)
