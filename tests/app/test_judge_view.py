"""What the page says of evaluations: values to text, rows and HTML."""

import dataclasses
import json
from html import unescape

import pytest
from support.tables import LAB, noisy, table

from app.judge import answer_view, result_view
from app.judge import view as judge_view
from backend.core.messages import Message
from backend.evaluation.contrasts import ScoreTable
from backend.evaluation.cost_forecast import CostForecast
from backend.evaluation.evaluations import EvaluationStatus
from backend.evaluation.human_ratings import HumanAgreement, human_agreement
from backend.evaluation.records import Answer, JudgeRecord, Question, Rating, VoteRecord
from backend.evaluation.request import EvaluateRequest, JudgeRequest
from backend.evaluation.result import Result
from backend.evaluation.verdict import verdict
from backend.judge import check
from backend.judge.pairwise import OrderedVote, PairwiseVote
from backend.judge.score import Identity, Score
from backend.remote.capabilities import Capabilities
from backend.remote.ledger import Spent
from backend.report import figures

EVIL = '<img src=x onerror="alert(1)"> ![x](http://elsewhere/x.png)'


def result(of: ScoreTable, **more: object) -> Result:
    """An evaluation with that table, judged at an address; every answer and its evidence is hostile."""
    spec = EvaluateRequest(
        name="test", given="/x.answers.jsonl", variants=of.variants, runs="/x", weights="/x",
        judge=JudgeRequest(kind="endpoint", rubric="lab", model="gpt-4o-mini", address="https://api.openai.com/v1"),
    )  # fmt: skip
    agreed = Capabilities(model="gpt-4o-mini", limit="max_tokens", refused={"seed": EVIL}, honoured=True)
    identity = Identity(
        kind="endpoint", model="gpt-4o-mini", returned="gpt-4o-mini-2024-07-18",
        address="https://api.openai.com/v1", rubric=LAB.hash,
    )  # fmt: skip
    asked = [Message(role="user", content=f"Why? {EVIL}")]
    answers = {
        key: Answer(row=key[0], variant=key[1], text=EVIL, end="length" if cell.cut else "stop")
        for key, cell in of.cells.items()
    }
    scores = {
        key: Score(key="k", judge="j", status=cell.status, values=dict(cell.values), evidence=EVIL, reply=EVIL,
                   prompt=asked, why="" if cell.status == "ok" else "It said nothing.", cost=0.01, attempts=1)
        for key, cell in of.cells.items()
    }  # fmt: skip
    found = Result(
        spec=spec, rubric=LAB, by=JudgeRecord(identity=identity, agreed=agreed), check=None,
        questions=tuple(Question(id=row, cluster=row, messages=asked, reference=EVIL) for row in of.rows),
        answers=answers, scores=scores, picks=(), ratings={}, table=of, verdict=verdict(of),
        people=human_agreement(of, {}),
    )  # fmt: skip
    return dataclasses.replace(found, **more)


def test_the_sentence_comes_first_and_an_unreliable_judge_before_it() -> None:
    found = result(noisy())
    assert unescape(result_view.headline(found)) == f"## {found.verdict.sentence}"
    bad = result(noisy(), check=check.report("j", LAB, {}))
    assert result_view.headline(bad).startswith("### ⚠ Unreliable judge")
    assert "0 of 24 probes passed" in result_view.about(bad)


def test_a_judge_that_was_never_checked_is_said_to_be_so() -> None:
    assert "was not checked" in result_view.about(result(noisy()))


def test_who_judged_is_told_with_what_was_negotiated_and_when_it_retires() -> None:
    told = unescape(result_view.about(result(noisy())))
    assert "answering as gpt-4o-mini-2024-07-18" in told and LAB.hash in told
    assert "response_format=json_schema" in told
    assert "OpenAI's API on 14 January 2027" in told


def test_nothing_that_models_or_addresses_say_can_act() -> None:
    found = result(noisy())
    row, name = found.questions[0].id, found.spec.variants[0]
    for text in (answer_view.cell(found, row, name), result_view.about(found)):
        assert "<img" not in text and "<img" in unescape(text)
    assert "![" not in result_view.about(found)


def test_names_in_a_figure_are_no_tags() -> None:
    of = table({"<a href=javascript:x>base</a>": [3, 4, 2, 3], "<b>lora</b>": [5, 4, 4, 5]})
    figure = json.loads(figures.forest(verdict(of)).to_json())
    (line,) = figure["data"]
    assert line["y"] == ["&lt;b&gt;lora&lt;/b&gt; − &lt;a href=javascript:x&gt;base&lt;/a&gt;"]
    assert "<" not in line["name"] + line["hovertext"] + figure["layout"]["xaxis"]["title"]["text"]


