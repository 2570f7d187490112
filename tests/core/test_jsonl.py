"""Records as lines of JSON: whole or not there at all."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.core import jsonl

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "records.jsonl"


def records(path: Path) -> list[dict[str, Any]]:
    return list(jsonl.read(path))


def python(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE)


def test_a_record_comes_back_as_it_was(file: Path) -> None:
    wanted = {"text": 'line\nbreak "quoted" \u2028 \r \x00 \U0001f600', "numbers": [1, 2.5, None, True]}
    jsonl.append(file, wanted)
    assert records(file) == [wanted]


def test_records_come_back_oldest_first(file: Path) -> None:
    for number in range(5):
        jsonl.append(file, {"number": number})
    assert [record["number"] for record in records(file)] == [0, 1, 2, 3, 4]


def test_a_missing_file_holds_no_records(file: Path) -> None:
    assert records(file) == []


@pytest.mark.parametrize("cut", [1, 2, 9])
def test_a_torn_last_line_is_closed_before_the_next_record(file: Path, cut: int) -> None:
    jsonl.append(file, {"number": 1})
    jsonl.append(file, {"number": 2})
    file.write_bytes(file.read_bytes()[:-cut])
    jsonl.append(file, {"number": 3})
    assert file.read_bytes().endswith(b'\n{"number": 3}\n')
    assert [record["number"] for record in records(file)] == ([1, 2, 3] if cut == 1 else [1, 3])


@pytest.mark.parametrize(
    "damage", [b"{", b"[1, 2]", b"7", b"null", b'{"a": \xff\xfe', b"\x00" * 50, b"[" * 200_000, b"9" * 5000, b""]
)
def test_a_damaged_line_is_passed_over(file: Path, damage: bytes) -> None:
    jsonl.append(file, {"number": 1})
    with file.open("ab") as opened:
        opened.write(damage + b"\n")
    jsonl.append(file, {"number": 2})
    assert records(file) == [{"number": 1}, {"number": 2}]


def test_two_processes_never_join_their_lines(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from backend.core import jsonl\n"
        "for n in range(150): jsonl.append(Path(sys.argv[1]), {'who': sys.argv[2], 'n': n, 'fill': 'x' * (n * 97)})"
    )
    writers = [python(code, str(file), who) for who in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(file.read_bytes().splitlines()) == 300
    for who in "ab":
        assert [record["n"] for record in records(file) if record["who"] == who] == list(range(150))


FULL = """
import resource, signal, sys
from pathlib import Path
from backend.core import jsonl
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    jsonl.append(path, {"fill": "x" * int(sys.argv[3])})
except OSError:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize(("room", "size"), [(0, 10), (1, 10), (500, 2000), (5000, 9000), (5000, 100_000)])
@pytest.mark.parametrize("torn", [False, True])
def test_a_full_disk_leaves_the_file_as_it_was(file: Path, room: int, size: int, torn: bool) -> None:
    jsonl.append(file, {"number": 1})
    if torn:
        file.write_bytes(file.read_bytes() + b'{"numb')
    before = file.read_bytes()
    assert python(FULL, str(file), str(room), str(size)).communicate()[0] == "refused\n"
    assert file.read_bytes() == before


def test_a_line_is_json_by_itself(file: Path) -> None:
    jsonl.append(file, {"text": "é"})
    assert json.loads(file.read_bytes()) == {"text": "é"}
