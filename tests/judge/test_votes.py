"""Judgements and what they add up to."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import GENERATION
from pydantic import ValidationError

from backend.core.messages import Message
from backend.inference.sampling import Generation, Sampling
from backend.judge.votes import Candidate, Vote, WinRecord, append_vote, read_votes, wins


def candidate(name: str, generation: Generation | None = GENERATION) -> Candidate:
    said = [Message(role="user", content="q"), Message(role="assistant", content=f"{name} says é\n")]
    return Candidate(variant=name, messages=said, generation=generation)


def judgement(names: str, **verdict: Any) -> Vote:
    return Vote(blind=False, candidates=[candidate(name) for name in names], sampling=Sampling(), **verdict)


def won(names: str, winner: int) -> Vote:
    return judgement(names, verdict="winner", winner=winner)


def table(*judgements: Vote) -> dict[str, tuple[int, int, int, int]]:
    return {record.variant: (record.won, record.lost, record.tied, record.bad) for record in wins(judgements)}


def test_no_votes_make_no_table() -> None:
    assert wins([]) == []


def test_a_winner_wins_and_the_other_loses() -> None:
    assert table(won("ab", 0)) == {"a": (1, 0, 0, 0), "b": (0, 1, 0, 0)}


def test_the_winner_is_the_one_at_its_place_in_the_order_shown() -> None:
    assert table(won("ab", 0), won("ba", 0)) == {"a": (1, 1, 0, 0), "b": (1, 1, 0, 0)}


def test_a_tie_is_nobodys_win() -> None:
    assert table(judgement("ab", verdict="tie")) == {"a": (0, 0, 1, 0), "b": (0, 0, 1, 0)}


def test_both_bad_is_counted_apart_from_a_tie() -> None:
    assert table(judgement("ab", verdict="all bad")) == {"a": (0, 0, 0, 1), "b": (0, 0, 0, 1)}


def test_of_three_candidates_one_wins_and_two_lose() -> None:
    assert table(won("abc", 2)) == {"a": (0, 1, 0, 0), "b": (0, 1, 0, 0), "c": (1, 0, 0, 0)}


@pytest.mark.parametrize("verdict", [{"verdict": "winner", "winner": 1}, {"verdict": "tie"}])
def test_a_variant_against_itself_is_left_out(verdict: dict[str, Any]) -> None:
    assert table(judgement("aa", **verdict)) == {}


@pytest.mark.parametrize(("winner", "expected"), [(0, (1, 0, 0, 0)), (1, (1, 0, 0, 0)), (2, (0, 1, 0, 0))])
def test_a_variant_that_stood_twice_is_counted_once(winner: int, expected: tuple[int, ...]) -> None:
    assert table(won("aab", winner))["a"] == expected


def test_the_table_begins_with_most_wins() -> None:
    assert list(table(won("ab", 1), won("bc", 0), won("ca", 0))) == ["b", "c", "a"]


def test_every_vote_is_in_the_sum() -> None:
    assert WinRecord(variant="a", won=1, lost=2, tied=3, bad=4).votes == 10


@pytest.mark.parametrize("winner", [-1, 2, 99, None])
def test_a_winner_is_one_of_the_candidates(winner: int | None) -> None:
    with pytest.raises(ValidationError, match="a winner is one of the candidates"):
        judgement("ab", verdict="winner", winner=winner)


@pytest.mark.parametrize("winner", [0, -1, 5])
def test_a_tie_has_no_winner(winner: int) -> None:
    with pytest.raises(ValidationError, match="a winner is one of the candidates"):
        judgement("ab", verdict="tie", winner=winner)


def test_one_candidate_is_no_comparison() -> None:
    with pytest.raises(ValidationError):
        won("a", 0)


def test_a_judgement_comes_back_as_it_was(tmp_path: Path) -> None:
    one, other = won("ab", 1), judgement("ba", verdict="tie", judge="rule", reason="same\ntext", time=1.5)
    failed = won("ab", 0).model_copy(update={"candidates": [candidate("a"), candidate("b", None)]})
    for each in (one, other, failed):
        append_vote(tmp_path / "votes.jsonl", each)
    assert read_votes(tmp_path / "votes.jsonl") == [one, other, failed]


def test_no_file_holds_no_judgements(tmp_path: Path) -> None:
    assert read_votes(tmp_path / "votes.jsonl") == []


@pytest.mark.parametrize(
    "damage",
    [
        {"winner": 9},
        {"winner": "first"},
        {"verdict": "perhaps"},
        {"candidates": []},
        {"candidates": None},
        {"added_in_a_later_version": 1},
        {"sampling": {"temperature": -1}},
    ],
)
def test_a_record_that_cannot_be_read_is_passed_over(tmp_path: Path, damage: dict[str, Any]) -> None:
    path, vote = tmp_path / "votes.jsonl", won("ab", 1)
    append_vote(path, vote)
    with path.open("a") as file:
        file.write(json.dumps(vote.model_dump(mode="json") | damage) + "\n")
    append_vote(path, vote)
    assert read_votes(path) == [vote, vote]
