"""A variant as a judge, with the embedded toy behind real engines: held to the form, and told what does not fit."""

import json
from collections.abc import Iterator

import pytest
from conftest import TINY

from backend.core.messages import Message
from backend.core.settings import Settings
from backend.inference import placement
from backend.inference.engines import Engines
from backend.inference.placement import ModelSpec
from backend.inference.sampling import Sampling
from backend.judge.client import JudgeReply
from backend.judge.grader import Grader
from backend.judge.local_judge import LocalJudge
from backend.judge.pairwise import FORM, PairwiseJudge, fits
from backend.judge.prompt import form, question
from backend.judge.reply import parse_reply
from backend.judge.rubric import Rubric, rubrics
from backend.judge.score import Identity, Item
from models.catalogue import list_variants

LAB, BRIEF = rubrics()["lab"], rubrics()["brief"]
CONTEXT = 1024
READ = ("ok", "cannot_judge")
ASKED = [Message(role="user", content="What is the capital of France?")]
ANSWERED = Item(messages=ASKED, reference="Paris.", answer="It is Paris.<|eot_id|>")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalJudge]:
    weights = tmp_path_factory.mktemp("weights")
    (toy,) = [one for one in list_variants(weights) if one.variant.id == "tiny_base"]
    assert toy.model == TINY / "tiny_base.gguf"
    settings = Settings(_env_file=None, lab_weights=weights, lab_context=CONTEXT, lab_slots=2, lab_waiting=50)
    engines = Engines(settings, lambda file, how: None)
    yield LocalJudge(engines, placement.model_spec(toy, CONTEXT), placement.prompt_format(toy), engines.slots)
    engines.close()


def grader(local: LocalJudge) -> Grader:
    return Grader(local, BRIEF, Identity(kind="variant", model="tiny_base", rubric=BRIEF.hash))


def asked(local: LocalJudge, tokens: int, rubric: Rubric = BRIEF, item: Item = ANSWERED) -> JudgeReply:
    return local.ask(question(rubric, item), form(rubric), tokens, "item")


def test_the_toy_gives_a_reply_that_can_be_read_and_costs_nothing(local: LocalJudge) -> None:
    found = grader(local).score(ANSWERED)
    assert found.status in READ, (found.why, found.reply)  # what a toy says is noise, but it has the form
    assert list(json.loads(found.reply)) == ["evidence", "quality", "flags", "cannot_judge"]
    assert (found.values.get("quality") in (1, 2, 3, 4, 5)) == (found.status == "ok")
    assert (found.cost, found.attempts, found.model, found.expected) == (0, 1, "tiny_base", {})
    assert found.tokens_in > 100 and found.tokens_out > 10 and found.seconds > 0


def test_the_same_question_over_the_same_memory_gets_the_same_reply(local: LocalJudge) -> None:
    replies = [asked(local, 300).text for _ in range(3)]
    assert replies[1] == replies[2] and parse_reply(replies[2], BRIEF).status in READ


@pytest.mark.parametrize("seed", range(4))
def test_what_the_grammars_let_through_can_be_read_however_wild_it_is(local: LocalJudge, seed: int) -> None:
    wild = Sampling(temperature=2, top_k=1000, top_p=1, min_p=0, seed=seed, max_tokens=900, grammar=form(BRIEF).grammar)
    both = (wild, wild.model_copy(update={"grammar": FORM.grammar}))
    graded, picked = (local.engines.reply(local.spec, ASKED, how, local.prompt_format) for how in both)
    assert parse_reply(graded.text(), BRIEF).status in READ, graded.text()
    assert fits(picked.text()), picked.text()


def test_the_toy_picks_in_both_orders(local: LocalJudge) -> None:
    found = PairwiseJudge(local, BRIEF).pick(ASKED, "Paris.", "Paris.", "London.", "pair")
    assert (found.forth.status, found.back.status) == ("ok", "ok") and found.better is not None


@pytest.mark.parametrize(("rubric", "size"), [(LAB, 1), (BRIEF, 5000), (BRIEF, 100_000)])
def test_a_question_that_does_not_fit_is_said_not_to(local: LocalJudge, rubric: Rubric, size: int) -> None:
    told = asked(local, 200, rubric, ANSWERED.model_copy(update={"answer": "x" * size}))
    assert (told.status, told.text, told.cost) == ("over_context", "", 0)
    assert f"{CONTEXT:,}" in told.why


def test_a_question_that_does_not_fit_is_a_failure_of_that_name_and_no_number(local: LocalJudge) -> None:
    found = grader(local).score(ANSWERED.model_copy(update={"answer": "x" * 5000}))
    assert (found.status, found.values, found.attempts) == ("over_context", {}, 1)


def test_a_reply_that_is_cut_is_asked_for_with_twice_the_room(local: LocalJudge) -> None:
    short = Grader(local, BRIEF, Identity(kind="variant", rubric=BRIEF.hash), tokens=8).score(ANSWERED)
    assert (short.status, short.values, short.attempts) == ("judge_truncated", {}, 2)
    assert short.tokens_out == 8 + 16 and "cut off" in short.why


def test_an_empty_answer_starts_no_engine(local: LocalJudge) -> None:
    dead = LocalJudge(local.engines, ModelSpec("nobody", "nobody", "no such runtime"), local.prompt_format, 1)
    found = grader(dead).score(ANSWERED.model_copy(update={"answer": "\u200b"}))
    assert found.by_rule and found.values == {"quality": 1}
