"""What a table of scores is said to mean, and that it is never said of too little or of an order."""

import dataclasses
import random
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from support.tables import CONTRASTS, LAB, column, noisy, shuffled, table

from backend.evaluation.contrasts import FEWEST, ScoreCell, ScoreTable
from backend.evaluation.verdict import Verdict, verdict
from backend.judge.rubric import Rubric, rubrics
from backend.judge.score import Status

OVERLAP = rubrics()["overlap"]


def test_every_number_of_a_contrast_is_scipys() -> None:
    of = noisy()
    found = verdict(of)
    assert [(one.variant, one.against) for one in found.contrasts] == list(CONTRASTS)
    for one in found.contrasts:
        ours, theirs = column(of, one.variant), column(of, one.against)
        known, gaps = stats.ttest_rel(ours, theirs), np.subtract(ours, theirs)
        assert one.difference.mean == pytest.approx(np.mean(gaps), rel=1e-9)
        assert one.difference.p == pytest.approx(known.pvalue, rel=1e-9)
        assert one.difference.low == pytest.approx(known.confidence_interval(0.95).low, rel=1e-9)
        assert one.difference.sd == pytest.approx(np.std(gaps, ddof=1), rel=1e-9)
        gaps = gaps.round(9)
        assert (one.wins, one.ties, one.losses) == (sum(gaps > 0), sum(gaps == 0), sum(gaps < 0))
        for name, secondary in one.criteria.items():
            known = stats.ttest_rel(column(of, one.variant, name), column(of, one.against, name))
            assert secondary.high == pytest.approx(known.confidence_interval(0.95).high, rel=1e-9)
    holms = multipletests([one.flip_p for one in found.contrasts], method="holm")[1]
    assert [one.holm_p for one in found.contrasts] == pytest.approx(list(holms), rel=1e-9)


def test_every_number_of_a_variant() -> None:
    of = noisy()
    for one in verdict(of).variants:
        mine = column(of, one.variant)
        known = stats.ttest_1samp(mine, 0).confidence_interval(0.95)
        assert (one.primary.mean, one.primary.low) == (pytest.approx(np.mean(mine)), pytest.approx(known.low, rel=1e-9))
        assert one.ceiling.count == mine.count(5.0)
        assert one.good.count == sum(value >= 4 for value in mine)
        assert one.criteria["completeness"].mean == pytest.approx(np.mean(column(of, one.variant, "completeness")))
        whole = [LAB.primary_of(c.values) for (_, name), c in of.cells.items() if name == one.variant and not c.cut]
        assert (one.uncut.mean, one.uncut.n, one.cut) == (pytest.approx(np.mean(whole)), len(whole), 20 - len(whole))


def test_a_clear_winner_is_the_first_thing_read() -> None:
    found = verdict(dataclasses.replace(noisy(), contrasts=(("qlora", "base"),)))
    gap = found.contrasts[0].difference
    assert found.sentence == (
        f"qlora is better than base by {gap.mean:.1f} ({gap.low:.1f} to {gap.high:.1f}) points (1-5), 20 rows."
    )
    assert {one.variant: one.status for one in found.variants} == {
        "base": "baseline", "lora": "not compared", "qlora": "better",
    }  # fmt: skip


def test_a_contrast_that_was_planned_the_other_way_round_says_the_same() -> None:
    there, back = (
        verdict(dataclasses.replace(noisy(), contrasts=(pair,))) for pair in (("qlora", "base"), ("base", "qlora"))
    )
    one, other = there.contrasts[0], back.contrasts[0]
    assert (one.decided, other.decided) == ("better", "worse")
    assert (one.flip_p, one.wins, one.difference.low) == (other.flip_p, other.losses, -(other.difference.high or 0))
    assert there.variants[2].status == back.variants[2].status == "better"
    assert back.sentence.startswith("base is worse than qlora by ")
    assert there.sentence.partition(" by ")[2] == back.sentence.partition(" by ")[2]


