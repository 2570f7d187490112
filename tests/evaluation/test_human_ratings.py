"""What people say of the same answers: blind, in an order that tells nothing, and set beside what the judge said."""

import math
import random
from pathlib import Path

import pytest
from support.evaluations import brought, evaluated, lab
from support.tables import LAB, VARIANTS, noisy, table

from backend.core.errors import LabError
from backend.core.messages import Message
from backend.evaluation import human_ratings, records
from backend.evaluation.contrasts import ScoreTable
from backend.evaluation.human_ratings import ENOUGH, MOST, next_task
from backend.evaluation.records import Answer, Question, Rating
from backend.evaluation.request import JudgeRequest
from backend.lab import Lab
from backend.stats.paired import estimate

__all__ = ["lab"]  # the fixture
FIVE = ("base_1b", "base_3b", "1b_lora", "1b_qlora", "3b_qlora")
Rated = dict[tuple[str, str], Rating]


def questions(count: int) -> list[Question]:
    asked = [[Message(role="user", content=f"What is {n}?")] for n in range(count)]
    return [
        Question(id=f"row {n}", cluster=records.cluster(one), messages=one, reference=str(n))
        for n, one in enumerate(asked)
    ]


def answers(asked: list[Question], variants: tuple[str, ...] = FIVE) -> dict[tuple[str, str], Answer]:
    return {(one.id, name): Answer(row=one.id, variant=name, text="It is.") for one in asked for name in variants}


def rating(row: str, variant: str, value: float) -> Rating:
    return Rating(row=row, variant=variant, values={one.name: value for one in LAB.criteria})


def order(seed: str, count: int = 30, variants: tuple[str, ...] = FIVE) -> list[tuple[str, str]]:
    """What a person who rates everything gets to see."""
    asked, rated, found = questions(count), Rated(), list[tuple[str, str]]()
    told = answers(asked)
    while one := next_task(asked, told, rated, variants, seed):
        key = (one.question.id, one.answer.variant)
        assert (one.done, one.wanted) == (len(found), min(count, MOST) * len(variants))
        found.append(key)
        rated[key] = rating(*key, 3)
    return found


def test_the_order_is_by_chance_and_always_the_same() -> None:
    found = order("run-1")
    assert found == order("run-1") != order("run-2")
    assert len(set(found)) == len(found) == 150
    rows = [row for row, _ in found]
    assert all(len(set(rows[n : n + 5])) == 1 for n in range(0, 150, 5))  # the answers to a row follow each other
    assert rows[::5] != [one.id for one in questions(30)]


def test_the_order_does_not_tell_whose_an_answer_is() -> None:
    found = order("run-1", count=MOST)
    at = {name: [n % 5 for n, (_, variant) in enumerate(found) if variant == name] for name in FIVE}
    assert all(set(places) == set(range(5)) and max(map(places.count, places)) < 20 for places in at.values())
    turned = [order(f"run-{n}", 3, FIVE)[0][1] for n in range(60)]
    assert set(turned) == set(FIVE)


def test_no_more_rows_are_shown_than_anybody_should_be_asked_about() -> None:
    assert len({row for row, _ in order("run-1", count=MOST + 30, variants=FIVE[:1])}) == MOST


def test_answers_that_failed_or_are_missing_are_not_shown() -> None:
    asked = questions(3)
    told = answers(asked, ("a", "b"))
    told["row 0", "a"] = Answer(row="row 0", variant="a", error="It did not run.")
    del told["row 1", "b"]
    rated, seen = Rated(), set[tuple[str, str]]()
    while one := next_task(asked, told, rated, ("a", "b"), "x"):
        key = (one.question.id, one.answer.variant)
        seen.add(key)
        rated[key] = rating(*key, 1)
    assert seen == {("row 0", "b"), ("row 1", "a"), ("row 2", "a"), ("row 2", "b")}
    assert next_task([], {}, {}, ("a",), "x") is None


def rated_like(of: ScoreTable, count: int, off: int = 0) -> Rated:
    """Ratings of the first rows, each `off` points from what the judge gave, rounded."""
    found = Rated()
    for row in list(of.rows)[:count]:
        for name in of.variants:
            value = round(LAB.primary_of(of.cells[row, name].values)) + off
            found[row, name] = rating(row, name, min(5, max(1, value)))
    return found


def test_people_who_agree_and_people_who_do_not() -> None:
    columns = {"one": [1.0, 2, 3, 4, 5] * 4, "two": [5.0, 4, 3, 2, 1] * 4}
    of = table(columns)
    same = human_ratings.human_agreement(of, rated_like(of, 20))
    assert same.agreement and (same.agreement.n, same.agreement.exact, same.agreement.within_one) == (40, 1, 1)
    assert same.agreement.kappa == pytest.approx(1) and same.rank == pytest.approx(1) and same.rated == 40
    turned = {key: rating(*key, 6 - one.values["correctness"]) for key, one in rated_like(of, 20).items()}
    apart = human_ratings.human_agreement(of, turned)
    assert apart.agreement and apart.agreement.kappa == pytest.approx(-1) and apart.rank == pytest.approx(-1)
    assert apart.agreement.exact == pytest.approx(0.2) and apart.agreement.within_one == pytest.approx(0.2)
    near = human_ratings.human_agreement(
        of, {key: rating(*key, min(5, v.values["correctness"] + 1)) for key, v in turned.items()}
    )
    assert near.agreement and near.agreement.kappa and -1 < near.agreement.kappa < 0


