"""Files that are damaged, mislabelled, huge or hostile: one bad row costs one row, and nothing ends in a traceback."""

import contextlib
import gzip
import io
import json
import random
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from backend.core.errors import LabError
from backend.data import text_files
from backend.data.dataset import DatasetSpec
from backend.data.load import load
from backend.data.rows import LoadedData

GOOD = b'{"prompt": "q", "completion": "a"}\n'
FIELD = "x" * 1_000_001


def read(path: Path, content: bytes | str | None = None, **settings: Any) -> LoadedData:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load(DatasetSpec(source=str(path), held_rows=0, **settings))


def reasons(data: LoadedData) -> list[tuple[int, str]]:
    return [(one.line, one.why) for one in data.dropped]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "it is not JSON (Expecting property name enclosed in double quotes)"),
        (b"hello", "it is not JSON (Expecting value)"),
        (GOOD[:-1] * 2, "it is not JSON (Extra data)"),
        (b'{"prompt": "\0", "completion": "a"}', "it is not JSON (Invalid control character at)"),
        (b"\0", "it is not JSON (Expecting value)"),
        ('{"prompt": "ä", "completion": "a"}'.encode("latin-1"), "it is not UTF-8"),
        (b'{"prompt": "\\ud800", "completion": "a"}', "it has half a character (a lone surrogate)"),
        (b"[" * 10_000 + b"]" * 10_000, "it is nested too deeply"),
        (b'{"prompt": "q", "completion": "a", "n": ' + b"9" * 5000 + b"}", "it has a number with too many digits"),
        (b'{"prompt": "' + FIELD.encode() + b'", "completion": "a"}', "it is longer than 1,000,000 characters"),
        (b"[1, 2]", "it is not an object"),
        (b'{"messages": []}', "its prompt is empty"),
    ],
)
def test_a_bad_line_costs_one_row(line: bytes, why: str, tmp_path: Path) -> None:
    data = read(tmp_path / "data.jsonl", GOOD * 3 + line + b"\n" + GOOD * 2)
    assert reasons(data) == [(4, why)] and [row.index for row in data.train] == [0, 1, 2, 4, 5]


def test_a_line_without_an_end_is_passed_over_in_little_memory(tmp_path: Path) -> None:
    data = read(tmp_path / "data.jsonl", GOOD + b'{"prompt": "' + b"x" * 50_000_000 + b'"}\n' + GOOD)
    assert reasons(data) == [(2, "its line is longer than 16,000,000 characters")] and len(data.train) == 2


def test_bad_lines_before_the_first_good_one_do_not_matter(tmp_path: Path) -> None:
    data = read(tmp_path / "data.jsonl", b"?\n" * 120 + GOOD)
    assert len(data.dropped) == 120 and data.train[0].line == 121


def test_a_file_of_bad_lines_is_refused_with_the_commonest_reasons(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"all 3 rows were dropped\. It is not JSON \(Expecting value\) \(3, fi"):
        read(tmp_path / "data.jsonl", b"hello\n" * 3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.jsonl", '{"prompt": "ä\u2028😀", "completion": "a"}\n\n{"prompt": "q", "completion": "a"}\n'),
        ("data.json", '[{"prompt": "ä\u2028😀", "completion": "a"},\n{"prompt": "q", "completion": "a"}]\n'),
        ("data.csv", "prompt,completion\nä\u2028😀,a\nq,a\n"),
    ],
)
def test_text_is_read_as_it_was_written(encoding: str, newline: str, name: str, text: str, tmp_path: Path) -> None:
    data = read(tmp_path / name, text.replace("\n", newline).encode(encoding))
    assert [row.messages[0]["content"] for row in data.train] == ["ä\u2028😀", "q"] and data.dropped == []


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv"])
def test_utf_16_without_a_byte_order_mark_is_read(name: str, encoding: str, tmp_path: Path) -> None:
    data = read(tmp_path / name, (GOOD.decode() * 3).replace("q", "Größe").encode(encoding))
    assert len(data.train) == 3 and data.train[0].messages[0]["content"] == "Größe"
    assert data.notes[0] == f"The file is read as JSON lines, {encoding.upper()}."


def test_utf_16_that_breaks_off_is_a_sentence(tmp_path: Path) -> None:
    for name in ("data.jsonl", "data.json", "data.csv"):
        with pytest.raises(LabError, match="is not valid UTF-16"):
            read(tmp_path / name, (GOOD.decode() * 9).encode("utf-16") + b"\xd8")