def test_no_clear_difference_says_how_many_rows_would_settle_it() -> None:
    found = verdict(dataclasses.replace(noisy(), contrasts=(("lora", "base"),)))
    one = found.contrasts[0]
    assert one.decided == "unclear" and one.rows_needed is not None and one.rows_needed > 20
    assert found.sentence.startswith("No clear difference between lora and base (")
    assert found.sentence.endswith("; 20 rows): about 110 rows would settle it.") and 100 < one.rows_needed <= 110
    assert found.variants[1].status == "no clear difference"


def test_an_interval_without_zero_that_the_corrected_test_does_not_bear_out_says_so() -> None:
    found = verdict(noisy(2))
    gap = found.contrasts[0].difference
    assert gap.low is not None and gap.low > 0 and (found.contrasts[0].holm_p or 0) > 0.05
    assert f"20 rows; corrected p {found.contrasts[0].holm_p:.2f}): about 33 rows would settle it." in found.sentence


def test_the_clear_ones_come_first_and_it_stays_short() -> None:
    found = verdict(noisy())
    first, second = found.sentence.split(". ", 1) if ". " in found.sentence else (found.sentence, "")
    assert "qlora is better than base by" in first and "qlora is better than lora by" in first
    assert second.startswith("No clear difference between lora and base")


@pytest.mark.parametrize("seed", range(6))
def test_order_changes_no_number(seed: int) -> None:
    of = noisy(seed, n=15 + seed)
    of = dataclasses.replace(of, rows={row: f"c{n // 2}" for n, row in enumerate(of.rows)})
    of = dataclasses.replace(of, cells={**of.cells, ("row 3", "lora"): ScoreCell("refused", {})})
    one, other = verdict(of), verdict(shuffled(of, seed + 1))
    by_name = lambda found: {each.variant: each for each in found.variants}
    by_pair = lambda found: {(each.variant, each.against): each for each in found.contrasts}
    assert by_name(one) == by_name(other)
    assert by_pair(one) == by_pair(other)
    same = ("rows", "complete", "clusters", "checks")
    assert one.model_dump(include=set(same)) == other.model_dump(include=set(same))
    assert len(one.notes) == len(other.notes)


def test_nothing_judged_yet() -> None:
    for empty in (table({}), table({"a": [], "b": []}), dataclasses.replace(noisy(), cells={})):
        found = verdict(empty)
        assert (found.sentence, found.rows, found.notes) == ("Nothing is judged yet.", 0, ())
        assert {one.decided for one in found.contrasts} <= {"too few rows"}


@pytest.mark.parametrize("n", range(1, 8))
def test_few_rows_decide_nothing(n: int) -> None:
    found = verdict(table({"a": [1.0] * n, "b": [5.0] * n}))
    one = found.contrasts[0]
    assert one.difference.mean == 4 and one.difference.n == n
    assert one.decided == ("too few rows" if n < FEWEST else "unclear" if n < 6 else "better")
    if n < FEWEST:
        assert found.sentence == (
            f"Not decided: b and a ({n} row{'s' if n > 1 else ''} with both scores, 5 are needed)."
        )
    assert found.variants[1].status == {"unclear": "no clear difference"}.get(one.decided, one.decided)


def test_all_rows_tied() -> None:
    found = verdict(table({"a": [3.0, 4.0] * 10, "b": [3.0, 4.0] * 10}))
    assert found.sentence == "No difference between b and a: all 20 rows tied."
    one = found.contrasts[0]
    assert (one.ties, one.flip_p, one.difference.low, one.difference.p, one.rows_needed) == (20, 1.0, None, None, None)
    assert any(note.startswith("All variants got the same values on every row") for note in found.notes)
    many = verdict(table({name: [3.0, 4.0] * 10 for name in "abc"}))
    assert many.sentence == "No difference between b and a; c and a; c and b: all 20 rows tied."


def test_all_fives() -> None:
    found = verdict(table({"a": [5.0] * 20, "b": [5.0] * 20}))
    assert "all 20 rows tied" in found.sentence
    assert sum("100% of its rows" in note for note in found.notes) == 2
    assert (found.checks.length, found.checks.halo, found.checks.alike) == (None, None, None)
    assert (found.variants[0].primary.mean, found.variants[0].primary.low) == (5.0, None)


