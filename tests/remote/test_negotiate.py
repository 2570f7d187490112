"""What an address takes is found out by asking: every refusal drops one thing, and is kept with its reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from servers.judge import GRADE, JudgeServer, Reply, chances, graded, refused
from support.judges import FORM, KEY, PRICE, QUESTION, endpoint, ledger, line

from backend.core.errors import LabError
from backend.remote import capabilities as module
from backend.remote.capabilities import Capabilities
from backend.remote.client import connect
from backend.remote.ledger import spent
from backend.remote.negotiate import MOST, negotiate

TEXT = json.dumps(GRADE)
EVERYTHING = {"temperature": 0, "seed": module.SEED, "reasoning_effort": "none", "logprobs": True, "top_logprobs": 10}
BARE = {name: EVERYTHING[name] for name in ("temperature", "seed", "reasoning_effort")}  # no probabilities came back


@pytest.fixture
def judge() -> Any:
    with JudgeServer() as server:
        yield server


def agree(judge: JudgeServer, folder: Path, **options: Any) -> Capabilities:
    return negotiate(line(judge, folder), QUESTION, FORM, fits, **({"pause": 0.01} | options))


def fits(text: str) -> bool:
    try:
        return set(json.loads(text)) == set(GRADE)
    except (ValueError, TypeError):
        return False


def test_an_address_that_takes_everything_is_asked_once(judge: JudgeServer, tmp_path: Path) -> None:
    judge.next(graded(logprobs=chances(TEXT)))
    agreed = agree(judge, tmp_path)
    assert agreed == Capabilities(
        model="judge-1", returned="judge-1", limit="max_tokens", shape="json_schema", steady=EVERYTHING,
        logprobs=True, usage=True, honoured=True, attempts=1,
    )  # fmt: skip
    sent = judge.bodies[0]
    assert {name: sent[name] for name in EVERYTHING} == EVERYTHING and sent["max_tokens"] == 600
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert Capabilities.model_validate_json(agreed.model_dump_json()) == agreed


def test_openai_itself_is_asked_with_its_own_word_for_the_limit(tmp_path: Path) -> None:
    far = connect("gpt-4o-mini", "https://api.openai.com/v1", KEY, PRICE, ledger(tmp_path, cap_run=0))
    with pytest.raises(LabError, match="this run is"):  # the limit of nothing: not one byte is sent
        negotiate(far, QUESTION, FORM, fits)
    asked = Capabilities(model="m", limit="max_completion_tokens").request(QUESTION, FORM, 50)
    assert asked["max_completion_tokens"] == 50 and "max_tokens" not in asked


@pytest.mark.parametrize(
    ("refusal", "gone"),
    [
        (refused(400, "Unsupported value: 'temperature' does not support 0 with this model.", param="temperature"),
         "temperature"),
        (refused(400, "Unrecognized request argument supplied: reasoning_effort"), "reasoning_effort"),
        (refused(400, "Unsupported value: 'none'", param="reasoning_effort"), "reasoning_effort"),
        (refused(400, "You are not allowed to request logprobs from this model", param="logprobs"), "logprobs"),
        (refused(400, "top_logprobs must be at most 5"), "logprobs"),
        (Reply({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, 422), "seed"),
        (refused(404, "No endpoint takes the parameter seed"), "seed"),
        (refused(501, "logprobs are not implemented"), "logprobs"),
        (refused(400, "This model does not support temperature; use a model with logprobs"), "temperature"),
    ],
)  # fmt: skip
def test_what_is_named_is_dropped_and_nothing_else(
    judge: JudgeServer, tmp_path: Path, refusal: Reply, gone: str
) -> None:
    judge.next(*[refusal] * (4 if refusal.status == 501 else 1), graded(logprobs=chances(TEXT)))
    agreed = agree(judge, tmp_path)
    left = set(EVERYTHING) - {gone} - ({"top_logprobs"} if gone == "logprobs" else set())
    assert set(agreed.steady) == left == set(judge.bodies[-1]) & set(EVERYTHING)
    assert list(agreed.refused) == [gone] and agreed.refused[gone]
    assert agreed.shape == "json_schema" and agreed.honoured


@pytest.mark.parametrize(
    ("names", "shape"),
    [((), "json_schema"), (("json_schema",), "json_object"), (("json_schema", "json_object"), "none")],
)
def test_a_form_is_asked_for_as_strictly_as_it_is_taken(
    judge: JudgeServer, tmp_path: Path, names: tuple[str, ...], shape: str
) -> None:
    judge.picky(*names, say="response_format.type '{}' is not supported")
    agreed = agree(judge, tmp_path)
    assert (agreed.shape, agreed.attempts) == (shape, len(names) + 1)
    assert [name for name in agreed.refused if name != "logprobs"] == list(names)
    assert ("response_format" in judge.bodies[-1]) == (shape != "none")
    assert agreed.steady == BARE


def test_the_other_word_for_the_limit_is_tried(judge: JudgeServer, tmp_path: Path) -> None:
    judge.picky("max_tokens", say="Unsupported parameter: '{}'. Use 'max_completion_tokens' instead.")
    agreed = agree(judge, tmp_path)
    assert (agreed.limit, agreed.attempts) == ("max_completion_tokens", 2)
    assert judge.bodies[-1]["max_completion_tokens"] == 600 and "max_tokens" not in judge.bodies[-1]


def test_a_reasoning_model_that_takes_almost_nothing(judge: JudgeServer, tmp_path: Path) -> None:
    judge.picky("max_tokens", "temperature", "logprobs", "seed", "reasoning_effort")
    agreed = agree(judge, tmp_path)
    assert (agreed.steady, agreed.limit, agreed.shape) == ({}, "max_completion_tokens", "json_schema")
    assert set(agreed.refused) == {"max_tokens", "temperature", "logprobs", "seed", "reasoning_effort"}
    told = endpoint(judge, tmp_path, agreed=agreed).ask(QUESTION, FORM, 300, "item")
    assert told.status == "ok" and judge.calls == agreed.attempts + 1


@pytest.mark.parametrize("guilty", ["temperature", "seed", "json_schema", "logprobs", "reasoning_effort", "max_tokens"])
@pytest.mark.parametrize("status", [400, 500])
def test_a_refusal_without_a_name_costs_only_the_guilty(
    judge: JudgeServer, tmp_path: Path, guilty: str, status: int
) -> None:
    judge.picky(guilty, status=status, say="Bad request")
    agreed = agree(judge, tmp_path)
    assert agreed.attempts == judge.calls <= MOST
    assert list(agreed.refused) == [guilty] + (["logprobs"] if guilty != "logprobs" else [])
    assert agreed.parameters == {
        **{name: value for name, value in BARE.items() if name != guilty},
        "response_format": "json_object" if guilty == "json_schema" else "json_schema",
        "limit": "max_completion_tokens" if guilty == "max_tokens" else "max_tokens",
    }


def test_two_guilty_without_a_name_are_both_found(judge: JudgeServer, tmp_path: Path) -> None:
    judge.picky("seed", "temperature", say="Bad request")
    agreed = agree(judge, tmp_path)
    assert not {"seed", "temperature"} & set(agreed.steady) and agreed.honoured


def test_an_error_that_passes_costs_no_parameter(judge: JudgeServer, tmp_path: Path) -> None:
    judge.next(refused(500, "oops"), refused(429, "slow down", {"Retry-After": "0"}), graded(logprobs=chances(TEXT)))
    agreed = agree(judge, tmp_path)
    assert (agreed.steady, agreed.refused, agreed.attempts) == (EVERYTHING, {}, 3)


@pytest.mark.parametrize(
    ("logprobs", "why"),
    [(None, "not returned"), ({"tokens": ["4"], "top_logprobs": [{"4": -0.1}]}, "another form")],
)
def test_probabilities_that_cannot_be_used_are_not_asked_for_again(
    judge: JudgeServer, tmp_path: Path, logprobs: Any, why: str
) -> None:
    judge.next(graded(logprobs=logprobs))
    agreed = agree(judge, tmp_path)
    assert not agreed.logprobs and agreed.steady == BARE and why in agreed.refused["logprobs"]


def test_a_form_that_is_taken_and_not_kept_is_noticed(judge: JudgeServer, tmp_path: Path) -> None:
    judge.next(graded("I would give it a 4 out of 5.", usage=None))
    agreed = agree(judge, tmp_path)
    assert (agreed.shape, agreed.honoured, agreed.usage) == ("json_schema", False, False)


def test_the_name_of_what_answered_is_kept_and_held_to(judge: JudgeServer, tmp_path: Path) -> None:
    judge.next(graded(model="judge-1-2026-01-01"))
    agreed = agree(judge, tmp_path)
    assert (agreed.model, agreed.returned) == ("judge-1", "judge-1-2026-01-01")
    asker = endpoint(judge, tmp_path, agreed=agreed)
    judge.next(graded(model="judge-1-2026-01-01"), graded(model="judge-1-2026-06-06"))
    assert [asker.ask(QUESTION, FORM, 300, "item").status for _ in range(2)] == ["ok", "other_model"]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (refused(401, f"Incorrect API key provided: {KEY}"), "does not accept"),
        (refused(403, "No"), "does not let"),
        (refused(404, "The model does not exist", code="model_not_found"), "has no model"),
        (refused(429, "No credit", code="insufficient_quota"), "credit"),
        (refused(400, "maximum context length is 100 tokens"), "maximum context length is 100"),
        (Reply(b"<html>hello"), "no chat API"),
    ],
)
def test_where_nothing_helps_it_stops_at_once(judge: JudgeServer, tmp_path: Path, reply: Reply, why: str) -> None:
    judge.next(reply)
    with pytest.raises(LabError, match=why) as told:
        agree(judge, tmp_path)
    assert judge.calls == 1 and KEY not in str(told.value)


@pytest.mark.parametrize("status", [400, 422, 500, 503])
def test_an_address_that_refuses_everything_is_left_after_a_while(
    judge: JudgeServer, tmp_path: Path, status: int
) -> None:
    judge.rule = lambda body: refused(status, "I do not like this")
    with pytest.raises(LabError, match="did not answer a test question.*I do not like this"):
        agree(judge, tmp_path)
    assert 4 <= judge.calls <= MOST


def test_every_attempt_is_in_the_ledger(judge: JudgeServer, tmp_path: Path) -> None:
    judge.picky("seed", "temperature")
    agreed = agree(judge, tmp_path)
    lines = [json.loads(text) for text in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [one["state"] for one in lines] == ["reserved", "released"] * 2 + ["reserved", "settled"]
    assert {one["what"] for one in lines} == {"negotiation"} and agreed.attempts == 3
    assert spent(tmp_path / "ledger.jsonl").settled == pytest.approx(PRICE.cost(100, 20))


def test_a_fault_inside_that_names_a_parameter_is_a_refusal_at_once(judge: JudgeServer, tmp_path: Path) -> None:
    judge.picky("json_schema", status=500, say="1 validation error for request: response_format.type: {}")
    found = agree(judge, tmp_path)
    assert (found.shape, found.attempts, judge.calls) == ("json_object", 2, 2)
