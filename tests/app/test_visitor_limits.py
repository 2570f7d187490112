"""How much one visitor may ask for: bodies, calls, connections, places in line; and whose address counts."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.asgi import LOCAL, SPACE, scope

from app import guard, visitor_limits
from app.visitor_limits import VisitorLimits
from backend.core.settings import Settings


class Queue:
    """Gradio's queue as the limits see it."""

    def __init__(self, waiting: int = 0, unread: int = 0) -> None:
        self.scopes, self.count = [scope(client="10.0.0.1", x_forwarded_for="9.9.9.9")] * waiting, unread

    def waiting(self) -> list[Any]:
        return self.scopes

    def unread(self, session: str) -> int:
        return self.count


@pytest.fixture
def limits(tmp_path: Path) -> VisitorLimits:
    return VisitorLimits(None, SPACE, tmp_path, Queue())  # type: ignore[arg-type]


def visitor_status(limits: VisitorLimits, path: str, length: int = 2, address: str = "9.9.9.9") -> int:
    answer = limits._by_visitor(scope(path, "POST", content_length=str(length)), address)
    return answer.status_code if answer else 200


def call_status(limits: VisitorLimits, address: str = "9.9.9.9", **body: Any) -> int:
    call = {"data": [], "fn_index": 1, "session_hash": "abc"} | body
    answer = limits._by_call(json.dumps(call).encode(), address)
    return answer.status_code if answer else 200


def test_a_visitor_sends_little_and_no_files(limits: VisitorLimits) -> None:
    assert visitor_status(limits, "/gradio_api/queue/join", 200_000) == 200
    assert visitor_status(limits, "/gradio_api/queue/join", 300_000) == 413
    assert visitor_status(limits, "/gradio_api/upload") == 403


def test_a_visitor_calls_no_faster_than_the_limit_and_others_are_not_slowed(limits: VisitorLimits) -> None:
    answers = [visitor_status(limits, "/gradio_api/queue/join") for _ in range(1000)]
    assert answers.count(429) > 500 and answers[:150] == [200] * 150
    assert visitor_status(limits, "/gradio_api/queue/join", address="8.8.8.8") == 200


def test_a_visitor_holds_no_more_connections_than_the_limit(limits: VisitorLimits) -> None:
    limits.open["9.9.9.9"] = visitor_limits.VISITOR_REQUESTS
    assert visitor_status(limits, "/gradio_api/cancel") == 429
    assert visitor_limits.STATIC.fullmatch("/assets/index.js")  # a page loads some 100 of these at once
    assert visitor_status(limits, "/gradio_api/cancel", address="8.8.8.8") == 200


def test_one_address_does_not_fill_gradio_s_queue(tmp_path: Path) -> None:
    limits = VisitorLimits(None, SPACE, tmp_path, Queue(waiting=visitor_limits.VISITOR_QUEUED))  # type: ignore[arg-type]
    limits.calling["9.9.9.9"] = limits.calling["8.8.8.8"] = 1  # this call
    assert call_status(limits) == 429
    assert call_status(limits, "8.8.8.8") == 200


def test_calls_whose_handler_has_not_begun_count_as_well(limits: VisitorLimits) -> None:
    limits.calling["9.9.9.9"] = visitor_limits.VISITOR_QUEUED + 1
    assert call_status(limits) == 429


def test_one_address_does_not_push_the_sessions_of_others_out(limits: VisitorLimits) -> None:
    answers = [call_status(limits, session_hash=f"s{n}") for n in range(100)]
    assert answers == [200] * visitor_limits.VISITOR_SESSIONS + [429] * (100 - visitor_limits.VISITOR_SESSIONS)
    assert call_status(limits, session_hash="s0") == 200  # an open page goes on
    assert call_status(limits, "8.8.8.8", session_hash="other") == 200


def test_a_session_that_reads_no_answers_gets_no_more(tmp_path: Path) -> None:
    limits = VisitorLimits(None, SPACE, tmp_path, Queue(unread=visitor_limits.VISITOR_UNREAD + 1))  # type: ignore[arg-type]
    assert call_status(limits) == 429