def test_a_constant_shift_is_decided_by_the_sign_flips_alone() -> None:
    values = [1.0, 2.0, 3.0] * 7
    found = verdict(table({"a": values, "b": [value + 1 for value in values]}))
    one = found.contrasts[0]
    assert (one.difference.mean, one.difference.sd, one.difference.low, one.difference.p) == (1.0, 0.0, None, None)
    assert one.difference.why == "all 21 values are equal"
    assert (one.decided, one.rows_needed) == ("better", None)
    assert found.sentence == "b is better than a by 1 (throughout) points (1-5), 21 rows."


def test_copies_of_questions_widen_the_interval_and_are_told() -> None:
    draw = random.Random(4)
    ours, theirs = ([float(draw.randint(1, 5)) for _ in range(8)] * 3 for _ in range(2))
    asked = [f"question {n}" for n in range(8)] * 3
    alone, clustered = verdict(table({"a": theirs, "b": ours})), verdict(table({"a": theirs, "b": ours}, asked))
    width = lambda found: found.contrasts[0].difference.high - found.contrasts[0].difference.low
    assert width(clustered) > 1.5 * width(alone)
    assert (clustered.rows, clustered.clusters, clustered.contrasts[0].difference.clusters) == (24, 8, 8)
    assert any("24 rows ask 8 different things" in note for note in clustered.notes)
    assert clustered.variants[0].primary.se > alone.variants[0].primary.se
    four = verdict(table({"a": [1.0] * 20, "b": [5.0] * 20}, ["w", "x", "y", "z"] * 5))
    assert four.contrasts[0].decided == "too few rows"
    assert four.sentence == "Not decided: b and a (4 different questions, 5 are needed)."


def test_holm_makes_it_harder_to_be_clear() -> None:
    base = [3.0] * 8
    columns: dict[str, Sequence[float | Status | None]] = {"base": base, "b": [3.5, 4.0] * 3 + [4.0, 3.0]}
    assert verdict(table(columns)).contrasts[0].decided == "better"
    swing = [2.0, 4.0] * 4
    many = verdict(table({**columns, "c": swing, "d": swing[::-1]}))
    assert many.contrasts[0].flip_p == verdict(table(columns)).contrasts[0].flip_p
    assert (many.contrasts[0].holm_p or 0) == pytest.approx(6 * (many.contrasts[0].flip_p or 0))
    assert many.contrasts[0].decided == "unclear"


def test_contrasts_that_make_no_sense_are_left_out() -> None:
    pairs = (("lora", "base"), ("base", "lora"), ("lora", "lora"), ("lora", "unknown"), ("lora", "base"))
    assert len(verdict(dataclasses.replace(noisy(), contrasts=pairs)).contrasts) == 1
    strange = dataclasses.replace(noisy(), baselines={"lora": "unknown"})
    assert [one.status for one in verdict(strange).variants] == ["baseline", "not compared", "baseline"]


def test_without_a_planned_comparison_means_are_told() -> None:
    found = verdict(table({"a": [3.0, 4.0] * 10}))
    assert found.sentence == "a has 3.5 (3.3 to 3.7; 20 rows) points (1-5). No comparison was planned."


def test_a_ceiling_and_unequal_cutting_are_told() -> None:
    of = table({"a": [5.0] * 11 + [3.0] * 9, "b": [4.0, 3.0] * 10})
    cells = {key: dataclasses.replace(one, cut=key[1] == "b" and key[0] < "row 3") for key, one in of.cells.items()}
    found = verdict(dataclasses.replace(of, cells=cells))
    assert [note for note in found.notes if note.startswith("a has the highest value on 55% of its rows")]
    assert not [note for note in found.notes if note.startswith("b got the most")]
    assert [note for note in found.notes if "(a 0%, b 65%)" in note]


def test_one_opinion_written_three_times_is_called_a_halo() -> None:
    found = verdict(table({"a": [3.0, 4.0, 1.0, 5.0] * 5}))
    assert found.checks.halo == pytest.approx(1.0) and found.checks.alike == ("completeness", "correctness")
    assert any("Completeness and Correctness go together almost perfectly (r = 1.00)" in note for note in found.notes)
    assert not any("halo" in note for note in verdict(noisy()).notes)


