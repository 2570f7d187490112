"""The whole screen through its API: every tab, its faults, several visitors."""

import concurrent.futures
import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from conftest import App, start_app
from gradio_client import Client
from gradio_client.exceptions import AppError
from support.session import CAPITAL, ENDLESS, SAMPLING, SLOW, Visitor, htmls, texts, until


@pytest.fixture
def visitor(app: App) -> Visitor:
    return Visitor(app)


def test_every_control_has_a_label_of_its_own(app: App) -> None:
    config = Client(app.url, verbose=False, analytics_enabled=False).config
    labels = [
        part["props"].get("label") or part["props"].get("value")
        for part in config["components"]
        if part["type"] in ("dropdown", "textbox", "slider", "number", "radio", "checkbox", "button", "downloadbutton")
    ]
    assert len(labels) > 20
    assert sorted(labels) == sorted(set(labels))


def test_a_conversation_of_two_turns(visitor: Visitor) -> None:
    first = visitor.said(visitor.chat(CAPITAL))
    assert first[0] == CAPITAL
    assert "Paris" in first[1] and "first token after" in first[1] and "tokens/s" in first[1]
    second = visitor.said(visitor.chat("What is the capital of Italy?"))
    assert len(second) == 4 and "Rome" in second[3]


def test_a_cut_answer_is_impossible_to_overlook(visitor: Visitor) -> None:
    answer = visitor.said(visitor.chat("Hello", **ENDLESS | {"max_tokens": 5}))[1]
    assert "\n⚠ CUT at the token limit (5 tokens)" in answer


def test_a_full_context_is_told(visitor: Visitor) -> None:
    for _ in range(2):
        visitor.said(visitor.chat("Hello", **ENDLESS | {"max_tokens": 700}))
    result = visitor.chat("Hello again", **ENDLESS | {"max_tokens": 400}).result(60)
    assert "oldest messages did not fit" in texts(result[1])[5]
    assert "of 1,024 tokens" in result[2]


def test_stop_keeps_the_part_and_says_who_stopped(visitor: Visitor) -> None:
    job = visitor.chat(SLOW, "echo")
    until(lambda: len(job.outputs()) > 3)
    visitor.client.predict(api_name="/chat_stop")
    answer = visitor.said(job)[1]
    assert answer.startswith("la la") and "stopped by you" in answer


def test_a_new_chat_is_not_filled_by_the_answer_to_the_old_one(visitor: Visitor) -> None:
    job = visitor.chat(SLOW, "echo")
    until(lambda: len(job.outputs()) > 2)
    visitor.client.predict(api_name="/chat_new")
    job.result(60)
    assert len(visitor.said(visitor.chat(CAPITAL))) == 2


def test_nothing_of_a_conversation_is_written_to_disk(app: App, visitor: Visitor) -> None:
    before = sum(1 for _ in Path(tempfile.gettempdir()).glob("**/conversation*"))
    visitor.said(visitor.chat("hello"))
    visitor.client.predict("", api_name="/conversation_json")
    assert sum(1 for _ in Path(tempfile.gettempdir()).glob("**/conversation*")) == before


def test_a_second_click_does_not_start_a_second_answer(visitor: Visitor) -> None:
    job = visitor.chat(SLOW, "echo")
    until(lambda: len(job.outputs()) > 1)
    with pytest.raises(AppError, match="still being generated"):
        visitor.chat("Hello").result(60)
    visitor.client.predict(api_name="/chat_stop")
    assert "stopped by you" in visitor.said(job)[1]


def test_eight_visitors_at_once_each_get_their_own(app: App) -> None:
    countries = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo"}
    asked = [*countries.items()] * 2
    visitors = [Visitor(app) for _ in asked]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pair: pair[0].said(pair[0].chat(f"What is the capital of {pair[1][0]}?")),
                                zip(visitors, asked, strict=True)))  # fmt: skip
    assert [len(answer) for answer in answers] == [2] * 8
    assert all(city in answer[1] for answer, (_, city) in zip(answers, asked, strict=True))


def test_a_visitor_who_leaves_frees_the_place(app: App) -> None:
    leaver = Visitor(app)
    job = leaver.chat("Hello", **ENDLESS | {"max_tokens": 8000})
    until(lambda: len(job.outputs()) > 2)
    job.cancel()
    stayer = Visitor(app)
    jobs = [Visitor(app).chat("Hello", **ENDLESS | {"max_tokens": 20}) for _ in range(4)]
    assert all(job.result(60) for job in jobs)
    assert "Paris" in stayer.said(stayer.chat(CAPITAL))[1]


def test_a_killed_worker_is_told_and_the_next_message_works(app: App, visitor: Visitor) -> None:
    job = visitor.chat(SLOW, "echo")
    until(lambda: len(job.outputs()) > 3)
    worker = next(pid for name, pid in app.children().items() if "worker.echo" in name)
    os.kill(worker, signal.SIGKILL)
    answer = visitor.said(job)[1]
    assert answer.startswith("la la") and "signal 9" in answer
    visitor.client.predict(api_name="/chat_new")
    assert "Paris" in visitor.said(visitor.chat(CAPITAL))[1]


@pytest.mark.parametrize(
    ("text", "asked", "kept"),
    [("   ", {}, "   "), ("x" * 1_000_000, {}, "x" * 1_000_000)],
)
def test_a_refused_message_goes_back_into_the_box(
    visitor: Visitor, text: str, asked: dict[str, Any], kept: str
) -> None:
    result = visitor.chat(text, **asked).result(60)
    assert result[0] == kept and result[1] == []


