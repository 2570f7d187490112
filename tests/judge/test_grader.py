"""From an answer to its score, with the real client against a judge of our own: a failure is never a number."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from pydantic import ValidationError
from servers.judge import GRADE, JudgeServer, Reply, chances, graded, refused
from support.judges import KEY, PRICE, line

from backend.core.errors import LabError
from backend.core.messages import Message
from backend.judge.grader import KEPT, TOKENS, Grader
from backend.judge.remote_judge import RemoteJudge
from backend.judge.rubric import rubrics
from backend.judge.score import Identity, Item, Score
from backend.remote.capabilities import Capabilities
from backend.remote.client import ApiClient, ApiReply
from backend.remote.ledger import SavedReplies, spent
from backend.remote.response import ResponseBody

LAB = rubrics()["lab"]
NAMES = ("correctness", "completeness", "faithfulness")
ASKED = [Message(role="user", content="Which planet is the largest?")]
ONE = PRICE.cost(100, 20)
AGREED = Capabilities(model="judge-1", returned="judge-1", limit="max_tokens")


@pytest.fixture
def judge() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


def grader(judge: JudgeServer, folder: Path, **caps: float) -> Grader:
    wire = replace(line(judge, folder, **caps), replies=SavedReplies(folder / "replies.jsonl"))
    identity = Identity(kind="endpoint", model="judge-1", address=judge.url, rubric=LAB.hash)
    return Grader(RemoteJudge(wire, AGREED, pause=0.01), LAB, identity)


def item(answer: str = "Jupiter.") -> Item:
    return Item(messages=ASKED, reference="It is Jupiter.", answer=answer)


def score(judge: JudgeServer, folder: Path, *replies: Reply, answer: str = "Jupiter.") -> Score:
    judge.next(*replies)
    return grader(judge, folder).score(item(answer))


def calls(folder: Path) -> list[str]:
    """What the ledger says of each call, in order."""
    return [json.loads(text)["state"] for text in (folder / "ledger.jsonl").read_text().splitlines()]


def test_a_verdict_is_a_score_with_all_that_led_to_it(judge: JudgeServer, tmp_path: Path) -> None:
    text = json.dumps(GRADE)
    found = score(judge, tmp_path, graded(logprobs=chances(text)))
    assert (found.status, found.values, found.evidence) == ("ok", dict.fromkeys(NAMES, 4.0), "It says so.")
    assert found.prompt == judge.bodies[0]["messages"] and found.reply == text
    assert (found.tokens_in, found.tokens_out, found.attempts, found.model) == (100, 20, 1, "judge-1")
    assert found.cost == pytest.approx(ONE) and not found.by_rule
    assert set(found.expected) == set(NAMES) and all(3 < mean < 4 for mean in found.expected.values())
    asked = judge.bodies[0]
    assert asked["max_tokens"] == TOKENS and asked["response_format"]["json_schema"]["name"] == "grades"


BAD = {
    "prose": ("It deserves a 4.", "no valid JSON object"),
    "out of range": (json.dumps(GRADE | {"correctness": 9}), "correctness is 9, not 1 to 5"),
    "an extra key": (json.dumps(GRADE | {"score": 4}), "'score' was not requested"),
    "a quotation of the answer": (f"{json.dumps(GRADE)} {json.dumps(GRADE | {'correctness': 1})}", "differ"),
    "200 kB": (json.dumps(GRADE) + " " * 200_000, "50,000 characters"),
    "empty": ("  ", "The judge's reply is empty."),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_reply_that_is_no_verdict_is_asked_for_once_more_with_what_was_wrong(
    judge: JudgeServer, tmp_path: Path, kind: str
) -> None:
    text, why = BAD[kind]
    found = score(judge, tmp_path, graded(text))
    assert (found.status, found.values, judge.calls) == ("ok", dict.fromkeys(NAMES, 4.0), 2)
    first, again = (body["messages"] for body in judge.bodies)
    assert again[:2] == first and again[-1]["role"] == "user"
    assert why in again[-1]["content"] and "JSON object" in again[-1]["content"]
    assert [one["content"] for one in again[2:-1]] == ([text[:2000]] if text.strip() else [])
    assert judge.bodies[1]["max_tokens"] == TOKENS


@pytest.mark.parametrize("kind", BAD)
def test_twice_no_verdict_is_a_failure_and_both_calls_are_counted(
    judge: JudgeServer, tmp_path: Path, kind: str
) -> None:
    text, why = BAD[kind]
    found = score(judge, tmp_path, graded(text), graded(text))
    assert found.status in ("bad_json", "bad_schema", "empty_reply") and why in found.why
    assert (found.values, found.expected, judge.calls, found.attempts) == ({}, {}, 2, 2)
    assert found.cost == pytest.approx(2 * ONE) == pytest.approx(spent(tmp_path / "ledger.jsonl").settled)
    assert (found.tokens_in, found.tokens_out) == (200, 40) and len(found.reply) <= KEPT


def test_a_reply_that_was_cut_gets_twice_the_room_once(judge: JudgeServer, tmp_path: Path) -> None:
    found = score(judge, tmp_path, graded(content=None, finish="length"))
    assert found.status == "ok" and [body["max_tokens"] for body in judge.bodies] == [TOKENS, 2 * TOKENS]
    assert judge.bodies[0]["messages"] == judge.bodies[1]["messages"]
    assert found.cost == pytest.approx(2 * ONE)


def test_a_reply_that_is_cut_again_is_given_up(judge: JudgeServer, tmp_path: Path) -> None:
    whole = json.dumps(GRADE)
    found = score(judge, tmp_path, *[graded(whole, finish="length")] * 2)
    assert (found.status, found.values, judge.calls) == ("judge_truncated", {}, 2)
    assert "cut off" in found.why and found.reply == whole  # whole by luck or not: it was cut, and is not read


def test_what_was_cut_and_is_no_verdict_then_keeps_the_second_name(judge: JudgeServer, tmp_path: Path) -> None:
    found = score(judge, tmp_path, graded("{", finish="length"), graded("No."))
    assert (found.status, judge.calls, found.values) == ("bad_json", 2, {})


@pytest.mark.parametrize(
    ("reply", "status", "asked", "why"),
    [
        (graded(content=None, refusal="I will not."), "refused", 1, "I will not"),
        (graded(content=None, finish="content_filter"), "filtered", 1, "content filter"),
        (graded(choices=[]), "empty_reply", 2, "empty"),
        (graded(model="judge-2"), "other_model", 1, "judge-2 answered"),
        (refused(400, "maximum context length is 100 tokens"), "over_context", 1, "maximum context"),
        (refused(400, "no"), "api_error", 1, "status 400"),
        (Reply(b"<html>Sign in</html>"), "api_error", 1, "no chat API"),
    ],
)
def test_a_failure_keeps_its_name_and_is_no_number(
    judge: JudgeServer, tmp_path: Path, reply: Reply, status: str, asked: int, why: str
) -> None:
    found = score(judge, tmp_path, reply, reply)
    assert (found.status, found.values, found.expected, judge.calls) == (status, {}, {}, asked)
    assert why in found.why


def test_a_judge_that_cannot_judge_is_not_asked_again(judge: JudgeServer, tmp_path: Path) -> None:
    found = score(judge, tmp_path, graded(json.dumps(GRADE | {"cannot_judge": True}), logprobs=chances("4")))
    assert (found.status, found.values, found.expected, judge.calls) == ("cannot_judge", {}, {}, 1)
    assert found.why == "The judge says that it cannot judge this." and found.evidence == "It says so."


@pytest.mark.parametrize("answer", ["", " ", "\n\t ", "\u200b\u200d\ufeff", "\u00a0\u3000", "\x00", "\u202e\u2060"])
def test_an_answer_with_nothing_to_be_seen_costs_no_call(judge: JudgeServer, tmp_path: Path, answer: str) -> None:
    found = score(judge, tmp_path, answer=answer)
    assert (found.status, found.values, found.flags) == ("ok", dict.fromkeys(NAMES, 1.0), ("empty",))
    assert found.by_rule and judge.calls == 0 and not (tmp_path / "ledger.jsonl").exists()


@pytest.mark.parametrize("answer", [".", ":", "Solution", "\U0001f980", "\U0001fae9", "\ue000", "\u0301", "0", "None"])
def test_an_answer_with_anything_in_it_is_judged(judge: JudgeServer, tmp_path: Path, answer: str) -> None:
    found = score(judge, tmp_path, answer=answer)
    assert judge.calls == 1 and not found.by_rule and answer in judge.bodies[0]["messages"][1]["content"]


def test_no_answer_at_all_cannot_be_an_item() -> None:
    with pytest.raises(ValidationError):
        Item.model_validate({"messages": ASKED, "answer": None})


def test_equal_answers_have_one_key_and_everything_else_makes_another() -> None:
    base = item()
    assert item().key("j") == base.key("j")
    others = [
        item("Jupiter").key("j"),
        base.key("k"),
        base.key("j", repeat=1),
        base.model_copy(update={"cut": True}).key("j"),
        base.model_copy(update={"reference": None}).key("j"),
        base.model_copy(update={"messages": [Message(role="user", content="?")]}).key("j"),
    ]
    assert len({base.key("j"), *others}) == 7


def test_a_reply_that_was_written_down_is_not_asked_for_again(judge: JudgeServer, tmp_path: Path) -> None:
    first = score(judge, tmp_path, graded("No verdict."))
    before = calls(tmp_path)
    assert before == ["reserved", "settled"] * 2
    again = grader(judge, tmp_path).score(item())
    assert judge.calls == 2 and calls(tmp_path) == before
    left_out = {"at", "seconds"}
    assert again.model_dump(exclude=left_out) == first.model_dump(exclude=left_out)


def test_another_round_or_repetition_is_asked_anew(judge: JudgeServer, tmp_path: Path) -> None:
    one = grader(judge, tmp_path)
    keys = [one.score(item()).key, one.score(item(), round=1).key, one.score(item(), repeat=1).key]
    assert judge.calls == 3 and keys[0] == keys[1] != keys[2]


def test_a_limit_between_two_calls_leaves_the_first_reply_for_the_resume(judge: JudgeServer, tmp_path: Path) -> None:
    score(judge, tmp_path / "elsewhere")
    most = json.loads((tmp_path / "elsewhere" / "ledger.jsonl").read_text().splitlines()[0])["dollars"]
    judge.next(graded("No verdict."))
    with pytest.raises(LabError, match="this run is"):
        grader(judge, tmp_path, cap_run=most).score(item())
    assert judge.calls == 2
    found = grader(judge, tmp_path).score(item())
    assert (found.status, judge.calls, found.attempts) == ("ok", 3, 2)
    assert found.cost == pytest.approx(2 * ONE)


def asked_once(folder: Path, judge: JudgeServer) -> tuple[ApiClient, dict[str, Any]]:
    wire = replace(line(judge, folder), replies=SavedReplies(folder / "replies.jsonl"))
    return wire, {"model": "judge-1", "messages": list(ASKED), "max_tokens": 50}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests")
from support.judges import KEY, PRICE, QUESTION, ledger
from dataclasses import replace
from backend.remote.client import connect
from backend.remote.ledger import SavedReplies
folder = Path(sys.argv[2])
book = ledger(folder)
line = replace(connect("judge-1", sys.argv[1], KEY, PRICE, book), replies=SavedReplies(folder / "replies.jsonl"))
book.settle = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
line.call({"model": "judge-1", "messages": QUESTION, "max_tokens": 50}, "item.0")
"""


