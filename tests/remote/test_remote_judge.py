"""What a judge's reply is worth before its text is read, with the real client against a server of our own."""

import json
import logging
import os
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers.judge import GRADE, JudgeServer, Reply, chances, graded, refused
from support.judges import FORM, KEY, PRICE, QUESTION, endpoint, ledger, line

from backend.core import jsonl
from backend.core.errors import LabError
from backend.judge.client import JudgeReply
from backend.judge.remote_judge import RemoteJudge
from backend.remote.address import CONCURRENCY
from backend.remote.capabilities import Capabilities
from backend.remote.client import MAX_BODY, connect
from backend.remote.ledger import spent
from backend.remote.prices import FREE

ROOT = Path(__file__).parents[2]
TEXT = json.dumps(GRADE)


def ask(judge: JudgeServer, folder: Path, *replies: Reply, **options: Any) -> JudgeReply:
    judge.next(*replies)
    return endpoint(judge, folder, **options).ask(QUESTION, FORM, 300, "item-1")


@pytest.fixture
def judge() -> Any:
    with JudgeServer() as server:
        yield server


def test_a_reply_comes_back_with_its_cost(judge: JudgeServer, tmp_path: Path) -> None:
    told = ask(judge, tmp_path, graded(logprobs=chances(TEXT)))
    assert (told.status, told.text, told.model, told.attempts, told.why) == ("ok", TEXT, "judge-1", 1, "")
    assert (told.tokens_in, told.tokens_out) == (100, 20)
    assert told.cost == pytest.approx(PRICE.cost(100, 20)) == pytest.approx(0.00014)
    assert "".join(token.text for token in told.tokens) == TEXT
    assert told.tokens[0].others == {told.tokens[0].text: -0.1, "3": -2.0}
    sum_ = spent(tmp_path / "ledger.jsonl")
    assert (sum_.settled, sum_.unknown, sum_.calls) == (told.cost, 0, 1)


def test_a_question_is_sent_as_it_was_agreed(judge: JudgeServer, tmp_path: Path) -> None:
    ask(judge, tmp_path)
    asked = judge.bodies[0]
    assert judge.paths == ["/v1/chat/completions"]
    assert (asked["model"], asked["messages"], asked["max_tokens"]) == ("judge-1", QUESTION, 300)
    assert (asked["temperature"], asked["reasoning_effort"], asked["top_logprobs"]) == (0, "none", 10)
    assert asked["response_format"]["json_schema"] == {"name": "score", "schema": FORM.schema, "strict": True}
    assert judge.headers[0]["authorization"] == f"Bearer {KEY}"
    assert judge.headers[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("reply", "status", "why"),
    [
        (graded('{"evidence": "It s', finish="length"), "judge_truncated", "cut off"),
        (graded(content=None, finish="length"), "judge_truncated", "cut off"),
        (graded(content=None, finish="content_filter"), "filtered", "filter"),
        (graded(content=None, refusal="I will not grade this."), "refused", "I will not grade this"),
        (graded(content=None), "empty_reply", "empty"),
        (graded(" \n"), "empty_reply", "empty"),
        (graded(choices=[]), "empty_reply", "empty"),
        (graded(content=None, finish="tool_calls"), "empty_reply", "empty"),
        (graded(finish="error"), "api_error", "with an error"),
        (graded(model="judge-2"), "other_model", "judge-2 answered, but this run's judge is judge-1"),
        (Reply(b"<html>Please sign in</html>", headers={"Content-Type": "text/html"}), "api_error", "html"),
        (Reply(b"not json", headers={"Content-Type": "application/json"}), "api_error", "no chat API"),
        (Reply(b""), "api_error", "is empty"),
        (Reply([1, 2]), "api_error", "no chat API"),
        (Reply({"hello": "world"}), "api_error", "no chat API"),
        (Reply(b"[" * 100_000), "api_error", "no chat API"),
        (Reply(b'{"choices": [' + b" " * MAX_BODY + b"]}"), "api_error", "longer than 1,000,000 bytes"),
        (Reply({"error": {"message": "upstream died"}}), "api_error", "upstream died"),
        (Reply(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), "api_error", "compressed"),
        (refused(400, "Something is wrong"), "api_error", "status 400: Something is wrong"),
        (refused(422, "Unprocessable"), "api_error", "status 422"),
        (refused(400, "This model's maximum context length is 8192 tokens"), "over_context", "8192"),
        (refused(400, "Too big", code="context_length_exceeded"), "over_context", "Too big"),
        (refused(400, "the request exceeds the available context size", type="exceed_context_size_error"),
         "over_context", "available context"),
    ],
)  # fmt: skip
def test_a_reply_that_is_no_answer_has_a_reason(
    judge: JudgeServer, tmp_path: Path, reply: Reply, status: str, why: str
) -> None:
    told = ask(judge, tmp_path, reply)
    assert (told.status, told.attempts, judge.calls) == (status, 1, 1)
    assert why in told.why


