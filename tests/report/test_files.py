"""What leaves the lab can be opened, read back and trained on, whatever stood in it."""

import csv
import io
import json
import math
from typing import Any

import pytest
from conftest import GENERATION

from backend.core.messages import Message
from backend.evaluation.contrasts import ScoreCell, ScoreTable
from backend.evaluation.verdict import verdict
from backend.inference.sampling import Sampling
from backend.judge.rubric import rubrics
from backend.judge.score import Identity
from backend.judge.votes import Candidate, Vote
from backend.report.files import (
    ScoredAnswer,
    cells_csv,
    contrasts_csv,
    methods,
    score_pairs,
    to_json,
    variants_csv,
    vote_pairs,
)

LAB = rubrics()["lab"]
HOSTILE = ["=HYPERLINK(\"http://x\")", "+1", "-2", "@SUM(A1)", "\tx", "\rx", "\nx", "  =1", "\uff1d1"]  # fmt: skip
JUDGE = Identity(
    kind="endpoint",
    model="gpt-x",
    returned="gpt-x-2026-01-01",
    address="https://me:secret@api.example.org/v1?key=hidden",
    rubric=LAB.hash,
    parameters={"temperature": 0.0, "odd": math.nan},
)


def table(names: tuple[str, ...] = ("base", "tuned"), rows: list[str] | None = None) -> ScoreTable:
    ids = rows or [f"r{n}" for n in range(12)]
    cells = {
        (row, name): ScoreCell(
            "ok", {one.name: float(1 + (n * 3 + place * 2) % 5) for one in LAB.criteria}, n == 0, 10 * n
        )
        for n, row in enumerate(ids)
        for place, name in enumerate(names)
    }
    cells[ids[-1], names[0]] = ScoreCell("refused", {})
    cells[ids[-2], names[0]] = ScoreCell("ok", {one.name: math.nan for one in LAB.criteria})
    pairs = tuple((name, names[0]) for name in names[1:])
    return ScoreTable(LAB, {row: row for row in ids}, names, dict.fromkeys(names[1:], names[0]), pairs, cells)


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_variants_and_contrasts_come_back_from_csv_as_numbers() -> None:
    found = verdict(table())
    for line, one in zip(parsed(variants_csv(found)), found.variants, strict=True):
        assert (line["variant"], line["status"], line["n"]) == (one.variant, one.status, str(one.primary.n))
        assert (float(line["mean"]), float(line["correctness_high"])) == (
            one.primary.mean,
            one.criteria["correctness"].high,
        )
    line, one = parsed(contrasts_csv(found))[0], found.contrasts[0]
    assert (line["variant"], line["against"], line["decided"]) == ("tuned", "base", one.decided)
    assert float(line["low"]) == one.difference.low and float(line["low"]) < 0 and not line["low"].startswith("'")
    assert (float(line["holm_p"]), int(line["wins"]), float(line["worst"])) == (
        one.holm_p,
        one.wins,
        (one.bounds or (0,))[0],
    )
    assert parsed(variants_csv(found))[0]["failures"] == "bad_schema:1 refused:1"


def test_a_cell_is_a_line_and_a_failure_has_no_numbers() -> None:
    lines = parsed(cells_csv(table()))
    assert len(lines) == 24
    assert (lines[0]["row"], lines[0]["variant"], lines[0]["cut"], float(lines[0]["primary"])) == (
        "r0",
        "base",
        "1",
        1.0,
    )
    failed = [(line["status"], line["primary"], line["correctness"]) for line in lines if line["status"] != "ok"]
    assert failed == [("bad_schema", "", ""), ("refused", "", "")]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_cell_is_a_formula(name: str) -> None:
    of = table(names=("base", name), rows=[name, "b", "c"])
    found = verdict(of)
    for text in (variants_csv(found), contrasts_csv(found), cells_csv(of)):
        fields = [field for line in csv.reader(io.StringIO(text, newline="")) for field in line]
        assert f"'{name}" in fields and name not in fields


