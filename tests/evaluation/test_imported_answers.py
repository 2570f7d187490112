"""Answers made elsewhere: what a file of them may look like, and what is said of one that cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.evaluations import give

from backend.core.errors import LabError
from backend.core.messages import Message
from backend.data.formats import LONGEST_LINE
from backend.evaluation.imported_answers import ImportedAnswer, ImportedFile, load, read, save
from backend.evaluation.records import cluster

ROW: dict[str, Any] = {"model": "m", "id": "1", "instruction": "Say hi.", "reference": "Hi.", "candidate": "Hello."}
HEADER = "model,id,instruction,reference,candidate"


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def scored(folder: Path, *scores: Any) -> ImportedFile:
    return read(lines(folder / "x.jsonl", *(ROW | {"id": n, "score": score} for n, score in enumerate(scores))))


def refusal(path: Path) -> str:
    with pytest.raises(LabError) as refused:
        read(path)
    return str(refused.value)


def test_a_table_and_json_lines_say_the_same(tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    table.write_text(f'{HEADER}\nm,1,"Say ""hi"",\nplease.",Hi.,Hello.\nn,1,"Say ""hi"",\nplease.",Hi.,\n')
    row = ROW | {"instruction": 'Say "hi",\nplease.'}
    other = lines(tmp_path / "x.jsonl", row, row | {"model": "n", "candidate": None})
    assert read(table).rows == read(other).rows and read(table).models == ("m", "n")
    first, second = read(table).rows
    assert first.messages == [Message(role="user", content='Say "hi",\nplease.')]
    assert (first.reference, first.candidate, first.end, first.score) == ("Hi.", "Hello.", "stop", None)
    assert second.candidate == "" and not read(table).scored


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_marks_line_ends_and_separators_do_not_matter(ends: str, mark: str, separator: str, tmp_path: Path) -> None:
    path = tmp_path / "x.CSV"
    rows = [HEADER, "m,1,Say hi.,Hi.,Hello.", "", "n,1,Say hi.,Hi.,Hey."]
    path.write_bytes((mark + ends.join(rows)).replace(",", separator).encode())
    assert [one.candidate for one in read(path).rows] == ["Hello.", "Hey."]


def test_what_is_left_out_is_a_default_and_what_is_more_is_passed_over(tmp_path: Path) -> None:
    bare = {"model": " m ", "id": 7, "instruction": "Say hi.", "candidate": 12, "temperature": 0.5, "cut": "TRUE"}
    (one,) = read(lines(tmp_path / "x.ndjson", bare)).rows
    assert (one.model, one.id, one.candidate, one.reference, one.end) == ("m", "7", "12", None, "length")
    assert read(lines(tmp_path / "y.jsonl", ROW | {"reference": "  ", "cut": 0})).rows[0].reference is None


def test_cells_that_look_like_formulas_stay_text(tmp_path: Path) -> None:
    cells = ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)", "{question}", "%s", "<script>x</script>", "</think>"]
    found = read(lines(tmp_path / "x.jsonl", *(ROW | {"id": n, "candidate": cell} for n, cell in enumerate(cells))))
    assert [one.candidate for one in found.rows] == cells
    path = save(found, tmp_path)
    assert [one.text for one in load(path)[1]] == cells


def test_what_is_no_text_becomes_text(tmp_path: Path) -> None:
    raw = '{"model":"m","id":1,"instruction":"x\\ud800","candidate":"a\\u0000b\\udfff \\u202e \\ud83e\\udd99"}'
    (one,) = read(lines(tmp_path / "x.jsonl", raw)).rows
    assert one.messages[0]["content"] == "x\ufffd" and one.candidate == "a\ufffdb\ufffd \u202e 🦙"
    assert load(save(ImportedFile([one]), tmp_path))[1][0].text == one.candidate


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{", "it is not JSON"),
        ("[1]", "it is no object"),
        ('{"model": "m"}', "it has no id, instruction, candidate"),
        (ROW | {"instruction": " \n"}, "its instruction is empty"),
        (ROW | {"model": ""}, "its model is empty or too long"),
        (ROW | {"model": "m" * 101}, "its model is empty or too long"),
        (ROW | {"id": "i" * 201}, "its id is empty or too long"),
        (ROW | {"candidate": ["a"]}, "one of its texts is no text"),
        (ROW | {"candidate": True}, "one of its texts is no text"),
        (ROW | {"instruction": {"role": "user"}}, "one of its texts is no text"),
        (ROW | {"score": "good"}, "its score 'good' is no number"),
        (ROW | {"score": True}, "its score 'True' is no number"),
        (ROW | {"score": [1]}, "is no number"),
        (ROW | {"score": "NaN"}, "its score 'NaN' is no number"),
        ('{"model":"m","id":1,"instruction":"x","candidate":"y","score":NaN}', "its score 'nan' is no number"),
        ('{"model":"m","id":1,"instruction":"x","candidate":"y","score":-Infinity}', "its score '-inf' is no number"),
        ('{"model":"m","id":1,"instruction":"x","candidate":"y","score":1e999}', "its score 'inf' is no number"),
        (ROW | {"score": 10**400}, "is no number"),
    ],
)
def test_a_fault_is_told_with_its_line(row: Any, why: str, tmp_path: Path) -> None:
    said = refusal(lines(tmp_path / "x.jsonl", ROW, "", row))
    assert f"line 3: {why}" in said or ("line 3: " in said and why in said)
    assert said.startswith("'x.jsonl' cannot be used as it is: line 3: ") and said.endswith(
        "Correct these lines, then import it again."
    )


def test_of_many_faults_the_first_five_are_told(tmp_path: Path) -> None:
    said = refusal(lines(tmp_path / "x.jsonl", ROW, *(ROW | {"id": n, "score": "?"} for n in range(9))))
    assert [f"line {n}:" in said for n in range(1, 9)] == [False, True, True, True, True, True, False, False]
    assert said.count("is no number") == 5 and " and 4 more." in said


def test_a_table_tells_the_lines_of_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f'{HEADER},score\nm,1,"two\nlines",r,c,1\nm,2,x,r,c\nm,3,x,r,c,high\nm,3,x,r,c,3\nm,3,x,r,c,3\n')
    said = refusal(path)
    assert "line 4: it has 5 fields, and the first line has 6" in said
    assert "line 5: its score 'high' is no number" in said and "line 7: 'm' has answered '3' before" in said


def test_rows_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    twice = lines(tmp_path / "twice.jsonl", ROW, ROW | {"model": "n"}, ROW | {"candidate": "Again."})
    assert "line 3: 'm' has answered '1' before" in refusal(twice)
    other = lines(tmp_path / "other.jsonl", ROW, ROW | {"model": "n", "instruction": "Say bye."})
    assert "line 2: '1' has another instruction here than for 'm'" in refusal(other)
    known = lines(tmp_path / "known.jsonl", ROW, ROW | {"model": "n", "reference": "Bye."})
    assert "line 2: '1' has another reference here than for 'm'" in refusal(known)
    with pytest.raises(LabError, match="cannot be judged together: 'a' has answered 'row-0' before"):
        save(ImportedFile(give({"a": ["x"]}) * 2), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ((1, 5, "3"), (1, 5)),
        ((0, 1, 0.25), (0, 1)),
        ((0, 10), (0, 10)),
        ((2.5, 7), (0, 10)),
        ((0, 100, " 50 "), (0, 100)),
        ((3, None, ""), (1, 5)),
    ],
)
def test_the_scale_is_the_first_that_holds_all_scores(scores: Any, scale: Any, tmp_path: Path) -> None:
    found = scored(tmp_path, *scores)
    assert found.scored and (found.low, found.high) == scale
    assert [one.score is None for one in found.rows] == [score in (None, "") for score in scores]


@pytest.mark.parametrize("scores", [(-1, 1), (0, 101), (1e9,)])
def test_scores_on_no_known_scale_are_refused(scores: Any, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="which is none of the scales known here") as refused:
        scored(tmp_path, *scores)
    assert f"lie between {min(scores):g} and {max(scores):g}" in str(refused.value)


def test_without_scores_nothing_is_scored(tmp_path: Path) -> None:
    assert not scored(tmp_path, None, "", "  ").scored


def test_files_that_hold_nothing_or_nothing_that_can_be_read(tmp_path: Path) -> None:
    for name in ("empty.jsonl", "empty.csv"):
        assert "holds no answers" in refusal(lines(tmp_path / name))
    assert "holds no answers" in refusal(lines(tmp_path / "header.csv", HEADER))
    assert "is of no known kind" in refusal(lines(tmp_path / "x.xlsx", "PK"))
    assert "cannot be read" in refusal(tmp_path / "nowhere.jsonl")
    (tmp_path / "folder.csv").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.csv")
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe{\x00\n")
    assert "line 1: it is not UTF-8" in refusal(tmp_path / "x.jsonl") or "UTF-16" in refusal(tmp_path / "x.jsonl")
    (tmp_path / "bytes.csv").write_bytes(f"{HEADER}\nm,1,x,r,\xff\n".encode("latin-1"))
    assert "line 2: it is not UTF-8" in refusal(tmp_path / "bytes.csv")


def test_a_huge_field_is_read_or_refused_in_words(tmp_path: Path) -> None:
    long = "word " * 10_000
    (one,) = read(lines(tmp_path / "x.jsonl", ROW | {"candidate": long, "explanation": long})).rows
    assert one.candidate == long and len(one.explanation) == 2000
    path = tmp_path / "y.jsonl"
    lines(path, ROW, ROW | {"id": 2, "candidate": "x" * LONGEST_LINE})
    assert "line 2: its line is longer than" in refusal(path)
    lines(tmp_path / "y.csv", HEADER, f"m,1,x,r,{'x' * LONGEST_LINE}")
    assert "Line 2 of 'y.csv' is longer than" in refusal(tmp_path / "y.csv")


def test_what_is_kept_comes_back_as_questions_and_answers(tmp_path: Path) -> None:
    rows = give({"one": ["a", None, "\u202eb 🦙"], "two": [None, "c", "d"]}, end="length", explanation="why", score=2.0)
    path = save(ImportedFile(rows), tmp_path)
    assert path == save(ImportedFile(rows), tmp_path) and path != save(ImportedFile(rows[:-1]), tmp_path)
    questions, answers = load(path)
    assert [one.id for one in questions] == ["row-0", "row-2", "row-1"]
    assert [one.cluster for one in questions] == [cluster(one.messages) for one in questions]
    assert [(one.row, one.variant, one.text) for one in answers] == [(one.id, one.model, one.candidate) for one in rows]
    assert all(one.cut and (one.score, one.explanation) == (2.0, "why") for one in answers)


def test_a_kept_file_that_is_not_what_it_was_is_refused(tmp_path: Path) -> None:
    path = save(ImportedFile(give({"one": ["a", "b"]})), tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole + b"{}\n", whole.replace(b'"a"', b'"b"'), b""):
        path.write_bytes(damaged)
        with pytest.raises(LabError, match="are gone or were changed"):
            load(path)
    path.write_bytes(whole)
    assert len(load(path)[1]) == 2
    path.unlink()
    with pytest.raises(LabError, match="are gone or were changed"):
        load(path)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_whatever_is_answered_survives_the_way_there_and_back(texts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines(path, *(ROW | {"id": n, "candidate": text} for n, text in enumerate(texts)))
    rows = read(path).rows
    assert [one.candidate for one in rows] == [
        ImportedAnswer.model_validate(one.model_dump()).candidate for one in rows
    ]
    assert [one.text for one in load(save(ImportedFile(rows), tmp_path))[1]] == [one.candidate for one in rows]
    for text, row in zip(texts, rows, strict=True):
        assert row.candidate == text or not text.isprintable()
