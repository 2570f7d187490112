"""The structure of the code: layers, workers, file sizes, and that README and package docstrings name what exists."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backend.core.settings import Settings

ROOT = Path(__file__).parents[1]

# From the lowest layer to the highest. A module imports from its own package or from a lower layer (docs/structure.md).
LAYERS = [
    ["models"],
    ["backend.core"],
    ["backend.jobs", "backend.hub", "backend.remote", "backend.stats", "backend.gguf"],
    ["backend.data", "backend.llamacpp"],
    ["backend.inference"],
    ["backend.library", "backend.training", "backend.judge"],
    ["backend.export", "backend.evaluation"],
    ["backend.report"],
    ["backend.lab"],
    ["app"],
    ["bench", "examples"],
]
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}
HEAVY = {
    "torch", "transformers", "trl", "peft", "unsloth", "datasets", "wandb", "bitsandbytes", "llama_cpp", "accelerate",
    "openai", "sacrebleu", "scipy", "statsmodels",
}  # fmt: skip
BY_NAME = {"backend.data.hub_dataset", "backend.data.parquet"}  # backend.data.load imports them when they are needed
TOY = "models.tiny"  # scripts that make the embedded model; only its questions are for others


def tracked(pattern: str) -> list[Path]:
    """Files of the project, whether or not they are committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return sorted(ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists())


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def ours() -> dict[str, Path]:
    return {module_name(path): path for path in tracked("*.py") if path.parts[len(ROOT.parts)] in OURS}


OURS = ("app", "backend", "models", "bench", "examples")


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Every module a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{name.name}" for name in node.names)
    return frozenset(found)


@functools.cache
def edges() -> dict[str, set[str]]:
    modules = ours()
    return {name: {found for found in imports(path) if found in modules} - {name} for name, path in modules.items()}


def package_of(module: str) -> str:
    return max((name for name in LAYER if module == name or module.startswith(name + ".")), key=len, default="")


@functools.cache
def workers() -> set[str]:
    """Modules that are started as processes: those that can be run."""
    return {
        name
        for name, path in ours().items()
        if name.startswith("backend.") and 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
    }


def used_by_workers_only() -> set[str]:
    """Workers, and what nothing but them imports."""
    graph, inside = edges(), workers() | BY_NAME | {name for name in ours() if name.startswith(TOY + ".")}
    while True:
        more = {
            name
            for name in graph
            if name not in inside and (users := {user for user in graph if name in graph[user]}) and users <= inside
        }
        if not more:
            return inside
        inside |= more


def test_every_module_belongs_to_a_layer() -> None:
    assert [name for name in ours() if not package_of(name) and name != "backend"] == []


def test_imports_go_down_only() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, targets in edges().items()
        for target in targets
        if package_of(target) != package_of(name) and LAYER[package_of(target)] >= LAYER[package_of(name)]
    ]
    assert wrong == []


def test_only_one_package_imports_llama_cpp() -> None:
    users = {
        package_of(name) for name, path in ours().items() if any(m.split(".")[0] == "llama_cpp" for m in imports(path))
    }
    assert users == {"backend.llamacpp"}


def test_only_the_app_imports_gradio() -> None:
    users = {
        package_of(name) for name, path in ours().items() if any(m.split(".")[0] == "gradio" for m in imports(path))
    }
    assert users == {"app"}


def test_there_are_no_circles() -> None:
    graph, done = edges(), set[str]()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_module_imports_a_worker() -> None:
    wrong = [f"{name} imports {target}" for name, targets in edges().items() for target in targets & workers()]
    assert wrong == []


def test_heavy_libraries_are_imported_by_workers_and_their_own_files_only() -> None:
    allowed = used_by_workers_only()
    wrong = [
        f"{name} imports {found}"
        for name, path in ours().items()
        for found in imports(path)
        if found.split(".")[0] in HEAVY and name not in allowed
    ]
    assert wrong == []


def test_models_import_nothing_of_ours() -> None:
    wrong = [(name, t) for name, ts in edges().items() if name.startswith("models") for t in ts if t[:6] != "models"]
    assert wrong == []


def test_the_screen_loads_nothing_heavy() -> None:
    code = (
        "import sys; from app.page import create_ui; from backend.lab import Lab\n"
        "from backend.core.settings import Settings\n"
        "create_ui(Lab(Settings(_env_file=None)))\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_file_is_over_400_lines() -> None:
    long = {str(p.relative_to(ROOT)): n for p in tracked("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_every_package_has_a_docstring() -> None:
    packages = [path for path in ours().values() if path.name == "__init__.py"]
    assert packages
    assert [str(path) for path in packages if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_env_template_and_settings_name_the_same() -> None:
    text = (ROOT / "env.template").read_text()
    named = re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert {name.lower() for name, _ in named} == set(Settings.model_fields)
    assert [name for name, value in named if value] == []


def test_env_template_comments_on_every_line() -> None:
    before = ""
    for line in (ROOT / "env.template").read_text().splitlines():
        if re.match(r"[A-Z_]+=", line) and not before.startswith("#"):
            assert line.split("=")[0] in ("WANDB_API_KEY", "SPACE_CREATOR_USER_ID", "OAUTH_CLIENT_SECRET"), line
        before = line


def test_every_package_lists_its_files() -> None:
    """The docstring of a package's `__init__.py` has a line for each of its modules and packages."""
    missing = []
    for name, path in ours().items():
        if path.name != "__init__.py" or name.startswith(TOY):
            continue
        text = ast.get_docstring(ast.parse(path.read_text()), clean=False) or ""
        inside = {m.removeprefix(name + ".").partition(".")[0] for m in ours() if m.startswith(name + ".")}
        missing += [f"{name}: {stem}" for stem in sorted(inside) if not re.search(rf"(?m)^ *{stem} +\S", text)]
    assert missing == []


def test_readme_names_every_package() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 200
    packages = [name.replace(".", "/") for name, path in ours().items() if path.name == "__init__.py"]
    assert [name for name in packages if f"`{name}/`" not in readme] == []


def test_no_file_names_a_machine() -> None:
    wrong = [
        str(path)
        for path in tracked("*")
        if path.suffix in (".py", ".md", ".toml", ".txt", ".sh", ".template", "") and path.name != "test_structure.py"
        if re.search(r"/work/|/root/|/opt/", path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-train.txt"])
def test_requirements_have_an_upper_bound(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith(("#", "-"))]
    assert lines
    assert [line for line in lines if "<" not in line and "==" not in line] == []


def test_no_test_imports_from_another_test_file() -> None:
    """What several test files share is in tests/support, tests/servers or tests/conftest.py."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in tracked("tests/*.py")
        for name in imports(path)
        if name.split(".")[-1].startswith("test_") or ".test_" in name
    ]
    assert wrong == []


def test_the_testing_guide_names_files_that_exist_and_a_fast_one_for_every_promise() -> None:
    guide = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    assert len(guide.splitlines()) <= 120
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", guide))
    assert named and sorted(name for name in named if not (ROOT / name).is_file()) == []
    promises = [line.split("|") for line in guide.partition("## Promises")[2].splitlines() if "`tests/" in line]
    assert len(promises) >= 11
    assert [promise for _, promise, fast, *_ in promises if "`tests/" not in fast] == []
    long = {name for _, _, _, third, *_ in promises for name in re.findall(r"`(tests/[\w/]+\.py)`", third)}
    assert sorted(name for name in long if "mark.long" not in (ROOT / name).read_text(encoding="utf-8")) == []