def archive(files: dict[str, bytes] | None = None) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in (files or {"data.jsonl": GOOD}).items():
            file.writestr(zipfile.ZipInfo(name), content)  # without the time
    return packed.getvalue()


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    packed = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), packed, **options)
    return packed.getvalue()


PAIR = {"prompt": "q", "completion": "a"}


@pytest.mark.parametrize("name", ["data.jsonl", "data.csv", "data.parquet", "data.zip", "data.gz"])
@pytest.mark.parametrize("content", [archive(), gzip.compress(GOOD, mtime=0), parquet([PAIR]), GOOD])
def test_the_content_decides_and_not_the_ending(name: str, content: bytes, tmp_path: Path) -> None:
    assert read(tmp_path / name, content).train[0].messages[0]["content"] == "q"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(archive(), mtime=0), "is a zip archive. Unpack it"),
        (gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0), "is compressed with gzip. Unpack it"),
        (gzip.compress(parquet([PAIR]), mtime=0), "is a Parquet file. Unpack it"),
        (gzip.compress(GOOD * 9999, mtime=0)[:-9], "is a damaged gzip file"),
        (archive()[:-9], "is a damaged zip file"),
        (archive({"a.csv": GOOD, "b.csv": GOOD}), r"has 2 files \('a.csv', 'b.csv'\), and one is expected"),
        (archive({"__MACOSX/a": b"", "folder/.hidden": b""}), "has 0 files, and one is expected"),
        (archive({"[Content_Types].xml": b"", "xl/workbook.xml": b""}), "is an Excel or Word file. Save the table as"),
        (b"BZh9" + b"1" * 99, "is compressed with bzip2"),
        (b"%PDF-1.7", "is a PDF"),
    ],
)
def test_an_archive_that_cannot_be_read_is_explained(content: bytes, what: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=what):
        read(tmp_path / "data.zip", content, rows=100_000, held_first=100_000)


def test_a_hidden_file_in_an_archive_does_not_count(tmp_path: Path) -> None:
    content = archive({"__MACOSX/._data.jsonl": b"x", "data/.DS_Store": b"x", "data/data.jsonl": GOOD})
    assert len(read(tmp_path / "data.zip", content).train) == 1


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: archive({"data.jsonl": content})])
def test_a_file_that_unpacks_to_too_much_is_refused_in_little_memory(
    pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "LARGEST_UNPACKED", 50_000_000)
    with pytest.raises(LabError, match="unpacks to more than 50,000,000 bytes"):
        read(tmp_path / "data.gz", pack(GOOD * 3 + b" " * 60_000_000))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 99 + b"PAR1", b"PAR1\xff\xff\xffPAR1"])
def test_what_is_no_parquet_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is not a Parquet file"):
        read(tmp_path / "data.parquet", content)


def test_damaged_parquet_is_read_or_a_sentence(tmp_path: Path) -> None:
    rng, whole = random.Random(3), parquet([PAIR] * 200, row_group_size=50)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        end = rng.choice([len(damaged), rng.randrange(len(damaged))])
        with contextlib.suppress(LabError):
            read(tmp_path / "data.parquet", bytes(damaged[:end]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"prompt": "q"', "is not JSON: .* at line 1, column 16"),
        ('"text"', "neither a list of rows nor an object"),
        ("3", "neither a list of rows nor an object"),
        ('{"a": [1], "b": [2]}', "not clear which column has the prompt and the answer; the columns are 'a', 'b'"),
        ("[" * 10_000 + "]" * 10_000, "is nested too deeply"),
        ("[" + "9" * 5000 + "]", "has a number with too many digits"),
        ("hello", r"It is not JSON \(Expecting value\) \(1, first at line 1: hello\)"),
        ('[{"prompt": "q"},\n{"prompt" "q"}]', 'at line 2, column 11, where it has: {"prompt" "q"}]'),
        ('[\n {"prompt": "q"}\n {"prompt": "q"}\n]', "Expecting ',' delimiter at line 3, column 2, where it has"),
        ('[{"prompt": "q"}]\nx', "Extra data at line 2, column 1, where it has: x"),
    ],
)
def test_json_that_cannot_be_read_is_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=said):
        read(tmp_path / "data.json", text)