def test_correlations_of_the_checks_are_scipys() -> None:
    of = noisy(3)
    checks = verdict(of).checks
    lengths, primary = [c.length for c in of.cells.values()], [LAB.primary_of(c.values) for c in of.cells.values()]
    assert checks.length == pytest.approx(stats.spearmanr(lengths, primary).statistic, rel=1e-9)
    each = {one.name: [c.values[one.name] for c in of.cells.values()] for one in LAB.criteria}
    assert checks.alike is not None
    assert checks.halo == pytest.approx(
        stats.pearsonr(each[checks.alike[0]], each[checks.alike[1]]).statistic, rel=1e-9
    )
    assert checks.halo == pytest.approx(max(np.corrcoef(list(each.values()))[np.triu_indices(3, 1)]), rel=1e-9)


def test_small_numbers_keep_their_digits() -> None:
    def share(n: int, name: str) -> ScoreCell:
        return ScoreCell(
            "ok", {"overlap": 0.3 + 0.01 * (n % 3) + (0.02 + 0.001 * (n % 2) if name == "b" else 0), "exact": 0}
        )

    rows = {str(n): str(n) for n in range(12)}
    cells = {(row, name): share(int(row), name) for row in rows for name in "ab"}
    found = verdict(ScoreTable(OVERLAP, rows, ("a", "b"), {"b": "a"}, (("b", "a"),), cells))
    assert found.sentence == (
        "b is better than a by 0.0205 (0.0202 to 0.0208) overlap with the reference (chrF, 0-1), 12 rows."
    )
    assert set(found.contrasts[0].criteria) == {"exact"}


def test_a_verdict_is_a_value_that_comes_back_as_it_was() -> None:
    for of in (noisy(), table({}), table({"a": [3.0], "b": ["refused"]})):
        found = verdict(of)
        text = found.model_dump_json()
        assert "NaN" not in text and "Infinity" not in text
        assert Verdict.model_validate_json(text) == found


def test_the_good_share_is_of_the_scale() -> None:
    wide = Rubric.model_validate(
        {"id": "x", "title": "x", "criteria": [{"name": "x", "title": "x", "about": "x", "low": 0, "high": 100}]}
    )
    rows = {str(n): str(n) for n in range(4)}
    cells = {
        (row, "a"): ScoreCell("ok", {"x": value}) for row, value in zip(rows, (74.9, 75.0, 100.0, 0.0), strict=True)
    }
    one = verdict(ScoreTable(wide, rows, ("a",), {}, (), cells)).variants[0]
    assert (one.good.count, one.ceiling.count) == (2, 1)


def test_an_interval_with_zero_in_it_is_not_clear_whatever_the_sign_flips_say() -> None:
    one = verdict(table({"base": [1.0] * 10, "tuned": [1.1] * 9 + [5.0]})).contrasts[0]
    assert one.holm_p == 2 / 1024 and one.difference.low is not None and one.difference.low < 0
    assert one.decided == "unclear"


def test_copies_of_questions_need_more_rows() -> None:
    ours, theirs = [3.0, 4.0, 2.0, 5.0, 3.0, 3.0] * 4, [3.0, 3.0, 3.0, 4.0, 3.0, 2.5] * 4
    alone = verdict(table({"a": theirs, "b": ours})).contrasts[0]
    copied = verdict(table({"a": theirs, "b": ours}, [f"question {n}" for n in range(6)] * 4)).contrasts[0]
    assert alone.rows_needed and copied.rows_needed and copied.rows_needed > 3 * alone.rows_needed


def test_a_mean_of_exactly_zero_is_settled_by_no_number_of_rows() -> None:
    found = verdict(table({"a": [3.0, 4.0] * 5, "b": [4.0, 3.0] * 5}))
    assert (
        found.sentence == "No clear difference between b and a (0.0, -0.8 to 0.8; 10 rows): on average they are level."
    )
    assert found.contrasts[0].rows_needed is None
    again = verdict(table({"a": [3.0, 4.0] * 5, "b": [4.0, 3.0] * 5, "c": [3.0, 4.0] * 5})).sentence
    assert "b and a (level on average); c and a (all 10 rows tied); c and b (level on average)" in again