def test_a_kill_between_answer_and_account_is_made_good(judge: JudgeServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, judge.url, str(tmp_path)], cwd=ROOT, capture_output=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert calls(tmp_path) == ["reserved"] and judge.calls == 1
    wire, asked = asked_once(tmp_path, judge)
    assert wire.settle_saved() == 0 and calls(tmp_path) == ["reserved", "settled"]
    found = wire.call(asked, "item.0")
    assert isinstance(found, ApiReply) and found.cost == pytest.approx(ONE) and judge.calls == 1
    assert spent(tmp_path / "ledger.jsonl").settled == pytest.approx(ONE)
    assert wire.settle_saved() == 0 and calls(tmp_path) == ["reserved", "settled"]


def test_a_call_nobody_knows_the_end_of_stays_unknown_when_another_one_was_answered(
    judge: JudgeServer, tmp_path: Path
) -> None:
    wire, asked = asked_once(tmp_path, judge)
    judge.next(Reply(graded().body, cut=30))
    wire.call(asked, "item.0")
    assert isinstance(wire.call(asked, "item.0"), ApiReply)
    later, _ = asked_once(tmp_path, judge)
    assert later.settle_saved() == 1
    assert calls(tmp_path) == ["reserved", "reserved", "settled"]
    assert spent(tmp_path / "ledger.jsonl").open == 1


