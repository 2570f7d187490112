"""Malformed models by the hundred: the header check refuses, the loader refuses or dies, and nothing hangs."""

import contextlib
import os
import queue
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from support.mangle import mangled

from models.check import BadFile, read_header

SECONDS = 20  # that one file may take to load and to speak four tokens


class Loader:
    """The child that loads files, replaced by another when one of them ends it."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "tests/support/load_many.py"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GGML_NO_BACKTRACE": "1"},
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self.listen, args=(self.child, self.lines), daemon=True).start()

    @staticmethod
    def listen(child: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str]") -> None:
        assert child.stdout
        for line in child.stdout:
            if "== " in line:  # what llama.cpp wrote before may lack its line end
                lines.put(line[line.index("== ") + 3 :].strip())
        lines.put("killed")

    def fate(self, what: str, file: Path) -> str:
        """`loaded`, `refused ...`, `killed by ...` or `hung`."""
        assert self.child.stdin
        try:
            self.child.stdin.write(f"{what} {file}\n")
            self.child.stdin.flush()
            found = self.lines.get(timeout=SECONDS)
        except queue.Empty:
            found = "hung"
        except BrokenPipeError:
            found = "killed"
        if found in ("killed", "hung"):
            self.end()
            found += f" by signal {-self.child.returncode}" if found == "killed" else ""
            self.begin()
        return found

    def end(self) -> None:
        self.child.kill()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def fates(files: Iterator[tuple[str, bytes]], what: str, folder: Path, checked: bool = True) -> list[tuple[str, str]]:
    """What became of each file, by its label. Without the check, everything goes to the loader."""
    loader, found, path = Loader(), [], folder / "file.gguf"
    try:
        for label, data in files:
            path.write_bytes(data)
            try:
                if checked:
                    read_header(path)
            except BadFile as error:
                found.append((label, f"not usable: {error}"))
            else:
                found.append((label, loader.fate(what, path)))
            path.unlink()
    finally:
        loader.end()
    return found


def told(found: list[tuple[str, str]]) -> str:
    """The sum, and what ended the loader."""
    sums = Counter(fate.split()[0] for _, fate in found)
    killers = [f"  {label}: {fate}" for label, fate in found if fate.startswith(("killed", "hung"))]
    return "\n".join(
        [
            f"{len(found)} files: {sums['not']} refused by the header check, {sums['refused']} refused by the loader, "
            f"{sums['killed']} killed the loader, {sums['loaded']} loaded",
            *killers,
        ]
    )


def run(what: str, count: int, folder: Path, checked: bool = True) -> list[tuple[str, str]]:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    whole = (TINY / ("tiny_lora.gguf" if what == "adapter" else "tiny_base.gguf")).read_bytes()
    found = fates(mangled(whole, seed, count, what == "adapter"), what, folder, checked)
    print(told(found))
    assert len(found) == count
    if checked:  # what the check refuses may also hang: a context of 2**31 tokens does
        assert [label for label, fate in found if fate == "hung"] == []
    assert {fate.split()[0] for _, fate in found} >= {"not" if checked else "killed", "loaded"}
    return found


@pytest.mark.parametrize(("what", "count"), [("model", 240), ("adapter", 120)])
def test_no_malformed_file_does_more_than_end_its_loader(tmp_path: Path, what: str, count: int) -> None:
    run(what, count, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(("what", "count"), [("model", 4000), ("adapter", 2000)])
def test_no_malformed_file_of_thousands_does_more(tmp_path: Path, what: str, count: int) -> None:
    run(what, count, tmp_path)


@pytest.mark.long
def test_without_the_check_they_would(tmp_path: Path) -> None:
    run("model", 500, tmp_path, checked=False)


def test_the_same_seed_makes_the_same_files() -> None:
    whole = (TINY / "tiny_lora.gguf").read_bytes()
    assert list(mangled(whole, 5, 30, True)) == list(mangled(whole, 5, 30, True))