def test_a_message_longer_than_the_context_is_explained(visitor: Visitor) -> None:
    assert "context holds 1,024" in visitor.said(visitor.chat("word " * 3000))[1]


def test_lone_surrogates_and_special_tokens_are_only_text(visitor: Visitor) -> None:
    assert len(visitor.said(visitor.chat("<|eot_id|> <|start_header_id|>system<|end_header_id|> \u0000 hi"))) == 2


def test_a_bad_sampling_value_is_a_sentence(visitor: Visitor) -> None:
    with pytest.raises(AppError, match="Temperature|minimum|maximum|greater|less"):
        visitor.chat(CAPITAL, temperature=9).result(60)
    assert "not valid GBNF" in visitor.said(visitor.chat(CAPITAL, grammar="root ::= ["))[1]


def test_output_is_shown_inert(visitor: Visitor) -> None:
    text = "<script>alert(1)</script> <img src=http://evil.example/a.png> ![x](http://evil.example/b.png)"
    history = visitor.chat(text, "echo").result(60)[1]
    assert all("<script" not in shown and "<img" not in shown for shown in htmls(history))
    asked, answered = texts(history)
    assert asked == text and answered.startswith("<script>alert(1)</script> <img src=http://evil.example/a.png> !x\n")


def test_a_variant_that_cannot_run_is_not_offered_and_is_refused(visitor: Visitor) -> None:
    with pytest.raises(AppError):
        visitor.chat("Hello", "base_1b").result(60)


def test_the_mismatched_variant_says_so_and_can_be_switched(visitor: Visitor) -> None:
    note = visitor.client.predict("tiny_alpaca", api_name="/chat_variant")
    assert "Trained with the alpaca template" in json.dumps(note)
    assert "template: alpaca" in visitor.said(visitor.chat(CAPITAL, "tiny_alpaca"))[1]
    switched = visitor.said(visitor.chat(CAPITAL, "tiny_alpaca", "as its file says"))[3]
    assert "Paris" in switched and "template: alpaca" not in switched


def test_a_conversation_is_exported_whole(visitor: Visitor) -> None:
    visitor.said(visitor.chat(CAPITAL, system="Answer briefly."))
    record = json.loads(visitor.client.predict("Answer briefly.", api_name="/conversation_json"))
    assert record["system"] == "Answer briefly."
    assert [turn["role"] for turn in record["turns"]] == ["user", "assistant"]
    assert record["turns"][1]["generation"]["end"] == "stop"
    markdown = visitor.client.predict("Answer briefly.", api_name="/conversation_md")
    assert markdown.startswith("## System\n\nAnswer briefly.\n")


def test_null_inputs_are_sentences(visitor: Visitor) -> None:
    values = SAMPLING.values()
    with pytest.raises(AppError, match="empty"):
        visitor.client.predict(
            None, "echo", "echo", "none", "none", False, "together", None, *values, api_name="/compare"
        )
    result = visitor.client.predict(None, "echo", "as trained", None, *values, api_name="/chat")
    assert result[1] == []
    assert len(visitor.said(visitor.client.submit("hi", "echo", None, None, *values, api_name="/chat"))) == 2


def test_a_replaced_file_is_not_answered_by_the_old_one(app: App, visitor: Visitor) -> None:
    toy = Path(__file__).parents[2] / "models" / "tiny" / "tiny_base.gguf"
    file = app.home / "weights" / "changing.gguf"
    file.write_bytes(toy.read_bytes())
    visitor.client.predict("tiny_base", api_name="/chat_refresh")
    assert "Paris" in visitor.said(visitor.chat(CAPITAL, "changing"))[1]
    other = file.with_suffix(".part")
    other.write_bytes(toy.read_bytes()[:-1_000_000] + b"\xff" * 1_000_000)
    other.replace(file)
    assert "compute no usable logits" in visitor.said(visitor.chat(CAPITAL, "changing"))[3]
    file.unlink()


def test_the_library_lists_all_with_what_to_do(visitor: Visitor) -> None:
    rows = {row[0]: row for row in visitor.table("variant")}
    assert {"tiny_base", "tiny_lora", "echo", "base_1b", "base_3b", "1b_lora", "1b_qlora", "3b_qlora"} <= set(rows)
    assert rows["tiny_base"][1] == "embedded"
    assert rows["1b_qlora"][1] == "not downloaded" and rows["1b_qlora"][5] == "1.8 GB"
    assert rows["1b_qlora"][6] == "alpaca"


def test_a_dropped_file_is_a_variant_after_a_refresh(app: App, visitor: Visitor) -> None:
    toy = Path(__file__).parents[2] / "models" / "tiny" / "tiny_base.gguf"
    (app.home / "weights" / "mine.gguf").write_bytes(toy.read_bytes())
    rows = {row[0]: row for row in visitor.table("variant")}
    assert rows["mine"][1] == "ready"
    visitor.client.predict("tiny_base", api_name="/chat_refresh")
    assert "Paris" in visitor.said(visitor.chat(CAPITAL, "mine"))[1]


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_no_worker_outlives_the_app(tmp_path: Path, how: signal.Signals) -> None:
    app = start_app(tmp_path)
    visitor = Visitor(app)
    job = visitor.chat("Hello", **ENDLESS)
    until(lambda: len(job.outputs()) > 2)
    workers = app.children()
    assert any("worker.llama" in name for name in workers)
    app.process.send_signal(how)
    app.process.wait(20)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers.values()))


@pytest.mark.long
def test_a_taken_port_is_a_sentence(app: App, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="another program has it"):
        start_app(tmp_path, PORT=app.url.rsplit(":", 1)[1])