@pytest.mark.parametrize("session", [None, 1, "", "../x", "a" * 65, ["a"], "a b"])
def test_a_call_names_its_session(limits: VisitorLimits, session: Any) -> None:
    assert call_status(limits, session_hash=session) == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff", b"1"])
def test_a_call_that_is_no_object_is_refused(limits: VisitorLimits, body: bytes) -> None:
    answer = limits._by_call(body, "9.9.9.9")
    assert answer is not None and answer.status_code == 400


def test_a_visitor_hands_no_file_to_a_handler(limits: VisitorLimits) -> None:
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    assert call_status(limits, data=[[{"a": file}]]) == 403
    assert call_status(limits, data=[file | {"path": None, "url": "http://example.org/x"}]) == 403
    escaped = json.dumps({"session_hash": "abc", "data": [file]}).replace("gradio", "\\u0067radio")
    answer = limits._by_call(escaped.encode(), "9.9.9.9")
    assert answer is not None and answer.status_code == 403


def test_a_visitor_s_answers_are_not_kept_under_other_keys(limits: VisitorLimits) -> None:
    assert visitor_status(limits, "/gradio_api/call/chat") == 403
    assert visitor_status(limits, "/gradio_api/call/v2/chat") == 403


def test_visitors_of_unknown_address_do_not_share_one_limit(limits: VisitorLimits) -> None:
    assert [visitor_status(limits, "/gradio_api/queue/join", address="") for _ in range(1000)] == [200] * 1000
    assert [call_status(limits, "", session_hash=f"s{n}") for n in range(100)] == [200] * 100


@pytest.mark.parametrize(
    ("place", "peer", "forwarded", "expected"),
    [
        (SPACE, "10.1.1.1", "8.8.8.8", "8.8.8.8"),
        (SPACE, "10.1.1.1", "1.2.3.4, 8.8.8.8, 10.2.2.2", "8.8.8.8"),
        (SPACE, "10.1.1.1", "2600:1:2:3:4:5:6:7", "2600:1:2:3::/64"),
        (SPACE, "10.1.1.1", "", ""),
        (SPACE, "10.1.1.1", "nonsense, 999.1.1.1", ""),
        (SPACE, "10.1.1.1", "1.2.3.4, unknown", ""),
        (SPACE, "10.1.1.1", "1.2.3.4, 8.8.8.8:443", "8.8.8.8"),
        (SPACE, "10.1.1.1", "1.2.3.4, [2600:1:2:3::7]:443", "2600:1:2:3::/64"),
        (SPACE, "10.1.1.1", "::ffff:8.8.8.8", "8.8.8.8"),
        (LOCAL, "127.0.0.1", "1.2.3.4, 192.168.1.5", "192.168.1.5"),
        (SPACE, "8.8.8.8", "10.1.1.1", ""),
        (LOCAL, "127.0.0.1", "", "127.0.0.1"),
        (LOCAL, "8.8.8.8", "1.2.3.4", "8.8.8.8"),
        (LOCAL, "127.0.0.1", "1.2.3.4, 8.8.8.8", "8.8.8.8"),
    ],
)
def test_an_address_is_what_the_proxy_wrote_and_not_what_the_client_wrote(
    place: Settings, peer: str, forwarded: str, expected: str
) -> None:
    assert guard.client_address(place, scope(client=peer, x_forwarded_for=forwarded)) == expected


@pytest.mark.parametrize(("address", "served"), [("8.8.8.8", 1), ("", 2)])
def test_pages_of_one_address_wait_for_each_other_and_of_unknown_ones_do_not(
    tmp_path: Path, address: str, served: int
) -> None:
    """A client that reads slowly keeps only itself from the next page."""
    began: list[int] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        began.append(1)
        await asyncio.sleep(60)

    async def two_pages() -> None:
        limits = VisitorLimits(slow, SPACE, tmp_path, Queue())  # type: ignore[arg-type]
        asked = scope("/", client="10.0.0.1", x_forwarded_for=address)
        tasks = [asyncio.create_task(limits(asked, None, None)) for _ in range(2)]  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()

    asyncio.run(two_pages())
    assert len(began) == served
