"""One prompt to several variants, and the vote on what they said."""

import random

import pytest

from app.compare import comparison
from app.compare.comparison import Comparison
from backend.core.errors import LabError
from backend.inference.reply import Reply
from backend.inference.sampling import Sampling
from backend.lab import Lab

NAMES = ["tiny_base", "tiny_lora", "echo"]


def replied(*texts: str) -> list[Reply]:
    replies = []
    for text in texts:
        reply = Reply(stop=lambda: None)
        reply.add(text)
        reply.end()
        replies.append(reply)
    return replies


def asked(names: list[str], blind: bool = False) -> Comparison:
    return comparison.with_prompt(comparison.new_comparison(names, blind, ()), "Hello", "Be brief.", Sampling(seed=5))


def answered(names: list[str], blind: bool = False) -> Comparison:
    return comparison.with_answers(asked(names, blind), replied(*[f"I am {number}" for number in range(len(names))]))


@pytest.mark.parametrize("names", [[], ["tiny_base"]])
def test_fewer_than_two_are_no_comparison(names: list[str]) -> None:
    with pytest.raises(LabError, match="needs two variants"):
        comparison.new_comparison(names, False, ())


def test_an_open_comparison_keeps_the_order_chosen() -> None:
    now = comparison.new_comparison(NAMES, False, ())
    assert (list(now.variants), now.hidden) == (NAMES, False)


def test_a_blind_comparison_shows_everyone_in_every_order() -> None:
    random.seed(3)
    orders = {comparison.new_comparison(NAMES, True, ()).variants for _ in range(200)}
    assert len(orders) == 6 and all(sorted(order) == sorted(NAMES) for order in orders)


def test_a_variant_may_stand_against_itself() -> None:
    assert comparison.new_comparison(["echo", "echo"], True, ()).variants == ("echo", "echo")


def test_the_prompt_is_put_to_everyone() -> None:
    now = asked(NAMES)
    assert [[turn.content for turn in turns] for turns in now.turns] == [["Hello"]] * 3


def test_together_is_one_group_of_everyone() -> None:
    assert [list(group) for group in comparison.groups("together", 3)] == [[0, 1, 2]]


def test_one_after_another_is_a_group_each() -> None:
    groups = comparison.groups("one after another (fair speeds)", 3)
    assert [list(group) for group in groups] == [[0], [1], [2]]


def test_answers_stand_with_their_variants_and_those_to_come_are_missing() -> None:
    now = comparison.with_answers(asked(NAMES), replied("first", "second"))
    assert [turns[-1].content for turns in now.turns] == ["first", "second", "Hello"]
    assert [turns[-1].variant for turns in now.turns] == ["tiny_base", "tiny_lora", ""]


def test_answers_that_arrive_further_replace_those_so_far() -> None:
    before = asked(NAMES)
    comparison.with_answers(before, replied("a", "b", "c"))
    assert comparison.with_answers(before, replied("ab", "b", "c")).turns[0][1:] == (
        comparison.with_answers(before, replied("ab")).turns[0][1],
    )


def test_a_contestant_that_does_not_exist_fails_by_itself(lab: Lab) -> None:
    reply = comparison.start(lab, asked(["nobody", "echo"]), 0)
    assert reply.state == "ended" and "no variant named 'nobody'" in reply.error


@pytest.mark.parametrize("choice", [0, 1, 2])
def test_a_vote_names_the_variant_that_stood_there(choice: int) -> None:
    before = answered(NAMES, blind=True)
    now, judgement = comparison.with_vote(before, choice)
    assert judgement.winner == choice
    assert judgement.candidates[choice].variant == before.variants[choice]
    assert judgement.candidates[choice].messages[-1]["content"] == f"I am {choice}"
    assert now.votes == (judgement,)


@pytest.mark.parametrize("choice", ["tie", "all bad"])
def test_a_vote_may_have_no_winner(choice: str) -> None:
    _, judgement = comparison.with_vote(answered(NAMES), choice)  # type: ignore[arg-type]
    assert (judgement.verdict, judgement.winner) == (choice, None)


def test_a_vote_keeps_how_the_answers_came_about() -> None:
    _, judgement = comparison.with_vote(answered(NAMES), 0)
    assert judgement.sampling == Sampling(seed=5)
    assert judgement.candidates[0].messages[0] == {"role": "system", "content": "Be brief."}


def test_voting_twice_on_the_same_answers_is_refused() -> None:
    now, _ = comparison.with_vote(answered(NAMES), 0)
    with pytest.raises(LabError, match="nothing to vote on"):
        comparison.with_vote(now, 1)


def test_voting_before_anything_was_asked_is_refused() -> None:
    for now in (Comparison(), comparison.new_comparison(NAMES, False, ())):
        with pytest.raises(LabError, match="nothing to vote on"):
            comparison.with_vote(now, 0)


def test_voting_before_everyone_has_answered_is_refused() -> None:
    with pytest.raises(LabError, match="nothing to vote on"):
        comparison.with_vote(comparison.with_answers(asked(NAMES), replied("first")), 0)


@pytest.mark.parametrize("choice", [3, 99, -1])
def test_a_vote_for_a_column_that_is_missing_is_refused(choice: int) -> None:
    with pytest.raises(LabError, match="column has no answer"):
        comparison.with_vote(answered(NAMES), choice)


def test_a_refused_vote_is_not_counted() -> None:
    now = answered(NAMES)
    with pytest.raises(LabError):
        comparison.with_vote(now, 3)
    assert not now.voted and now.votes == ()


def test_a_blind_vote_is_blind_and_reveals_the_names() -> None:
    now, judgement = comparison.with_vote(answered(NAMES, blind=True), 0)
    assert judgement.blind and not now.hidden


def test_a_vote_after_the_names_were_revealed_is_not_blind() -> None:
    _, judgement = comparison.with_vote(comparison.revealed(answered(NAMES, blind=True)), 0)
    assert not judgement.blind


def test_the_next_prompt_can_be_voted_on_again_but_not_blindly() -> None:
    now, _ = comparison.with_vote(answered(NAMES, blind=True), 0)
    now = comparison.with_answers(comparison.with_prompt(now, "More", "", Sampling()), replied("a", "b", "c"))
    now, judgement = comparison.with_vote(now, 1)
    assert not judgement.blind and len(now.votes) == 2
    assert [message["content"] for message in judgement.candidates[1].messages] == ["Hello", "I am 1", "More", "b"]


def test_votes_of_this_session_outlast_a_new_comparison() -> None:
    now, judgement = comparison.with_vote(answered(NAMES), 0)
    assert comparison.new_comparison(NAMES, True, now.votes).votes == (judgement,)