@pytest.mark.parametrize("name", ['a,b;"c"', "two\nlines", "é 中 🙂", "a=b", "a-b", "\ud800", "nul\0"])
def test_any_other_text_comes_back(name: str) -> None:
    text = cells_csv(table(names=("base", name)))
    text.encode()
    assert {line["variant"] for line in parsed(text)} == {
        "base",
        name.replace("\ud800", "\ufffd").replace("\0", "\ufffd"),
    }


def test_empty_tables_have_a_head_alone() -> None:
    empty = ScoreTable(LAB, {}, (), {}, (), {})
    for text in (variants_csv(verdict(empty)), contrasts_csv(verdict(empty)), cells_csv(empty)):
        assert len(list(csv.reader(io.StringIO(text)))) == 1
    assert json.loads(to_json(verdict(empty), empty, JUDGE))["cells"] == []


def test_json_is_strict_and_whole() -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    of = table(names=("base", "\ud800"))
    text = to_json(verdict(of), of, JUDGE)
    read: dict[str, Any] = json.loads(text.encode(), parse_constant=refuse)
    assert read["verdict"]["sentence"].startswith("No clear difference between \ufffd and base")
    assert read["rubric"]["id"] == "lab" and len(read["cells"]) == 24
    assert read["judge"]["parameters"] == {"temperature": 0.0, "odd": None}
    assert [one["values"] for one in read["cells"] if one["status"] != "ok"] == [{}, {}]
    assert "secret" not in text and "hidden" not in text and "example.org" not in text  # an address is private


def test_methods_name_everything_a_paper_needs() -> None:
    of = table()
    text = methods(
        verdict(of), JUDGE, LAB, {"date": "2026-11-03", "check": "21/24 probes", "Sampling": "temperature 0"}
    )
    for part in (
        "2 variants", "12 rows", LAB.hash,
        "gpt-x (answering as gpt-x-2026-01-01), at a private address on 2026-11-03",
        "correctness (1-5), completeness (1-5), faithfulness (1-5)", "the mean of 3 criteria", "Student's t",
        "9,999 draws with seed 2026", "Holm's method for 1 planned contrasts", "Failed judgements (2)",
        "length limit (2)", "21/24 probes", "Sampling: temperature 0.",
    ):  # fmt: skip
        assert part in text
    assert "secret" not in text and "hidden" not in text and "cluster" not in text


def test_methods_name_the_host_of_an_address_that_sells() -> None:
    sold = JUDGE.model_copy(update={"address": "https://api.openai.com/v1"})
    assert ", at api.openai.com on" in methods(verdict(table()), sold, LAB, {"date": "2026-11-03"})
    assert json.loads(to_json(verdict(table()), table(), sold))["judge"]["address"] == "api.openai.com"


def test_methods_of_other_judges() -> None:
    of = table()
    told = lambda judge, **facts: methods(verdict(of), judge, LAB, facts)
    rule = told(Identity(kind="rule", rubric=LAB.hash))
    assert "judged by rule, without a model." in rule and "probes" not in rule
    assert "The judge was not checked on fixed probes before." in told(JUDGE)
    assert "judged by a person" in told(Identity(kind="you", rubric=LAB.hash))
    local = told(Identity(kind="variant", model="base_3b", rubric=LAB.hash))
    assert "by the language model base_3b, run on the machine of the lab." in local
    odd = told(JUDGE.model_copy(update={"address": "http://[broken"}))
    assert "at a private address" in odd
    doubled = ScoreTable(LAB, dict.fromkeys(of.rows, "one"), of.variants, of.baselines, of.contrasts, of.cells)
    assert "12 rows (1 different questions" in methods(verdict(doubled), JUDGE, LAB, {})
    assert "cluster-robust" in methods(verdict(doubled), JUDGE, LAB, {})


def said(answer: str, asked: str = "q") -> list[Message]:
    return [Message(role="user", content=asked), Message(role="assistant", content=answer)]


def vote(*answers: str, winner: int | None = 0, cut: int | None = None, asked: tuple[str, ...] = ()) -> Vote:
    candidates = [
        Candidate(
            variant=str(place),
            messages=said(answer, asked[place] if asked else "q"),
            generation=GENERATION.model_copy(update={"end": "length" if place == cut else "stop"}),
        )
        for place, answer in enumerate(answers)
    ]
    told: dict[str, Any] = {"verdict": "winner", "winner": winner} if winner is not None else {"verdict": "tie"}
    return Vote(blind=True, candidates=candidates, sampling=Sampling(), **told)