def test_kappa_is_the_quadratic_weighted_one_of_the_books() -> None:
    draw = random.Random(3)
    judge = [float(draw.randint(1, 5)) for _ in range(60)]
    human = [min(5.0, max(1.0, value + draw.choice([-1, 0, 0, 1]))) for value in judge]
    of = table({"one": judge})
    got = human_ratings.human_agreement(
        of, {(f"row {n}", "one"): rating(f"row {n}", "one", value) for n, value in enumerate(human)}
    )
    pairs = [(a - b) ** 2 for a, b in zip(human, judge, strict=True)]
    crossed = [(a - b) ** 2 for a in human for b in judge]
    expected = 1 - (sum(pairs) / 60) / (sum(crossed) / 3600)
    assert got.agreement and got.agreement.kappa == pytest.approx(expected) and 0.5 < expected < 1


def test_a_mean_is_corrected_from_enough_ratings_on() -> None:
    of = noisy(n=100)
    few = human_ratings.human_agreement(of, rated_like(of, ENOUGH - 1, off=-1))
    assert few.means == {} and few.missing == dict.fromkeys(VARIANTS, 1)
    enough = human_ratings.human_agreement(of, rated_like(of, ENOUGH, off=-1))
    assert set(enough.means) == set(VARIANTS) and enough.missing == {}
    for name in VARIANTS:
        got = [LAB.primary_of(of.cells[row, name].values) for row in of.rows]
        human = [one.values["correctness"] for (_, who), one in rated_like(of, ENOUGH, off=-1).items() if who == name]
        gaps = [mine - judged for mine, judged in zip(human, got, strict=False)]
        mean = enough.means[name]
        assert mean.mean == pytest.approx(math.fsum(got) / 100 + math.fsum(gaps) / ENOUGH)
        raw = estimate(got)
        assert mean.se and raw.se and mean.se > raw.se and raw.mean and mean.mean and mean.mean < raw.mean - 0.5


def test_ratings_of_what_the_judge_did_not_score_count_for_nothing() -> None:
    of = table({"one": [3.0, "bad_json", None], "two": [4.0, 4, 4]})
    told = {(row, name): rating(row, name, 3) for row in of.rows for name in of.variants}
    told["row 9", "gone"] = rating("row 9", "gone", 3)
    found = human_ratings.human_agreement(of, told)
    assert found.agreement and found.agreement.n == 4 and found.rated == 7
    assert found.missing == {"one": ENOUGH - 1, "two": ENOUGH - 3}
    assert human_ratings.human_agreement(of, {}).agreement is None


def test_a_person_rates_on_the_scale_and_blind(lab: Lab, tmp_path: Path) -> None:
    columns = {"one": [f"a {n}" for n in range(5)], "two": [f"b {n}" for n in range(5)]}
    run = evaluated(lab, brought(lab, JudgeRequest(), columns))
    shown = lab.evaluations.next_to_rate(run.id)
    assert shown and shown == lab.evaluations.next_to_rate(run.id) and (shown.done, shown.wanted) == (0, 10)
    good = {one.name: 4.0 for one in LAB.criteria}
    row, variant = shown.question.id, shown.answer.variant
    for wrong in (0, 6, 2.5, math.nan, math.inf, -math.inf):
        with pytest.raises(LabError, match="Correctness is not chosen yet. Choose 1 to 5"):
            lab.evaluations.rate(run.id, row, variant, good | {"correctness": wrong})
    with pytest.raises(LabError, match="is not chosen yet"):
        lab.evaluations.rate(run.id, row, variant, {"correctness": 4})
    with pytest.raises(LabError, match="not there any more"):
        lab.evaluations.rate(run.id, row, "nobody", good)
    with pytest.raises(LabError, match="no longer exists"):
        lab.evaluations.rate("../" + run.id, row, variant, good)
    assert not (run.folder / records.RATINGS).exists()

    lab.evaluations.rate(run.id, row, variant, good | {"more": 9})
    lab.evaluations.rate(run.id, row, variant, good | {"correctness": 5})  # thought better of it
    after = lab.evaluations.next_to_rate(run.id)
    assert after and after.done == 1 and (after.question.id, after.answer.variant) != (row, variant)
    found = lab.evaluations.result(run.id)
    assert found.ratings[row, variant].values == good | {"correctness": 5} and len(found.ratings) == 1
    assert found.people.rated == 1 and found.people.agreement is None  # a rule's scale is another one
