"""The line in front of a model is fair between visitors, and one of them cannot fill it."""

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.streams import VISITOR_TURNS, Streams
from backend.core.errors import LabError
from backend.core.messages import Message
from backend.core.settings import Settings
from backend.inference.protocol import Generate, Visitor
from backend.inference.reply import watch
from backend.inference.sampling import Sampling
from backend.inference.worker.llama import Request, in_turns
from backend.lab import Lab

LONG = Sampling(temperature=0, grammar='root ::= "la " root', max_tokens=60)
QUESTION = [Message(role="user", content="What is the capital of France?")]


def request(number: int, address: str) -> Request:
    return Request(Generate(id=number, messages=(), sampling=Sampling(), visitor=Visitor(address=address)))


def order(line: str, active: str = "") -> str:
    """The addresses of a line after it was put in turns; each letter is an address."""
    waiting = [request(number, letter) for number, letter in enumerate(line)]
    busy = [request(number, letter) for number, letter in enumerate(active, 100)]
    return "".join(one.address for one in in_turns(waiting, busy, lambda one: one.address))


@pytest.mark.parametrize(
    ("line", "active", "expected"),
    [
        ("", "", ""),
        ("aaaa", "", "aaaa"),
        ("aaab", "", "abaa"),
        ("aaabbc", "", "abcaba"),
        ("aab", "a", "baa"),
        ("ab", "aa", "ba"),
        ("ab", "", "ab"),
    ],
)
def test_requests_are_served_in_turns(line: str, active: str, expected: str) -> None:
    assert order(line, active) == expected


@given(st.text("abc", max_size=20), st.text("abc", max_size=4))
def test_turns_keep_every_request_and_each_visitor_s_order(line: str, active: str) -> None:
    waiting = [request(number, letter) for number, letter in enumerate(line)]
    busy = [request(number, letter) for number, letter in enumerate(active, 100)]
    found = in_turns(waiting, busy, lambda one: one.address)
    assert sorted(one.id for one in found) == [one.id for one in waiting]
    for letter in "abc":
        mine = [one.id for one in found if one.address == letter]
        assert mine == sorted(mine)
    assert [one.id for one in in_turns(found, busy, lambda one: one.address)] == [one.id for one in found]


def place(settings: Settings, **values: int) -> Settings:
    return settings.model_copy(update=values)


def test_a_visitor_with_many_requests_does_not_make_another_wait_for_all(settings: Settings) -> None:
    ended: list[str] = []
    with Lab(place(settings, lab_slots=1, lab_waiting=16)) as lab:
        lab.reply("tiny_base", QUESTION, Sampling(max_tokens=1)).text()  # loaded
        replies = {f"a{n}": lab.reply("tiny_base", QUESTION, LONG, visitor=("a", f"s{n}")) for n in range(6)}
        replies["b"] = lab.reply("tiny_base", QUESTION, LONG, visitor=("b", "s"))
        for _ in watch(list(replies.values()), interval=lambda: 0.001):
            ended += [name for name, one in replies.items() if one.state == "ended" and name not in ended]
    assert len(ended) == 7 and ended.index("b") <= 2, ended


def test_a_session_with_many_requests_does_not_make_another_of_its_address_wait_for_all(settings: Settings) -> None:
    ended: list[str] = []
    with Lab(place(settings, lab_slots=1, lab_waiting=16)) as lab:
        lab.reply("tiny_base", QUESTION, Sampling(max_tokens=1)).text()
        replies = {f"a{n}": lab.reply("tiny_base", QUESTION, LONG, visitor=("a", "one")) for n in range(6)}
        replies["b"] = lab.reply("tiny_base", QUESTION, LONG, visitor=("a", "other"))
        for _ in watch(list(replies.values()), interval=lambda: 0.001):
            ended += [name for name, one in replies.items() if one.state == "ended" and name not in ended]
    assert len(ended) == 7 and ended.index("b") <= 2, ended


def test_one_address_fills_half_of_the_line_at_most(settings: Settings) -> None:
    with Lab(place(settings, lab_slots=1, lab_waiting=8)) as lab:
        lab.reply("tiny_base", QUESTION, Sampling(max_tokens=1)).text()
        endless = LONG.model_copy(update={"max_tokens": 900})
        many = [lab.reply("tiny_base", QUESTION, endless, visitor=("a", f"s{n}")) for n in range(12)]
        other = lab.reply("tiny_base", QUESTION, LONG, visitor=("b", "s"))
        refused = [one for one in many if "of your network address are already waiting" in error(one)]
        assert len(refused) >= 3
        for one in many:
            one.stop()
        assert other.text()


def error(reply: Any) -> str:
    """Its refusal, which comes within a moment; empty while it waits or answers."""
    for _ in watch([reply], interval=lambda: 0.01, heartbeat=0.2):
        if reply.state != "loading":
            break
    return str(reply.error)


SPACE = Settings(_env_file=None, space_id="me/lab", space_creator_user_id="u1", oauth_client_secret="s3cret")


def tab(session: str, address: str) -> gr.Request:
    scope = {"type": "http", "headers": [(b"x-forwarded-for", address.encode())], "client": ("10.0.0.1", 1)}
    return gr.Request(request=SimpleNamespace(scope=scope), session_hash=session)  # type: ignore[arg-type]


def test_one_address_has_a_bounded_number_of_answers_on_their_way() -> None:
    running = Streams(SPACE)
    turns = [running.turn(tab(f"s{n}", "8.8.8.8")) for n in range(VISITOR_TURNS)]
    for turn in turns:
        turn.__enter__()
    with pytest.raises(LabError, match=f"{VISITOR_TURNS} conversations"), running.turn(tab("more", "8.8.8.8")):
        pass
    with running.turn(tab("other", "9.9.9.9")):
        pass
    turns[0].__exit__(None, None, None)
    with running.turn(tab("more", "8.8.8.8")):
        pass


def test_a_page_is_updated_ten_times_a_second_and_less_often_beside_many_others() -> None:
    running = Streams(Settings(_env_file=None))
    turns = [running.turn(tab(f"s{n}", "")) for n in range(8)]
    intervals = []
    for turn in turns:
        turn.__enter__()
        intervals.append(running.interval())
    assert intervals == [0.1, 0.1, *(pytest.approx(count / 20) for count in range(3, 9))]
