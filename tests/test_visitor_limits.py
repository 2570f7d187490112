"""How much one visitor may ask for: bodies, calls, connections, places in line; and whose address counts."""

from pathlib import Path

import pytest
from requests_made import LOCAL, SPACE, scope

from app import guard, middleware
from app.middleware import VisitorLimits
from backend.settings import Settings


@pytest.fixture
def limits(tmp_path: Path) -> VisitorLimits:
    return VisitorLimits(None, SPACE, tmp_path, list)  # type: ignore[arg-type]


def visitor_status(limits: VisitorLimits, path: str, length: int = 2, address: str = "9.9.9.9") -> int:
    answer = limits._by_visitor(scope(path, "POST", content_length=str(length)), address)
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
    limits.open["9.9.9.9"] = middleware.VISITOR_REQUESTS
    assert visitor_status(limits, "/gradio_api/cancel") == 429
    assert visitor_status(limits, "/assets/index.js") == 200
    assert visitor_status(limits, "/gradio_api/cancel", address="8.8.8.8") == 200


def test_one_address_does_not_fill_gradio_s_queue(tmp_path: Path) -> None:
    waiting = [scope(client="10.0.0.1", x_forwarded_for="9.9.9.9")] * middleware.VISITOR_IN_LINE
    limits = VisitorLimits(None, SPACE, tmp_path, lambda: waiting)  # type: ignore[arg-type]
    assert visitor_status(limits, "/gradio_api/queue/join") == 429
    assert visitor_status(limits, "/gradio_api/queue/join", address="8.8.8.8") == 200
    assert visitor_status(limits, "/gradio_api/cancel") == 200


def test_visitors_of_unknown_address_do_not_share_one_limit(limits: VisitorLimits) -> None:
    assert [visitor_status(limits, "/gradio_api/queue/join", address="") for _ in range(1000)] == [200] * 1000


@pytest.mark.parametrize(
    ("place", "peer", "forwarded", "expected"),
    [
        (SPACE, "10.1.1.1", "8.8.8.8", "8.8.8.8"),
        (SPACE, "10.1.1.1", "1.2.3.4, 8.8.8.8, 10.2.2.2", "8.8.8.8"),
        (SPACE, "10.1.1.1", "2600:1:2:3:4:5:6:7", "2600:1:2:3::/64"),
        (SPACE, "10.1.1.1", "", ""),
        (SPACE, "10.1.1.1", "nonsense, 999.1.1.1", ""),
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
