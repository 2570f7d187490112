"""A judge that is slow, busy, out of credit or gone: what is asked again, what ends the run, what is counted."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from servers.judge import GRADE, JudgeServer, Reply, graded, refused
from support.judges import FORM, KEY, PRICE, QUESTION, endpoint, ledger

from backend.core.errors import LabError
from backend.judge.remote_judge import RemoteJudge
from backend.remote.capabilities import Capabilities
from backend.remote.client import connect
from backend.remote.ledger import Spent, spent

SLOW_DOWN = "Rate limit reached"


@pytest.fixture
def judge() -> Any:
    with JudgeServer() as server:
        yield server


def counted(folder: Path) -> Spent:
    return spent(folder / "ledger.jsonl")


def busy(status: int = 500, **headers: str) -> Reply:
    return refused(status, "Try again", {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
def test_what_may_pass_is_asked_again(judge: JudgeServer, tmp_path: Path, status: int) -> None:
    judge.next(busy(status), busy(status))
    told = endpoint(judge, tmp_path).ask(QUESTION, FORM, 300, "item")
    assert (told.status, told.attempts, judge.calls) == ("ok", 3, 3)
    sum_ = counted(tmp_path)
    assert sum_.calls - sum_.open == 1
    assert sum_.open == (0 if status == 409 else 2)  # what broke inside may have been billed


def test_after_four_times_it_is_this_questions_failure(judge: JudgeServer, tmp_path: Path) -> None:
    judge.next(*[busy()] * 4)
    told = endpoint(judge, tmp_path).ask(QUESTION, FORM, 300, "item")
    assert (told.status, told.attempts, judge.calls) == ("api_error", 4, 4)
    assert "status 500" in told.why and told.cost == 0


@pytest.mark.parametrize("fault", ["hang", "drip", "headers only", "reset", "closed"])
def test_a_line_that_fails_is_tried_four_times_and_each_is_counted(
    judge: JudgeServer, tmp_path: Path, fault: str
) -> None:
    reply, status = {
        "hang": (Reply(graded().body, delay=5), "timed_out"),
        "drip": (Reply(graded().body, drip=0.05), "timed_out"),
        "headers only": (Reply(b"", headers={"Content-Length": "500"}), "timed_out"),
        "reset": (Reply(graded().body, cut=40), "api_error"),
        "closed": (Reply(graded().body, cut=0), "api_error"),
    }[fault]
    judge.next(*[reply] * 4)
    told = endpoint(judge, tmp_path, timeout=0.3 if status == "timed_out" else 5.0).ask(QUESTION, FORM, 300, "item")
    assert (told.status, told.attempts, judge.calls) == (status, 4, 4)
    sum_ = counted(tmp_path)
    assert (sum_.open, sum_.settled) == (4, 0) and sum_.unknown > 0
    again = endpoint(judge, tmp_path, timeout=5.0).ask(QUESTION, FORM, 300, "item")
    assert again.status == "ok" and counted(tmp_path).open == 4


def test_a_reset_in_the_middle_is_asked_again(judge: JudgeServer, tmp_path: Path) -> None:
    judge.next(Reply(graded().body, cut=60))
    told = endpoint(judge, tmp_path).ask(QUESTION, FORM, 300, "item")
    assert (told.status, told.attempts, json.loads(told.text)) == ("ok", 2, GRADE)


def test_one_question_takes_no_longer_than_it_may(judge: JudgeServer, tmp_path: Path) -> None:
    judge.next(*[Reply({}, delay=5)] * 4)
    told = endpoint(judge, tmp_path, timeout=0.4, longest=0.6).ask(QUESTION, FORM, 300, "item")
    assert told.status == "timed_out" and told.attempts == judge.calls < 4


def test_a_limit_of_rate_outlasting_the_question_is_its_failure(judge: JudgeServer, tmp_path: Path) -> None:
    judge.next(refused(429, SLOW_DOWN, {"Retry-After": "60"}))
    asker = endpoint(judge, tmp_path, longest=2.0)
    told = asker.ask(QUESTION, FORM, 300, "item")
    assert (told.status, told.attempts) == ("api_error", 1) and "429" in told.why
    later = asker.ask(QUESTION, FORM, 300, "item-2")
    assert (later.status, later.attempts, judge.calls) == ("timed_out", 0, 1)
    assert "limited the rate" in later.why


@pytest.mark.parametrize("header", ["0.3", "date"])
def test_an_address_that_says_when_is_believed(judge: JudgeServer, tmp_path: Path, header: str) -> None:
    due = int(time.time() + 2)
    text = formatdate(due, usegmt=True) if header == "date" else header
    judge.next(refused(429, SLOW_DOWN, {"Retry-After": text}))
    told = endpoint(judge, tmp_path).ask(QUESTION, FORM, 300, "item")
    assert (told.status, told.attempts) == ("ok", 2)
    assert judge.times[1] - judge.times[0] >= 0.3 if header != "date" else time.time() > due - 0.1
    assert counted(tmp_path).open == 0  # a refusal is not billed


@pytest.mark.parametrize(
    "text", ["soon", "-5", "", "nan", "1e9", "Wed, 99 Foo 2026 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"]
)
def test_garbage_for_a_time_is_as_if_nothing_was_said(judge: JudgeServer, tmp_path: Path, text: str) -> None:
    judge.next(refused(429, SLOW_DOWN, {"Retry-After": text}))
    told = endpoint(judge, tmp_path).ask(QUESTION, FORM, 300, "item")
    assert (told.status, told.attempts) == ("ok", 2)


@pytest.mark.parametrize(
    ("status", "after", "said"),
    [(429, "3600", "60 minutes"), (503, "121", "121 seconds"), (429, "999999999", "minutes")],
)
def test_an_address_that_asks_for_longer_ends_the_run(
    judge: JudgeServer, tmp_path: Path, status: int, after: str, said: str
) -> None:
    judge.next(refused(status, SLOW_DOWN, {"Retry-After": after}))
    with pytest.raises(LabError, match=f"{said}.*Resume after that"):
        endpoint(judge, tmp_path).ask(QUESTION, FORM, 300, "item")
    assert judge.calls == 1


def test_a_limit_of_rate_makes_every_thread_wait_and_shows_until_when(judge: JudgeServer, tmp_path: Path) -> None:
    asker = endpoint(judge, tmp_path, together=3)
    assert asker.waiting_until == 0
    judge.next(refused(429, SLOW_DOWN, {"Retry-After": "1"}))
    seen = []
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(asker.ask, QUESTION, FORM, 300, "first")
        while not asker.waiting_until and not first.done():
            time.sleep(0.01)
        seen.append(asker.waiting_until)
        others = [pool.submit(asker.ask, QUESTION, FORM, 300, name) for name in ("second", "third")]
        told = [one.result() for one in (first, *others)]
    assert {one.status for one in told} == {"ok"} and judge.calls == 4
    assert seen[0] > time.time() - 60
    assert min(judge.times[1:]) - judge.times[0] >= 1.0
    assert asker.waiting_until == 0


def test_closing_ends_the_waiting(judge: JudgeServer, tmp_path: Path) -> None:
    asker = endpoint(judge, tmp_path)
    judge.next(refused(429, SLOW_DOWN, {"Retry-After": "100"}))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asker.ask, QUESTION, FORM, 300, "item")
        while not asker.waiting_until and not waiting.done():
            time.sleep(0.01)
        asker.close()
        assert waiting.result(timeout=20).status == "cancelled"
    assert asker.ask(QUESTION, FORM, 300, "next").status == "cancelled" and judge.calls == 1


def test_closing_under_a_call_cancels_it_and_counts_it_as_unknown(judge: JudgeServer, tmp_path: Path) -> None:
    asker = endpoint(judge, tmp_path, timeout=2.0)
    judge.next(Reply({}, delay=5))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asker.ask, QUESTION, FORM, 300, "item")
        while not judge.calls and not waiting.done():
            time.sleep(0.01)
        asker.close()
        assert waiting.result(timeout=20).status == "cancelled"
    assert judge.calls == 1 and counted(tmp_path).open == 1


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (refused(401, "Incorrect API key"), "does not accept the key.*\\.env"),
        (refused(403, "No access"), "does not let the key"),
        (refused(404, "The model does not exist", code="model_not_found"), "has no model 'judge-1'.*JUDGE_MODEL"),
        (refused(404, "model 'judge-1' not found, try pulling it first"), "has no model"),
        (Reply(b"<html>404</html>", 404), "JUDGE_BASE_URL"),
        (refused(400, "The model `judge-1` has been retired"), "has no model"),
        (refused(429, "You exceeded your quota", code="insufficient_quota"), "credit"),
        (refused(429, "x", type="insufficient_quota"), "credit"),
        (refused(429, "x", code="credit_balance_exhausted"), "credit"),
        (refused(429, "x", code="project_spend_limit_exceeded"), "credit"),
        (refused(429, "x", code="org_usage_limit_exceeded"), "credit"),
        (refused(403, "x", code="billing_not_active"), "credit"),
        (refused(400, "x", code="billing_hard_limit_reached"), "credit"),
        (refused(402, "Insufficient credits"), "credit.*Insufficient credits"),
        (Reply({"error": {"code": 402, "message": "Insufficient credits"}}), "credit"),
        (Reply({"error": {"code": 401, "message": "No auth"}}), "does not accept"),
    ],
)
def test_where_going_on_makes_no_sense_there_is_one_attempt(
    judge: JudgeServer, tmp_path: Path, reply: Reply, why: str
) -> None:
    judge.next(reply)
    with pytest.raises(LabError, match=why):
        endpoint(judge, tmp_path).ask(QUESTION, FORM, 300, "item")
    assert judge.calls == 1
    assert counted(tmp_path) == Spent()  # a refusal is not billed


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_key_is_not_sent_after_a_redirect(judge: JudgeServer, tmp_path: Path, status: int) -> None:
    with JudgeServer() as other:
        judge.next(Reply({}, status, {"Location": f"http://localhost:{other.port}/v1/chat/completions"}))
        with pytest.raises(LabError, match="redirects to another address"):
            endpoint(judge, tmp_path).ask(QUESTION, FORM, 300, "item")
        assert (judge.calls, other.calls) == (1, 0)


def test_nobody_there_ends_the_run_and_costs_nothing(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    asker = RemoteJudge(
        connect("judge-1", address, KEY, PRICE, ledger(tmp_path)),
        Capabilities(model="judge-1", limit="max_tokens"),
        pause=0.01,
    )
    with pytest.raises(LabError, match="cannot be reached.*Check that the server runs"):
        asker.ask(QUESTION, FORM, 300, "item")
    assert counted(tmp_path) == Spent()
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 8  # four times: reserved, released


def test_what_cannot_be_sent_is_this_questions_failure(judge: JudgeServer, tmp_path: Path) -> None:
    told = endpoint(judge, tmp_path).ask([{"role": "user", "content": "a\ud800b"}], FORM, 300, "item")
    assert judge.calls + counted(tmp_path).calls == (2 if told.status == "ok" else 0)
    assert told.status == "ok" or "cannot be sent" in told.why


def test_a_limit_reached_in_the_middle_leaves_the_other_threads_answers(judge: JudgeServer, tmp_path: Path) -> None:
    asker = endpoint(judge, tmp_path, together=4, cap_run=0.02)
    lock, ended = threading.Lock(), []

    def ask(n: int) -> str:
        try:
            told = asker.ask(QUESTION, FORM, 300, f"item-{n}").status
        except LabError as error:
            told = str(error)
        with lock:
            ended.append(told)
        return told

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(ask, range(200)))
    fine = [one for one in told if one == "ok"]
    assert len(fine) == judge.calls and 0 < len(fine) < 200
    assert all("this run is" in one for one in told if one != "ok")
    assert counted(tmp_path).most <= 0.02 and counted(tmp_path).open == 0


def test_who_waits_for_a_limit_is_let_go_and_who_is_answered_is_kept(judge: JudgeServer, tmp_path: Path) -> None:
    asker = endpoint(judge, tmp_path, together=2)
    judge.next(Reply(graded().body, delay=0.6), refused(429, "slow down", {"Retry-After": "100"}))
    with ThreadPoolExecutor(2) as pool:
        answered = pool.submit(asker.ask, QUESTION, FORM, 300, "first")
        while judge.calls < 1:
            time.sleep(0.01)
        waits = pool.submit(asker.ask, QUESTION, FORM, 300, "second")
        while not asker.waiting_until:
            time.sleep(0.01)
        asker.cancel_waiting()
        assert waits.result().status == "cancelled"
        assert answered.result().status == "ok"
    assert judge.calls == 2
