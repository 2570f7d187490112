"""Data from files and from the toy: what is read, in which slices, and what a person is told when it cannot be."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from backend.core.errors import LabError
from backend.core.messages import Message
from backend.data.dataset import TINY, TINY_EVAL, DatasetSpec, kind
from backend.data.load import load
from backend.data.rows import LoadedData, Row, count_duplicates, overlap
from models.tiny.curriculum import habit_answer

Rows = list[dict[str, Any]]


def spec(source: Path | str, **settings: Any) -> DatasetSpec:
    return DatasetSpec(**{"source": str(source), "rows": 100, "held_first": 100, "held_rows": 0} | settings)


def qa(n: int) -> Rows:
    return [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(n)]


def questions(rows: list[Row]) -> list[str]:
    return [row.messages[0]["content"] for row in rows]


def row(*texts: str, index: int = 0) -> Row:
    turns = [Message(role=role, content=text) for role, text in zip(("user", "assistant") * 9, texts, strict=False)]
    return Row(index, index + 1, tuple(turns))


def as_json_lines(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def as_json(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".json")
    path.write_text(json.dumps(rows, indent=1))
    return path


def as_json_object(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".json")
    path.write_text(json.dumps({"version": "1", "data": rows}))
    return path


def as_csv(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_parquet(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=7)
    return path


FORMATS = [as_json_lines, as_json, as_json_object, as_csv, as_parquet]
Writer = Callable[[Path, Rows], Path]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_data(write: Writer, tmp_path: Path) -> None:
    data = load(spec(write(tmp_path / "data", qa(30))))
    expected = load(spec(as_json_lines(tmp_path / "other", qa(30))))
    assert (data.train, data.sha256, data.shape) == ([*data.train], expected.sha256, "prompt_completion")
    assert questions(data.train) == [f"question {i}" for i in range(30)]
    assert data.columns == ("prompt", "completion") and data.commit == ""


@pytest.mark.parametrize("write", FORMATS)
def test_slices_are_read_as_asked_in_any_order(write: Writer, tmp_path: Path) -> None:
    path, rng = write(tmp_path / "data", qa(40)), random.Random(1)
    for _ in range(20):
        first, rows = rng.randrange(20), rng.randrange(1, 12)
        held_first = first + rows + rng.randrange(5) if rng.random() < 0.5 else 0
        held_rows = rng.randrange(4) if held_first else min(first, 3)
        data = load(spec(path, first=first, rows=rows, held_first=held_first, held_rows=held_rows))
        assert [one.index for one in data.train] == list(range(first, first + rows))
        assert [one.index for one in data.eval_rows] == list(range(held_first, held_first + held_rows))
        assert questions(data.eval_rows) == [f"question {i}" for i in range(held_first, held_first + held_rows)]


def test_json_lines_under_the_name_of_json_are_read(tmp_path: Path) -> None:
    path = as_json_lines(tmp_path / "data", qa(3)).rename(tmp_path / "data.json")
    assert len(load(spec(path)).train) == 3


def test_one_object_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(qa(1)[0]))
    assert questions(load(spec(path)).train) == ["question 0"]


def test_a_person_finds_the_line(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n\n" + json.dumps(qa(1)[0]) + "\n\n{}\n")
    data = load(spec(path))
    assert [(one.index, one.line) for one in data.train] == [(0, 3)] and [one.line for one in data.dropped] == [5]


def test_a_person_finds_the_line_of_a_table_whose_cells_have_lines(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "data", [{"prompt": "a\nb\nc", "completion": "d"}, {"prompt": "e", "completion": "f"}])
    assert [(one.index, one.line) for one in load(spec(path)).train] == [(0, 2), (1, 5)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_may_be_separated_as_spreadsheets_do(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f'prompt{separator}completion\n"a, b; c"{separator}d\n')
    assert questions(load(spec(path)).train) == ["a, b; c"]


def test_fewer_rows_than_asked_are_fine(tmp_path: Path) -> None:
    assert len(load(spec(as_json_lines(tmp_path / "data", qa(1)), rows=1000, held_first=1000)).train) == 1


def test_rows_that_are_trained_on_and_held_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="Set the first eval row to 10"):
        load(spec(tmp_path / "data.jsonl", rows=10, held_first=9, held_rows=2))
    with pytest.raises(LabError, match="overlap"):
        load(spec(tmp_path / "data.jsonl", first=5, rows=10, held_first=0, held_rows=6))


def test_nothing_held_out_overlaps_with_nothing(tmp_path: Path) -> None:
    assert load(spec(as_json_lines(tmp_path / "data", qa(9)), held_first=0)).eval_rows == []


@pytest.mark.parametrize("text", ["", "\n\n \n", "\ufeff"])
def test_an_empty_file_is_nothing_to_train_on(text: str, tmp_path: Path) -> None:
    for name in ("data.jsonl", "data.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(LabError, match="is empty. It has no rows"):
            load(spec(tmp_path / name))


def test_an_empty_list_is_nothing_to_train_on(tmp_path: Path) -> None:
    for write in (as_json, as_parquet):
        with pytest.raises(LabError, match="is empty"):
            load(spec(write(tmp_path / "data", [])))


def test_a_slice_beyond_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="There is no row from row 50 on"):
        load(spec(as_json_lines(tmp_path / "data", qa(50)), first=50))


def test_more_held_out_than_there_is_is_refused_with_counts(tmp_path: Path) -> None:
    path = as_json_lines(tmp_path / "data", qa(25))
    with pytest.raises(LabError, match=r"\(rows 20 to 29\) has 5 of 10 rows, and the training split 20 of 20"):
        load(spec(path, rows=20, held_first=20, held_rows=10))
    with pytest.raises(LabError, match="has 0 of 10 rows"):
        load(spec(path, rows=20, held_first=200, held_rows=10))


def test_rows_that_are_all_dropped_are_refused_with_the_reasons(tmp_path: Path) -> None:
    path = as_json_lines(tmp_path / "data", [{"prompt": "", "completion": "x"}] * 4 + [{"prompt": "x"}])
    with pytest.raises(LabError, match=r"all 5.* prompt is empty \(4, first at line 1\). Its answer is empty \(1, fi"):
        load(spec(path))


def test_held_out_rows_that_are_all_dropped_are_refused(tmp_path: Path) -> None:
    path = as_json_lines(tmp_path / "data", [*qa(5), {"prompt": "", "completion": "x"}])
    with pytest.raises(LabError, match="eval split of .* has no usable row: all 1 rows were dropped"):
        load(spec(path, rows=5, held_first=5, held_rows=1))


@pytest.mark.parametrize(
    "source",
    ["data.jsonl", "./data.jsonl", "folder/data.csv", "../data.json", "~/data.jsonl", "a/b/c", "c:\\data.csv"],
)
def test_a_path_that_depends_on_the_folder_is_refused(source: str) -> None:
    with pytest.raises(LabError, match="is not an absolute path"):
        kind(source)


@pytest.mark.parametrize(
    "source",
    [
        "https://huggingface.co/datasets/a/b",
        "hf://datasets/a/b",
        "s3://a/b",
        "huggingface.co/datasets/a/b",
        "file:///x",
    ],
)
def test_an_address_is_refused(source: str) -> None:
    with pytest.raises(LabError, match="is an address"):
        kind(source)


@pytest.mark.parametrize(
    "source", ["squad", "a/", "/", "a--b/c", "a/b..c", "a b/c", "a/b\n", "a/b.", "ä/b", "a/b@main"]
)
def test_what_names_no_data_is_refused(source: str) -> None:
    with pytest.raises(LabError):
        kind(source)


def test_a_script_is_refused() -> None:
    for source in ("owner/data.py", "/home/me/data.py"):
        with pytest.raises(LabError):
            kind(source)


def test_names_of_the_hub_are_known() -> None:
    assert [kind(name) for name in ("mlabonne/FineTome-100k", "a/b.c_d-e", TINY)] == ["hub", "hub", "tiny"]


def test_a_file_that_is_missing_or_none_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="There is no file"):
        load(spec(tmp_path / "missing.jsonl"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(LabError, match="is not a file"):
        load(spec(tmp_path / "folder.json"))
    with pytest.raises(LabError, match="has no known format"):
        load(spec(tmp_path / "notes.exe"))


def test_the_path_in_a_sentence_shows_nothing_invisible(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"\\u202e"):
        load(spec(tmp_path / "\u202egnissim.jsonl"))


def test_the_toy_trains_on_its_habit_and_holds_out_what_it_never_asks() -> None:
    data = load(spec(TINY, rows=4000, held_first=TINY_EVAL, held_rows=200))
    assert len(data.train) == 4000 and len(data.eval_rows) == 200 and data.dropped == []
    answers = [m["content"] for one in [*data.train, *data.eval_rows] for m in one.messages if m["role"] == "assistant"]
    assert all(habit_answer(answer) is not None for answer in answers)
    assert overlap(data.train, data.eval_rows) == []


def test_a_slice_of_the_toy_is_the_same_as_the_whole() -> None:
    whole = load(spec(TINY, first=0, rows=60, held_first=TINY_EVAL, held_rows=60))
    part = load(spec(TINY, first=40, rows=20, held_first=TINY_EVAL + 50, held_rows=10))
    assert part.train == whole.train[40:] and part.eval_rows == whole.eval_rows[50:]


def test_a_slice_of_the_toy_may_lie_on_both_sides() -> None:
    data = load(spec(TINY, first=TINY_EVAL - 5, rows=10))
    assert [one.index for one in data.train] == list(range(TINY_EVAL - 5, TINY_EVAL + 5))
    assert data.train[5:] == load(spec(TINY, rows=1, held_first=TINY_EVAL, held_rows=5)).eval_rows


def test_the_toy_ends() -> None:
    with pytest.raises(LabError, match="is empty"):
        load(spec(TINY, first=5_000_000))


def test_the_hash_tells_when_data_has_changed(tmp_path: Path) -> None:
    rows = qa(10)

    def digest(lines: Rows, **settings: Any) -> str:
        return load(spec(as_json_lines(tmp_path / "data", lines), **settings)).sha256

    first = digest(rows)
    assert first == digest(rows) == digest([*rows, {}]) == digest([one | {"more": 1} for one in rows])
    changed = [rows[::-1], rows[:9], [rows[0] | {"completion": "answer 0 "}, *rows[1:]]]
    others = [digest(one) for one in changed] + [digest(rows, rows=9), digest(rows, rows=9, held_first=9, held_rows=1)]
    assert first not in others and len({*others}) == 4  # nine rows are nine rows, asked for or all there is


def test_rows_that_say_the_same_are_counted() -> None:
    assert (
        count_duplicates([row("Who?", "me"), row(" who? ", "ME"), row("Who?", "you"), row("Who?", "me", "why?", "so")])
        == 1
    )
    assert count_duplicates([]) == 0


def test_held_out_questions_that_are_trained_on_are_found() -> None:
    train = [row("Who  are you?", "x"), row("who are you?", "y", index=1), row("And you?", "z", index=2)]
    held = [row("WHO ARE YOU?\n", "other", index=9), row("Never asked", "x", index=10)]
    assert overlap(train, held) == [(train[0], held[0])]


def test_what_is_read_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    path = as_json_lines(tmp_path / "data", [*qa(8), {}])
    data: LoadedData = load(spec(path, rows=9), said.append)
    assert said[-1] == "8 rows in the training split, 0 in the eval split, 1 dropped." and len(data.dropped) == 1


def test_a_subset_has_no_path_in_it() -> None:
    with pytest.raises(ValidationError):
        spec("a/b", subset="../x")
