"""The Compare tab through its API."""

import json
from html import unescape
from typing import Any

import pytest
from conftest import App
from gradio_client.exceptions import AppError
from support.session import CAPITAL, SLOW, Visitor, texts, until


@pytest.fixture
def visitor(app: App) -> Visitor:
    return Visitor(app)


def columns(result: Any) -> list[list[str]]:
    """The four conversations of a comparison."""
    return [texts(part["value"] if isinstance(part, dict) else part) for part in result[1:5]]


def test_three_variants_answer_side_by_side(visitor: Visitor) -> None:
    result = visitor.compare(CAPITAL, "tiny_base", "tiny_lora", "echo").result(60)
    base, lora, echo, empty = columns(result)
    assert "Paris" in base[1] and lora[1].startswith("{") and echo[1].startswith(CAPITAL)
    assert empty == []
    assert all("first token after" in column[1] for column in (base, lora, echo))


def test_one_after_another_and_a_second_turn(visitor: Visitor) -> None:
    pace = "one after another (fair speeds)"
    visitor.compare(CAPITAL, "tiny_base", "tiny_base", pace=pace).result(60)
    both = columns(visitor.compare("What is the capital of Italy?", "tiny_base", "tiny_base", pace=pace).result(60))[:2]
    assert [len(column) for column in both] == [4, 4]
    assert all("Rome" in column[3] for column in both)


def test_stop_all_also_stops_those_still_to_come(visitor: Visitor) -> None:
    job = visitor.compare(SLOW, "echo", "tiny_lora", pace="one after another (fair speeds)")
    until(lambda: len(job.outputs()) > 3)
    visitor.client.predict(api_name="/compare_stop")
    first, second, *_ = columns(job.result(60))
    assert "stopped by you" in first[1] and "Stopped by you before it started" in second[1]


def test_a_blind_vote_hides_then_reveals_and_is_kept(app: App, visitor: Visitor) -> None:
    hidden = visitor.compare(CAPITAL, "tiny_base", "tiny_lora", blind=True).result(60)
    assert "tiny_" not in json.dumps(hidden)
    voted = visitor.client.predict(api_name="/vote_b_is_better")
    assert "B is better" in json.dumps(voted) and "A is **tiny_" in unescape(json.dumps(voted))
    last = json.loads((app.home / "runs" / "judgements.jsonl").read_text().splitlines()[-1])
    assert last["judge"] == "you" and last["blind"] is True and last["winner"] == 1
    winner = last["candidates"][1]
    assert winner["variant"] in ("tiny_base", "tiny_lora")
    assert winner["messages"][-1]["content"].startswith("{") == (winner["variant"] == "tiny_lora")


def test_one_round_has_one_vote(visitor: Visitor) -> None:
    visitor.compare("a b", "echo", "echo").result(60)
    visitor.client.predict(api_name="/vote_tie")
    with pytest.raises(AppError, match="nothing to vote on"):
        visitor.client.predict(api_name="/vote_tie")


def test_a_comparison_needs_two(visitor: Visitor) -> None:
    with pytest.raises(AppError, match="empty"):
        visitor.compare(" ", "echo", "echo").result(60)


def test_a_contestant_that_fails_does_not_stop_the_others(visitor: Visitor) -> None:
    crashed = columns(visitor.compare("/crash now", "echo", "tiny_base").result(60))
    assert "stopped while it was answering" in crashed[0][1]
    assert "⚠" not in crashed[1][1] and "first token after" in crashed[1][1]


def test_a_contestant_without_an_answer_cannot_lose(visitor: Visitor) -> None:
    visitor.compare("/crash", "echo", "tiny_base").result(60)
    with pytest.raises(AppError, match="nothing to vote on"):
        visitor.client.predict(api_name="/vote_b_is_better")