def test_text_is_kept_when_it_was_cut_off(judge: JudgeServer, tmp_path: Path) -> None:
    told = ask(judge, tmp_path, graded('{"evidence": "It s', finish="length"))
    assert told.text == '{"evidence": "It s' and told.tokens_out == 20


@pytest.mark.parametrize("kind", ["200 kB", "parts", "surrogate", "no finish"])
def test_odd_but_whole_replies_are_kept(judge: JudgeServer, tmp_path: Path, kind: str) -> None:
    long = "word " * 40_000
    reply, text = {
        "200 kB": (graded(long), long),
        "parts": (graded(content=[{"type": "text", "text": "a"}, {"type": "x"}, {"type": "text", "text": "b"}]), "ab"),
        "surrogate": (graded("a\ud800b"), "a?b"),
        "no finish": (graded("fine", finish=None), "fine"),
    }[kind]
    told = ask(judge, tmp_path, reply)
    assert (told.status, told.text) == ("ok", text)


@pytest.mark.parametrize(
    "usage",
    [None, {}, [], {"prompt_tokens": None, "completion_tokens": 3}, {"prompt_tokens": -5, "completion_tokens": 3},
     {"prompt_tokens": True, "completion_tokens": 1}, {"prompt_tokens": 0, "completion_tokens": 0},
     {"prompt_tokens": "9", "completion_tokens": "9"}],
)  # fmt: skip
def test_a_reply_without_usage_settles_at_what_was_reserved(judge: JudgeServer, tmp_path: Path, usage: Any) -> None:
    told = ask(judge, tmp_path, graded("x" * 31, usage=usage))
    letters = sum(len(message["content"]) for message in QUESTION)
    assert (told.tokens_in, told.tokens_out) == (-(-letters // 3), 11)
    sum_, (reserved, settled) = spent(tmp_path / "ledger.jsonl"), jsonl.read(tmp_path / "ledger.jsonl")
    assert (reserved["state"], settled["state"], settled["reckoned"]) == ("reserved", "settled", True)
    assert sum_.estimated == 1 and sum_.settled == told.cost == settled["dollars"] == reserved["dollars"]
    assert told.cost > PRICE.cost(told.tokens_in, 11)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {"tokens": ["4"], "token_logprobs": [-0.1], "top_logprobs": [{"4": -0.1}], "text_offset": [0]},
        {"content": None},
        {"content": []},
        {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": []}]},
        {"content": [{"token": "4", "logprob": None, "top_logprobs": [{"token": "4", "logprob": -0.1}]}]},
        {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": [{"token": 4, "logprob": -0.1}]}]},
        {"content": ["4"]},
        "yes",
        [1],
    ],
)
def test_probabilities_of_another_shape_are_no_probabilities(judge: JudgeServer, tmp_path: Path, logprobs: Any) -> None:
    told = ask(judge, tmp_path, graded(logprobs=logprobs))
    assert (told.status, told.text, told.tokens) == ("ok", TEXT, ())


def test_a_score_that_is_not_among_the_likely_ones_is_still_its_own(judge: JudgeServer, tmp_path: Path) -> None:
    shape = {"content": [{"token": " 4", "logprob": -3.0, "top_logprobs": [{"token": "4", "logprob": -0.2}]}]}
    told = ask(judge, tmp_path, graded(" 4", logprobs=shape))
    assert told.tokens[0].text == " 4" and told.tokens[0].others == {" 4": -3.0, "4": -0.2}


def test_a_judge_near_by_is_asked_one_at_a_time_and_others_four() -> None:
    folder = Path("unused")
    agreed = Capabilities(model="m", limit="max_tokens")
    far = connect("m", "https://example.com/v1", KEY, PRICE, ledger(folder))
    near = connect("m", "http://localhost:1/v1", "", FREE, ledger(folder))
    assert RemoteJudge(far, agreed).together == CONCURRENCY and RemoteJudge(near, agreed).together == 1
    assert RemoteJudge(near, agreed, together=3).together == 3


def test_several_threads_ask_at_once(judge: JudgeServer, tmp_path: Path) -> None:
    asker = endpoint(judge, tmp_path, together=4)
    judge.next(*(Reply(graded("late").body, delay=0.6) for _ in range(4)))
    with ThreadPoolExecutor(asker.together) as pool:
        told = list(pool.map(lambda n: asker.ask(QUESTION, FORM, 300, f"item-{n}"), range(12)))
    assert {one.status for one in told} == {"ok"} and judge.peak == 4
    assert spent(tmp_path / "ledger.jsonl").calls == 12


def test_the_limit_stops_before_the_call(judge: JudgeServer, tmp_path: Path) -> None:
    asker = endpoint(judge, tmp_path, cap_run=0.004)
    made = 0
    with pytest.raises(LabError, match="this run is"):
        for made in range(100):  # noqa: B007
            asker.ask(QUESTION, FORM, 300, "item")
    assert judge.calls == made > 1
    assert spent(tmp_path / "ledger.jsonl").most <= 0.004


def test_proxies_of_the_environment_are_not_for_this_machine(
    judge: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ask(judge, tmp_path).status == "ok"


def test_names_of_an_account_at_openai_stay_here(
    judge: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-mine")
    assert ask(judge, tmp_path).status == "ok"
    assert "mine" not in json.dumps(judge.headers)


ECHO = f"Incorrect API key provided: {KEY}. And half of it: sk-can***ghij"


@pytest.mark.parametrize(
    "reply",
    [
        refused(401, ECHO),
        refused(403, ECHO),
        refused(404, ECHO),
        refused(400, ECHO),
        refused(429, ECHO, code="insufficient_quota"),
        refused(500, ECHO),
        Reply(f"<html>{KEY}</html>".encode()),
        Reply({"error": {"message": ECHO}}),
        Reply({"error": {"message": ECHO, "code": 402}}),
        graded(f"Your key is {KEY}"),
        graded(content=None, refusal=KEY),
        graded(model=KEY),
        Reply({"x": KEY}, cut=5),
        Reply({}, 307, {"Location": f"http://127.0.0.1:9/{KEY}"}),
    ],
)
def test_the_key_is_in_no_output(
    judge: JudgeServer,
    tmp_path: Path,
    reply: Reply,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    judge.next(*[reply] * 4)
    seen = []
    asker = endpoint(judge, tmp_path)
    try:
        seen.append(repr(asker.ask(QUESTION, FORM, 300, "item")))
    except LabError:
        seen.append(traceback.format_exc())
    seen += [caplog.text, *capfd.readouterr(), repr(line(judge, tmp_path)), repr(vars(asker))]
    seen += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert judge.calls and KEY in json.dumps(judge.headers)
    assert len(caplog.text) > 100  # the client's own log was really there to look at
    for text in seen:
        assert KEY not in text and "sk-can" not in text


def test_a_pasted_newline_never_reaches_the_client(tmp_path: Path, judge: JudgeServer) -> None:
    told = RemoteJudge(
        connect("judge-1", judge.url, KEY + "\r\n", PRICE, ledger(tmp_path)),
        Capabilities(model="judge-1", limit="max_tokens"),
    ).ask(QUESTION, FORM, 300, "item")
    assert told.status == "ok" and judge.headers[0]["authorization"] == f"Bearer {KEY}"


STOPPABLE = """
import signal, sys, traceback
from pathlib import Path
from backend.remote.ledger import spent
sys.path.insert(0, "tests")
from support.judges import FORM, KEY, PRICE, QUESTION, ledger
from backend.jobs.journal import Stopped
from backend.remote.client import connect
from backend.judge.remote_judge import RemoteJudge
from backend.remote.capabilities import Capabilities
def stop(*_):
    raise Stopped
signal.signal(signal.SIGALRM, stop)
folder = Path(sys.argv[2])
line = connect("judge-1", sys.argv[1], KEY, PRICE, ledger(folder))
asker = RemoteJudge(line, Capabilities(model="judge-1", limit="max_tokens"))
signal.setitimer(signal.ITIMER_REAL, 1.0)
try:
    asker.ask(QUESTION, FORM, 300, "item")
except Stopped:
    traceback.print_exc()
    print("stopped", spent(folder / "ledger.jsonl").open)
"""


@pytest.mark.parametrize("fault", [Reply({}, delay=20), refused(429, "slow down", {"Retry-After": "100"})])
def test_a_stop_passes_through_and_the_call_stays_reserved(judge: JudgeServer, tmp_path: Path, fault: Reply) -> None:
    judge.next(fault)
    done = subprocess.run(
        [sys.executable, "-c", STOPPABLE, judge.url, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == f"stopped {int(fault.delay > 0)}", done.stderr
    assert KEY not in done.stderr + done.stdout