def test_an_answer_without_a_count_is_settled_at_the_most_it_can_have_cost(judge: JudgeServer, tmp_path: Path) -> None:
    wire, asked = asked_once(tmp_path, judge)
    entry = wire.ledger.reserve("item.0", 0.5)
    body = {"choices": [{"message": {"content": "x"}}]}
    assert wire.replies is not None
    wire.replies.save("item.0", json.dumps(body).encode(), entry)
    assert wire.settle_saved() == 0
    sum_ = spent(tmp_path / "ledger.jsonl")
    assert (sum_.settled, sum_.open, sum_.estimated) == (0.5, 0, 1)
    found = wire.call(asked, "item.0")
    assert isinstance(found, ApiReply) and isinstance(found.body, ResponseBody) and judge.calls == 0


@pytest.mark.parametrize("raw", [b"{}", "\u2028é\r\n".encode(), b"\xff\xfe\x00", b"", b"=x"])
def test_a_reply_comes_back_byte_by_byte(tmp_path: Path, raw: bytes) -> None:
    SavedReplies(tmp_path / "r.jsonl").save("item", raw, "call")
    again = SavedReplies(tmp_path / "r.jsonl")
    assert again.recall("item") == raw and again.recall("other") is None
    assert again.has_call("call") and not again.has_call("other")


