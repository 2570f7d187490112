"""Every kind of file and row that people have: what is read, and what is said of the rest."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.core.errors import LabError
from backend.data.dataset import DatasetSpec
from backend.data.load import load
from backend.data.rows import LoadedData

PAIRS = [(f"How many legs has animal {i}?", f"It has {i} legs: größer") for i in range(20)]
ALPACA = [{"instruction": question, "input": "", "output": answer} for question, answer in PAIRS]
MESSAGES = [
    {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
    for question, answer in PAIRS
]


def read(path: Path, content: str | bytes, **settings: Any) -> LoadedData:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load(DatasetSpec(**{"source": str(path), "splits": "all"} | settings))


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def pairs(data: LoadedData) -> list[tuple[str, str]]:
    rows = [*data.train, *data.eval_rows]
    return [(row.messages[-2]["content"], row.messages[-1]["content"]) for row in rows]


def table(separator: str, head: str = "", names: tuple[str, str] = ("instruction", "output")) -> str:
    rows = "".join(f'"{question}"{separator}"{answer}"\n' for question, answer in PAIRS)
    return f"{head}{names[0]}{separator}{names[1]}\n{rows}"


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("my rows/rows.csv", content)
    return packed.getvalue()


KINDS: dict[str, tuple[str, str | bytes, str]] = {
    "JSON lines": ("a.jsonl", lines(ALPACA), "JSON lines, UTF-8"),
    "JSON list in one line, named as JSON lines": ("a.jsonl", json.dumps(ALPACA), "JSON, UTF-8"),
    "JSON list in several lines": ("a.json", json.dumps(ALPACA, indent=1), "JSON, UTF-8"),
    "JSON list with one row per line": ("a.txt", "[\n" + ",\n".join(map(json.dumps, ALPACA)) + "\n]", "JSON, UTF-8"),
    "pretty JSON lines": ("a.jsonl", "\n".join(json.dumps(row, indent=2) for row in ALPACA), "JSON, UTF-8"),
    "pretty objects with commas": ("a.json", ",\n".join(json.dumps(row, indent=2) for row in ALPACA), "JSON, UTF-8"),
    "object with one list": ("a.json", json.dumps({"version": 2, "rows": ALPACA}), "JSON, UTF-8"),
    "turns as JSON text": ("a.jsonl", lines([{"messages": json.dumps(row["messages"])} for row in MESSAGES]), "JSON l"),
    "turns in Python's notation": ("a.jsonl", lines([{"messages": str(row["messages"])} for row in MESSAGES]), "JSON"),
    "a list of turns per line": ("a.jsonl", lines([row["messages"] for row in MESSAGES]), "JSON lines, UTF-8"),
    "a list of lists of turns": ("a.json", json.dumps([row["messages"] for row in MESSAGES]), "JSON, UTF-8"),
    "objects in one line": ("a.jsonl", "".join(map(json.dumps, ALPACA)), "JSON, UTF-8"),
    "JSON lines with commas": ("a.jsonl", ",\n".join(map(json.dumps, ALPACA)) + ",\n", "JSON, UTF-8"),
    "line ends of old Macs": ("a.csv", table(",").replace("\n", "\r"), "CSV separated by commas"),
    "line ends of Windows": ("a.jsonl", lines(ALPACA).replace("\n", "\r\n"), "JSON lines"),
    "JSON lines named as CSV": ("a.csv", lines(MESSAGES), "JSON lines, UTF-8"),
    "CSV": ("a.csv", table(","), "CSV separated by commas, UTF-8"),
    "CSV named as JSON lines": ("a.jsonl", table(","), "CSV separated by commas, UTF-8"),
    "CSV with sep=": ("a.csv", table("^", "sep=^\n"), "CSV separated by ^, UTF-8"),
    "CSV with sep= and a byte order mark": ("a.csv", "\ufeff" + table(";", "sep=;\r\n"), "CSV separated by semicolons"),
    "CSV with tabs": ("a.tsv", table("\t"), "CSV separated by tabs"),
    "CSV with bars": ("a.txt", table("|"), "CSV separated by |"),
    "CSV with spaces in its header": ("a.csv", table(",", names=(" instruction", "output  ")), "CSV"),
    "CSV with quotes in its header": ("a.csv", table(";", names=("instruction", "\"output\"")), "CSV separated by"),
    "UTF-8 with a byte order mark": ("a.jsonl", lines(ALPACA).encode("utf-8-sig"), "JSON lines, UTF-8"),
    "UTF-16": ("a.csv", table(";").encode("utf-16"), "CSV separated by semicolons, UTF-16"),
    "UTF-16 without a byte order mark": ("a.csv", table(",").encode("utf-16-le"), "CSV separated by commas, UTF-16-LE"),
    "UTF-32": ("a.json", json.dumps(ALPACA).encode("utf-32"), "JSON, UTF-32"),
    "gzip": ("a.jsonl.gz", gzip.compress(lines(ALPACA).encode()), "JSON lines, UTF-8, unpacked from gzip"),
    "zip": ("a.zip", zipped(table(";").encode("utf-16")), "CSV separated by semicolons, UTF-16, unpacked from zip"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read(kind: str, tmp_path: Path) -> None:
    name, content, said = KINDS[kind]
    data = read(tmp_path / name, content)
    assert pairs(data) == PAIRS and data.dropped == [] and said in data.notes[0]
    assert (len(data.train), len(data.eval_rows)) == (18, 2)


def test_a_line_of_a_pretty_file_is_found(tmp_path: Path) -> None:
    data = read(tmp_path / "a.json", json.dumps([*ALPACA[:3], {"instruction": "q"}], indent=1))
    assert [row.line for row in data.train] == [2, 7, 12] and data.dropped[0].line == 17


def test_quoted_line_breaks_do_not_count_as_rows(tmp_path: Path) -> None:
    content = 'instruction,"out\nput"\n' + "".join(f'"a\n\nb {i}","c\n{i}"\n' for i in range(10))
    data = read(tmp_path / "a.csv", content, answer="out\nput")
    assert (len(data.train), len(data.eval_rows)) == (9, 1)
    assert data.train[1].line == 7 and data.train[1].messages[1]["content"] == "c\n1"


def test_windows_1252_is_offered_with_what_it_would_be(tmp_path: Path) -> None:
    content = "instruction,output\nHow big?,größer – “yes”\n" + "q,a\n" * 3
    for name, text in (("a.csv", content), ("a.jsonl", lines([{"prompt": "q", "completion": "größer – “yes”"}] * 4))):
        packed = text.encode("windows-1252")
        if name == "a.jsonl":
            packed += lines([{"prompt": "q", "completion": "a"}]).encode()
        data = read(tmp_path / name, packed)
        assert data.dropped[0].why == "it is not UTF-8"
        assert "größer – “yes”" in data.dropped[0].text and "Windows-1252" in data.dropped[0].text
        data = read(tmp_path / name, packed, encoding="windows-1252")
        assert data.train[0].messages[1]["content"] == "größer – “yes”" and "Windows-1252" in data.notes[0]


@pytest.mark.parametrize(
    ("content", "there"),
    [
        ('{"prompt": "q", "completion": "a"}\n{"prompt": "q" "completion": 3}\n', '{"prompt": "q" "completion": 3}'),
        ("prompt,completion\nq,a\nq,a,extra cell\n", "q | a | extra cell"),
    ],
)
def test_a_damaged_row_shows_what_is_there(content: str, there: str, tmp_path: Path) -> None:
    data = read(tmp_path / "a.jsonl", content)
    assert data.dropped[0].text == there and len(data.train) == 1


@pytest.mark.parametrize(("rows", "held"), [(1, 0), (2, 0), (9, 0), (10, 1), (19, 1), (20, 2), (200, 20), (201, 20),
                                            (1000, 50)])  # fmt: skip
def test_the_eval_split_is_chosen_from_what_the_file_has(rows: int, held: int, tmp_path: Path) -> None:
    data = read(tmp_path / "a.jsonl", lines([{"prompt": f"q{i}", "completion": "a"} for i in range(rows)]))
    assert (len(data.train), len(data.eval_rows)) == (rows - held, held)
    assert [row.index for row in data.eval_rows] == list(range(rows - held, rows))
    assert (data.spec.splits, data.spec.rows, data.spec.held_rows) == ("numbers", rows - held, held)
    assert f"Of all {rows:,} rows, {rows:,} are usable; " in data.notes[1]
    again = load(data.spec)
    assert (again.sha256, len(again.train), len(again.eval_rows)) == (data.sha256, rows - held, held)


def test_the_eval_split_has_usable_rows(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a", "label": i % 2 == 0 and i < 40} for i in range(60)]
    data = read(tmp_path / "a.jsonl", lines(rows))
    assert (len(data.train), [row.index for row in data.eval_rows]) == (18, [36, 38])
    assert load(data.spec).sha256 == data.sha256


USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
ROWS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "history of Alpaca": ({"instruction": "q", "output": "a", "history": [["q1", "a1"]]}, ["q1", "a1", "q", "a"]),
    "system_prompt": ({"system_prompt": "s", "question": "q", "response": "a"}, ["s", "q", "a"]),
    "label true": ({"prompt": "q", "completion": "a", "label": True}, ["q", "a"]),
    "chosen and rejected": ({"prompt": "q", "chosen": "a", "rejected": "b"}, ["q", "a"]),
    "chosen and rejected turns": ({"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, ["q", "a"]),
    "parts of text": (
        {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": t} for t in ("a", "b")]}]},
        ["q", "ab"],
    ),
    "developer": ({"messages": [{"role": "developer", "content": "s"}, USER, ANSWER]}, ["s", "q", "a"]),
    "a number as the answer": ({"question": "q", "answer": 12}, ["q", "12"]),
    "a fraction as the answer": ({"question": "q", "answer": 0.1}, ["q", "0.1"]),
    "true as the answer": ({"question": "q", "answer": True}, ["q", "true"]),
    "question and reference": ({"question": "q", "reference": "a"}, ["q", "a"]),
    "role and value": ({"conversations": [{"role": "user", "value": "q"}, {"role": "gpt", "value": "a"}]}, ["q", "a"]),
    "from and text": ({"conversations": [{"from": "human", "text": "q"}, {"from": "bot", "text": "a"}]}, ["q", "a"]),
}


NAMED = {"name": "look_up", "arguments": {"city": "Rome"}}
RESULT = {"role": "tool", "content": "rain"}
CALLS: dict[str, list[dict[str, Any]]] = {
    "arguments as an object": [USER, {"role": "assistant", "tool_calls": [{"function": NAMED}]}, RESULT, ANSWER],
    "arguments as JSON text": [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": NAMED | {"arguments": '{"city": "Rome"}'}}]},
        RESULT,
        ANSWER,
    ],
    "ShareGPT": [
        {"from": "human", "value": "q"}, {"from": "function_call", "value": json.dumps(NAMED)},
        {"from": "observation", "value": "rain"}, {"from": "gpt", "value": "a"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", CALLS)
def test_tool_calls_are_read(kind: str, tmp_path: Path) -> None:
    data = read(tmp_path / "a.jsonl", lines([{"conversations": CALLS[kind]}] * 3))
    messages = data.train[0].messages
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1].get("tool_calls") == [{"type": "function", "function": NAMED}] and data.dropped == []


@pytest.mark.parametrize("call", [{}, {"function": {}}, {"function": NAMED | {"arguments": "x"}}, "x", None])
def test_a_tool_call_that_cannot_be_read_is_a_reason(call: Any, tmp_path: Path) -> None:
    bad = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}, RESULT, ANSWER]
    data = read(tmp_path / "a.jsonl", lines([{"messages": bad}, {"messages": [USER, ANSWER]}]))
    assert data.dropped[0].why == "a tool call is not an object with a name and arguments"


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_is_read(kind: str, tmp_path: Path) -> None:
    row, texts = ROWS[kind]
    data = read(tmp_path / "a.jsonl", lines([row] * 3))
    assert [message["content"] for message in data.train[0].messages] == texts and data.dropped == []


@pytest.mark.parametrize("label", [False, "false", "False"])
def test_a_bad_example_is_not_learned(label: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "rubbish", "label": label}, {"prompt": "q", "completion": "a", "label": True}]
    data = read(tmp_path / "a.jsonl", lines(rows))
    assert pairs(data) == [("q", "a")]
    assert data.dropped[0].why == "its 'label' is false, so its answer is a bad example"


def test_a_conversation_that_is_labelled_false_is_not_learned(tmp_path: Path) -> None:
    rows = [{"messages": [USER, ANSWER], "label": label} for label in (False, True)]
    data = read(tmp_path / "a.jsonl", lines(rows))
    assert [row.line for row in data.train] == [2]
    assert data.dropped[0].why == "its 'label' is false, so its answer is a bad example"


def test_a_label_that_is_a_class_is_not_used(tmp_path: Path) -> None:
    data = read(tmp_path / "a.jsonl", lines([{"prompt": "q", "completion": "a", "label": 0}] * 3))
    assert len(data.train) == 3 and data.notes[-1] == "Columns and keys that are not used: 'label'."


@pytest.mark.parametrize(("key", "value"), [("weight", 0), ("weight", 0.0), ("train", False)])
def test_a_turn_can_be_left_out_of_the_loss(key: str, value: Any, tmp_path: Path) -> None:
    row = {"messages": [USER, ANSWER | {key: value}, USER, ANSWER], "system": "s"}
    data = read(tmp_path / "a.jsonl", lines([row, {"messages": [USER, ANSWER | {key: value}]}]))
    assert data.train[0].masked == {2} and len(data.train) == 1
    assert data.dropped[0].why == "none of its answers is to be learned (weight 0)"
    plain = read(tmp_path / "b.jsonl", lines([{"messages": [USER, ANSWER, USER, ANSWER], "system": "s"}]))
    assert plain.sha256 != data.sha256


def test_a_weight_between_is_refused(tmp_path: Path) -> None:
    data = read(
        tmp_path / "a.jsonl", lines([{"messages": [USER, ANSWER | {"weight": 0.5}]}, {"messages": [USER, ANSWER]}])
    )
    assert data.dropped[0].why == "a turn has the weight '0.5', and only 0 and 1 are supported"


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    row = {"id": 1, "messages": [USER | {"name": "Ada"}, ANSWER | {"reasoning_content": "hm"}], "source": "x"}
    data = read(tmp_path / "a.jsonl", lines([row, *MESSAGES[:2]]))
    assert data.notes[-1].startswith("Columns and keys that are not used: ")
    for name in ("id", "source", "messages.name", "messages.reasoning_content"):
        assert f"'{name}' (1 of 3 rows)" in data.notes[-1]


@pytest.mark.parametrize("history", ["x", [["q"]], [["q", ""]], [{"q": "a"}]])
def test_a_history_of_another_kind_is_a_reason(history: Any, tmp_path: Path) -> None:
    rows = [{"instruction": "q", "output": "a", "history": history}, {"instruction": "q", "output": "a"}]
    data = read(tmp_path / "a.jsonl", lines(rows))
    assert len(data.dropped) == 1 and "history" in data.dropped[0].why


@pytest.mark.parametrize("make", [lambda: "a,a\n1,2\n", lambda: 'a,"b\n1,2\n'])
def test_a_header_that_is_not_clear_is_a_sentence(make: Callable[[], str], tmp_path: Path) -> None:
    with pytest.raises(LabError, match="several columns named 'a'|The header of 'a.csv', line 1, is not CSV"):
        read(tmp_path / "a.csv", make())