def test_a_gigabyte_of_zeros_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "data.json").open("wb") as file:
        file.truncate(1_000_000_001)
    with pytest.raises(LabError, match="Its line is longer than 16,000,000 characters"):
        read(tmp_path / "data.json")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("q,a,b\n", "it has 3 fields, and the first line has 2"),
        ("q\n", "it has 1 fields, and the first line has 2"),
        ('"q"x,a\n', "it is not CSV (',' expected after '\"')"),
        ("q\0,a\n", "it has a NUL character"),
        ("q,\n", "its answer is empty"),
        (f"{FIELD},a\n", "it is longer than 1,000,000 characters"),
    ],
)
def test_a_bad_record_of_a_table_costs_one_row(lines: str, why: str, tmp_path: Path) -> None:
    data = read(tmp_path / "data.csv", "prompt,completion\nq,a\n" + lines + "q,a\n")
    assert reasons(data) == [(3, why)] and [row.line for row in data.train] == [2, 4]


def test_a_table_with_a_line_that_does_not_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="Line 3 of 'data.csv' is longer than 16,000,000 characters"):
        read(tmp_path / "data.csv", "prompt,completion\nq,a\n" + "x" * 17_000_000)


def test_a_cell_that_is_not_utf_8_costs_one_row(tmp_path: Path) -> None:
    data = read(tmp_path / "data.csv", "prompt,completion\nq,a\nä,a\n".encode("latin-1"))
    assert reasons(data) == [(3, "it is not UTF-8")]


def test_a_quote_that_is_not_closed_costs_what_follows(tmp_path: Path) -> None:
    data = read(tmp_path / "data.csv", 'prompt,completion\nq,a\n"q,a\n' + "q,a\n" * 50)
    assert reasons(data) == [(3, "it is not CSV (unexpected end of data)")]


def test_more_columns_than_anybody_needs_are_refused(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(1001)]
    with pytest.raises(LabError, match="has 1,001 columns, and 1,000 is the limit"):
        read(tmp_path / "data.csv", ",".join(names) + "\n")
    with pytest.raises(LabError, match="has 1,001 columns, and 1,000 is the limit"):
        read(tmp_path / "data.parquet", parquet([dict.fromkeys(names, "x")]))
    with pytest.raises(LabError, match="more than 1,000 columns"):
        read(tmp_path / "data.jsonl", json.dumps(dict.fromkeys(names, "x")))


def test_a_parquet_file_that_needs_more_memory_than_is_free_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One text of 20 MB, which a file of a few kilobytes has 200 times."""
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200, pyarrow.int32()), ["x" * 20_000_000])
    rows = pyarrow.table({"prompt": text, "completion": text})
    pyarrow.parquet.write_table(rows, tmp_path / "data.parquet", dictionary_pagesize_limit=1 << 28)
    assert (tmp_path / "data.parquet").stat().st_size < 5_000_000
    monkeypatch.setattr("backend.core.machine.memory_free", lambda: 1 << 30)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(LabError, match=r"'data.parquet' needs more memory than is free here \(1.1 GB\)"):
        read(tmp_path / "data.parquet")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_types_that_are_not_text_are_dropped(tmp_path: Path) -> None:
    rows = [{"prompt": b"q", "completion": "a"}, {"prompt": b"\xff", "completion": None}]
    with pytest.raises(LabError, match="Its prompt is not text"):
        read(tmp_path / "data.parquet", parquet(rows))


def test_a_long_table_costs_what_is_read_of_it(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD * 1_000_000)
    start = time.perf_counter()
    assert len(read(path, first=10, rows=1000).train) == 1000
    assert time.perf_counter() - start < 1


def test_parquet_is_read_by_the_group(tmp_path: Path) -> None:
    """Groups that nobody wants may be nothing but damage."""
    rows = [{"prompt": f"question {i}", "completion": "a"} for i in range(400)]
    whole = parquet(rows, row_group_size=100, compression="none", use_dictionary=False)
    middle = whole.index(b"question 150")
    data = read(tmp_path / "data.parquet", whole[: middle - 400] + b"\xff" * 800 + whole[middle + 400 :], first=300)
    assert [row.index for row in data.train] == list(range(300, 400))


SMALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
from backend.data.formats import read_records
from backend.data.text_files import describe
from pathlib import Path
print(sum(1 for record in read_records(describe(Path(sys.argv[1])), [range(100)]) if record.error))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="memory cannot be limited here")
def test_half_a_gigabyte_on_one_line_fits_into_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    with path.open("wb") as file:
        file.write(b'{"prompt": "')
        file.truncate(500_000_000)
    command = [sys.executable, "-c", SMALL, str(path), str(400_000_000)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "1", done.stderr