def test_the_lab_s_table_names_failures_and_cut_answers() -> None:
    of = table({"base": [3, 4, 2, 3, 3, 4], "lora": [5, "bad_json", 4, "refused", 5, 4]})
    rows = {row[0]: dict(zip(result_view.VARIANTS, row, strict=True)) for row in result_view.variants(result(of))}
    assert rows["lora"]["failures"] == "1 bad_json, 1 refused" and rows["lora"]["rows"] == "4"
    assert rows["base"]["status"] == "baseline"
    (contrast,) = result_view.contrasts(result(of))
    told = dict(zip(result_view.CONTRASTS, contrast, strict=True))
    assert told["failures"] == "2 and 0" and "/" in told["worst / best"]


@pytest.mark.parametrize(("which", "rows"), [("all rows", 3), ("failures", 1), ("cut answers", 1), ("flagged", 0)])
def test_the_heat_map_can_be_filtered(which: str, rows: int) -> None:
    of = table({"base": [1, 3, 3], "lora": [5, "bad_json", 3]})
    cells = dict(of.cells)
    cells["row 2", "base"] = dataclasses.replace(cells["row 2", "base"], cut=True)
    found = result(dataclasses.replace(of, cells=cells))
    heat = answer_view.heat(found, which)
    assert len(heat["data"]) == len(heat["metadata"]["styling"]) == rows
    assert all(len(row) == len(heat["headers"]) for row in heat["data"])


def test_a_big_disagreement_is_half_the_scale() -> None:
    found = result(table({"base": [1, 3, 3], "lora": [5, 4, 3]}))
    assert [row[0] for row in answer_view.heat(found, "big disagreements")["data"]] == ["row 0"]


def test_a_failure_is_never_a_number() -> None:
    found = result(table({"base": [3], "lora": ["bad_json"]}))
    (row,) = answer_view.heat(found, "all rows")["data"]
    assert row[1:3] == ["3.00", "✗ bad_json"]
    assert "No score: bad_json" in answer_view.cell(found, "row 0", "lora")


def test_means_over_probabilities_stand_beside_the_integers() -> None:
    found = result(table({"base": [3, 4], "lora": [4, 5]}))
    assert "expected score" not in result_view.criteria(found)
    torn = {name.name: 4.25 for name in LAB.criteria}
    scores = {key: one.model_copy(update={"expected": torn}) for key, one in found.scores.items()}
    assert "| 4.25 |" in result_view.criteria(dataclasses.replace(found, scores=scores))


def test_costs_are_told_before_the_start() -> None:
    told = judge_view.forecast(
        CostForecast(100, (90_000, 200_000), (0.03, 0.04), (20, 80), 24), Spent(settled=0.5, calls=10), 1.0, 5.0
    )
    assert "**100 calls** (24 of them the judge check)" in told and "$0.0300 to $0.0400" in told
    assert "$0.5000 of it are spent" in told
    unknown = judge_view.forecast(CostForecast(10, (1, 2), None, None), Spent(), 1, 5)
    assert "no price is known" in unknown
    assert "no calls, no cost" in judge_view.forecast(CostForecast(0, (0, 0), (0, 0), (0, 0)), Spent(), 1, 5)


def test_a_run_on_its_way_tells_how_far_it_is_and_what_nobody_knows() -> None:
    facts = {"state": "judging", "done": 7, "total": 9, "failed": 2, "dollars": 0.02, "unknown": 1}
    one = EvaluationStatus(id="id", kind="judge", name="name", state="running", progress=facts)
    told = judge_view.progress(one)
    assert "judging 7 of 9, 2 failed, $0.0200 so far" in told and "The outcome of 1 calls is unknown" in told


def test_winners_are_told_and_a_choice_by_place_is_a_tie() -> None:
    won = PairwiseVote(
        forth=OrderedVote(status="ok", winner="A", evidence="x"), back=OrderedVote(status="ok", winner="B")
    )
    torn = PairwiseVote(forth=OrderedVote(status="ok", winner="A"), back=OrderedVote(status="ok", winner="A"))
    picks = [
        VoteRecord(row="1", first="a", second="b", pick=won),
        VoteRecord(row="1", first="a", second="c", pick=torn),
    ]
    told = result_view.picked_sentence(picks)
    assert "a is better than b" in told and "a and c: a tie (the judge chose another one" in told
    assert result_view.picked_sentence([]) == "No winner was picked yet."


def test_names_are_letters_while_they_are_hidden() -> None:
    assert judge_view.letters(["x", "y"], hidden=True) == {"x": "A", "y": "B"}
    assert judge_view.letters(["x", "y"], hidden=False) == {"x": "A · x", "y": "B · y"}


def test_ratings_of_people_are_told_with_what_is_still_missing() -> None:
    of = noisy()
    ratings = {
        (row, "base"): Rating(row=row, variant="base", values={one.name: 3.0 for one in LAB.criteria})
        for row in list(of.rows)[:4]
    }
    told = result_view.human_agreement(human_agreement(of, ratings))
    assert "**4 answers rated blind.**" in told and "base 26" in told
    assert result_view.human_agreement(HumanAgreement(rated=0)) == "No answer has been rated yet."