def pairs(text: str) -> list[tuple[str, str]]:
    records = [json.loads(line) for line in text.split("\n") if line]
    for record in records:
        assert list(record) == ["prompt", "chosen", "rejected"]
        assert record["prompt"] and record["prompt"][-1]["role"] == "user"
        assert [len(record[side]) for side in ("chosen", "rejected")] == [1, 1]
        assert {record[side][0]["role"] for side in ("chosen", "rejected")} == {"assistant"}
    return [(record["chosen"][0]["content"], record["rejected"][0]["content"]) for record in records]


def test_a_winner_is_chosen_against_each_of_the_others() -> None:
    assert pairs(vote_pairs([vote("a", "b", "c", winner=1)])) == [("b", "a"), ("b", "c")]
    assert json.loads(vote_pairs([vote("a", "b")]))["prompt"] == [{"role": "user", "content": "q"}]


@pytest.mark.parametrize(
    "one",
    [
        vote("a", "b", winner=None),
        vote("a", "b", cut=0),
        vote(" \n", "b"),
        vote("same", "same"),
        vote("a", "b", asked=("q", "another q")),
    ],
)
def test_votes_that_teach_nothing_make_no_pair(one: Vote) -> None:
    assert vote_pairs([one]) == ""


def test_what_failed_is_neither_chosen_nor_rejected() -> None:
    whole = vote("a", "b")
    for place in (0, 1):
        broken = list(whole.candidates)
        broken[place] = broken[place].model_copy(update={"generation": None})
        assert vote_pairs([whole.model_copy(update={"candidates": broken})]) == ""


def test_a_cut_answer_may_be_rejected_and_the_same_pair_stands_there_once() -> None:
    assert pairs(vote_pairs([vote("a", "b", cut=1), vote("a", "b"), vote("b", "a", winner=1)])) == [("a", "b")]


def test_strange_text_stays_one_line_and_valid() -> None:
    text = vote_pairs([vote("a\nb\u2028é\ud800\0", "b")])
    assert text.count("\n") == 1
    assert pairs(text.encode().decode()) == [("a\nb\u2028é\ufffd\ufffd", "b")]


def row(*answers: tuple[str, float] | tuple[str, float, bool]) -> list[ScoredAnswer]:
    return [ScoredAnswer(said("")[:1], *answer) for answer in answers]


@pytest.mark.parametrize(
    ("answers", "margin", "expected"),
    [
        (row(("a", 5), ("b", 3), ("c", 1)), None, [("a", "c")]),
        (row(("c", 1), ("a", 5), ("b", 3)), None, [("a", "c")]),
        (row(("a", 4), ("b", 3)), None, [("a", "b")]),
        (row(("a", 4), ("b", 10 / 3)), None, []),
        (row(("a", 4), ("b", 10 / 3)), 0.5, [("a", "b")]),
        (row(("a", 4), ("b", 4)), 0.0, []),
        (row(("a", 5, True), ("b", 4), ("c", 1)), None, [("b", "c")]),
        (row(("", 5), ("b", 4), ("c", 1)), None, [("b", "c")]),
        (row(("a", 5), ("c", 1, True)), None, [("a", "c")]),
        (row(("a", 5, True), ("c", 1)), None, []),
        (row(("a", 5), ("b", math.nan), ("c", 1)), None, [("a", "c")]),
        (row(("z", 5), ("a", 5), ("c", 1), ("d", 1)), None, [("z", "c")]),
        (row(("a", 5)), None, []),
        ([], None, []),
    ],
)
def test_scores_pair_the_best_with_the_worst(
    answers: list[ScoredAnswer], margin: float | None, expected: list[tuple[str, str]]
) -> None:
    assert pairs(score_pairs([answers], LAB, margin)) == expected
    assert pairs(score_pairs([answers[::-1]], LAB, margin)) == expected