def test_a_damaged_reply_is_no_answer_and_does_not_stop_a_run(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    damaged = [{"what": "a", "body": "not base 64"}, {"what": 1, "body": "="}, {"body": "="}, {"what": "b", "body": 5}]
    path.write_text("".join(json.dumps(one) + "\n" for one in damaged) + '{"what": "c", "bo')
    kept = SavedReplies(path)
    assert [kept.recall(name) for name in "abc"] == [None, None, None]
    kept.save("c", b"{}", "call")
    assert SavedReplies(path).recall("c") == b"{}"


def test_a_full_disk_ends_the_run_in_a_sentence(judge: JudgeServer, tmp_path: Path) -> None:
    wire, asked = asked_once(tmp_path, judge)
    (tmp_path / "replies.jsonl").mkdir()
    with pytest.raises(LabError, match="cannot be written.*resume"):
        wire.call(asked, "item.0")
    assert calls(tmp_path) == ["reserved"] and spent(tmp_path / "ledger.jsonl").open == 1


def test_the_key_is_not_in_what_was_written_down(judge: JudgeServer, tmp_path: Path) -> None:
    found = score(judge, tmp_path, graded(json.dumps(GRADE | {"evidence": f"Your key is {KEY}"})))
    assert found.status == "ok" and KEY not in found.model_dump_json()
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_a_second_question_that_is_cancelled_leaves_no_failure_behind(judge: JudgeServer, tmp_path: Path) -> None:
    """A failure would begin another round, which pays for the first question once more."""
    one = grader(judge, tmp_path)

    def prose(body: dict[str, Any]) -> Reply:
        one.client.cancel_waiting()
        return graded("prose")

    judge.rule = prose
    found = one.score(item())
    assert (found.status, found.values, judge.calls) == ("cancelled", {}, 1)
