"""A person's first file on the Train and Judge tabs, with nothing else touched."""

import html
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import App
from gradio_client import Client, handle_file

ROWS = [{"instruction": f"Which colour has thing {i}?", "input": "", "output": f"colour {i}"} for i in range(20)]


@pytest.fixture(scope="module")
def client(app: App) -> Client:
    return Client(app.url, verbose=False, analytics_enabled=False, download_files=False)


def inspect(client: Client, path: str, **settings: Any) -> tuple[str, str, str]:
    """The message, the report and the rows that are shown."""
    message, report, _, rows, *_ = client.predict(data_source=path, **settings, api_name="/inspect")
    return html.unescape(message), html.unescape(report), str(rows)


def test_a_small_file_is_read_whole_and_split(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS, indent=1))
    source, revision, splits, *_ = client.predict(handle_file(path), api_name="/bring_data")
    assert (revision, splits) == ("", "all")
    for settings in ({"data_splits": splits}, {}):  # also if only the path is entered
        message, report, rows = inspect(client, source, **settings)
        assert message == "" and "**18 rows** in the training split and 2 in the eval split" in report
        assert "The file is read as JSON, UTF-8." in report and "Of all 20 rows, 20 are usable" in report
        assert "Which colour has thing 0?" in rows


def test_a_damaged_row_and_unused_keys_are_shown(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"id": i, "messages": [{"role": "user", "content": "q", "name": "Ada"},
                                               {"role": "assistant", "content": "a", "weight": i % 2}]})
             for i in range(12)]  # fmt: skip
    path.write_text("\n".join([*lines, '{"messages": [{"role" "user"}]}']))
    message, report, _ = inspect(client, str(path))
    assert message == "" and "Columns and keys that are not used: 'id', 'messages.name'." in report
    assert "none of its answers is to be learned (weight 0) (6)" in report
    assert "it is not JSON (Expecting ':' delimiter) (1)" in report
    assert "**7 rows were dropped.**" in report


def test_a_file_without_known_columns_names_a_control_of_the_page(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("ask,tell\nq,a\n")
    message, *_ = inspect(client, str(path))
    assert "“Column of the prompt” or “Column of the answer”" in message


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        ([{"question": "Which candidate model is best?", "reference": "the small one"}] * 3, "file"),
        ([{"instruction": "Which candidate model is best?", "output": "the small one"}] * 3, "file"),
        ([{"model": "a", "id": "1", "instruction": "q", "candidate": "c"}] * 1, "answers"),
    ],
)
def test_a_file_for_the_judge_is_recognised_by_its_columns(
    rows: list[dict[str, Any]], source: str, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, chosen, *_ = client.predict(handle_file(path), api_name="/bring_answers")
    assert chosen == source
