"""python -m bench.structure [COMMIT...]

Prints a row for the working tree and for each commit: Python files of app/, backend/ and models/ (without tiny/),
their lines, files per 1,000 lines, the median and the largest file.
"""

import subprocess
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
FOLDERS = ("app", "backend", "models")


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def counted(name: str) -> bool:
    return name.endswith(".py") and name.startswith(tuple(f"{folder}/" for folder in FOLDERS)) and "/tiny/" not in name


def lines_of_tree() -> dict[str, int]:
    """Lines by file, of the working tree."""
    names = [name for name in git("ls-files", "-co", "--exclude-standard").splitlines() if (ROOT / name).exists()]
    return {name: len((ROOT / name).read_text().splitlines()) for name in names if counted(name)}


def lines_at(commit: str) -> dict[str, int]:
    """Lines by file, of a commit."""
    names = [name for name in git("ls-tree", "-r", "--name-only", commit).splitlines() if counted(name)]
    return {name: len(git("show", f"{commit}:{name}").splitlines()) for name in names}


def row(title: str, lines: dict[str, int]) -> str:
    total, largest = sum(lines.values()), max(lines, key=lambda name: lines[name])
    backend = sum(name.startswith("backend/") for name in lines)
    return (
        f"| {title} | {len(lines)} | {backend} | {total:,} | {1000 * len(lines) / total:.1f} | "
        f"{median(lines.values()):.0f} | {lines[largest]} ({largest}) |"
    )


def main() -> None:
    print("| | files | of them backend | lines | files per 1,000 lines | median file | largest file |")
    print("|---|--:|--:|--:|--:|--:|---|")
    for commit in sys.argv[1:]:
        print(row(commit[:7], lines_at(commit)))
    print(row("now", lines_of_tree()))


if __name__ == "__main__":
    main()
