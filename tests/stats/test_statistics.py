"""The numbers under a verdict, held against SciPy and statsmodels, and what they do where there is no number."""

import math
import random
from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from backend.stats.agreement import agreement, corrected, pearson, spearman
from backend.stats.paired import (
    DRAWS,
    detectable_effect,
    differences,
    estimate,
    holm,
    normal_quantile,
    rows_needed,
    sign_flip,
    t_p,
    t_quantile,
    wilson,
)

CLOSE = {"rel": 1e-9, "abs": 1e-12}


def scores(seed: int, n: int, high: int = 5) -> list[float]:
    """Means of three criteria, as a judge gives them."""
    draw = random.Random(seed)
    return [sum(draw.randint(1, high) for _ in range(3)) / 3 for _ in range(n)]


@pytest.mark.parametrize("df", [0.5, 1, 2, 3, 4.5, 9, 19, 39, 40, 41, 99, 999, 10_000, 1_000_000])
def test_students_t_is_scipys(df: float) -> None:
    for t in (-30.0, -2.1, -0.4, 0.0, 1e-3, 0.1, 0.7, 1.0, 1.5, 2.0, 3.0, 6.0, 40.0):
        assert t_p(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-9, abs=1e-14)
    for p in (1e-6, 0.01, 0.025, 0.3, 0.5, 0.51, 0.9, 0.975, 0.999, 1 - 1e-9):
        assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9, abs=1e-12)


def test_the_ends_of_the_distribution() -> None:
    assert t_p(1e200, 3) == 0 and t_p(math.inf, 3) == 0 and t_p(0, 3) == 1
    assert normal_quantile(0.975) == pytest.approx(stats.norm.ppf(0.975), **CLOSE)
    for p in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="a probability must be"):
            t_quantile(p, 5)
        with pytest.raises(ValueError, match="a probability must be"):
            normal_quantile(p)
    for df in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="degrees of freedom"):
            t_p(1, df)


@pytest.mark.parametrize("n", [2, 3, 5, 20, 100, 1000])
@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5])
def test_a_paired_difference_is_scipys(n: int, seed: int) -> None:
    ours, theirs = scores(seed, n), scores(seed + 100, n, high=4)
    found, known = estimate(differences(ours, theirs)), stats.ttest_rel(ours, theirs)
    interval = known.confidence_interval(0.95)
    assert found.p == pytest.approx(known.pvalue, **CLOSE)
    assert (found.low, found.high) == (pytest.approx(interval.low, **CLOSE), pytest.approx(interval.high, **CLOSE))
    alone, known = estimate(ours), stats.ttest_1samp(ours, 0)
    assert (alone.p, alone.sd) == (pytest.approx(known.pvalue, **CLOSE), pytest.approx(np.std(ours, ddof=1), **CLOSE))


@pytest.mark.parametrize("seed", range(8))
def test_clusters_are_statsmodels(seed: int) -> None:
    draw = random.Random(seed)
    n = draw.choice([6, 20, 90])
    values, names = scores(seed, n), [f"c{draw.randrange(2 + n // 3)}" for _ in range(n)]
    codes = np.unique(names, return_inverse=True)[1]
    known = OLS(values, np.ones(n)).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    found = estimate(values, names)
    assert (found.mean, found.se) == (pytest.approx(known.params[0], **CLOSE), pytest.approx(known.bse[0], **CLOSE))
    assert (found.low, found.high) == tuple(pytest.approx(bound, **CLOSE) for bound in known.conf_int()[0])
    assert found.p == pytest.approx(known.pvalues[0], **CLOSE)
    assert found.clusters == len(set(names))


def test_rows_that_are_clusters_of_their_own_change_nothing() -> None:
    values = scores(3, 20)
    assert estimate(values, [f"row {n}" for n in range(20)]) == estimate(values)


def test_copies_of_rows_widen_the_interval_and_the_test_back_to_what_the_rows_are_worth() -> None:
    values = [value - 2.5 for value in scores(1, 10)]
    names = list(range(10)) * 4
    once, counted, clustered = estimate(values), estimate(values * 4), estimate(values * 4, names)
    assert counted.se is not None and clustered.se is not None and clustered.se > 1.8 * counted.se
    assert (clustered.low, clustered.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert sign_flip(values * 4, names) == sign_flip(values)


@pytest.mark.parametrize("n", [2, 3, 6, 12])
@pytest.mark.parametrize("seed", range(4))
def test_sign_flips_of_few_rows_are_scipys_exact_ones(n: int, seed: int) -> None:
    values = differences(scores(seed, n), scores(seed + 50, n))
    known = stats.permutation_test(
        (np.array(values),), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(values) == pytest.approx(known.pvalue, **CLOSE)


def test_ties_count_as_being_as_far() -> None:
    thirds = differences([4 / 3, 5 / 3, 7 / 3, 2.0], [1.0, 1.0, 2.0, 7 / 3])
    totals = [sum(s * k for s, k in zip(signs, (1, 2, 1, 1), strict=True)) for signs in product((-1, 1), repeat=4)]
    assert sign_flip(thirds) == sum(abs(total) >= 3 for total in totals) / 16


def test_rows_that_tie_leave_it_exact() -> None:
    values = [1.0, 1.0, -1.0, 2.0, 1.0, 1.0]
    assert sign_flip(values + [0.0] * 500) == sign_flip(values)


def test_many_rows_are_drawn_near_the_exact_p_and_always_alike() -> None:
    values = differences(scores(5, 18), scores(6, 18, high=4))
    totals = np.array(list(product((-1.0, 1.0), repeat=18))) @ np.array(values)
    exact = float(np.mean(np.abs(totals) >= abs(sum(values)) - 1e-9))
    found = sign_flip(values)
    assert found == sign_flip(values)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / DRAWS) + 2 / DRAWS)
    assert found != exact


def test_a_drawn_p_is_never_zero() -> None:
    assert sign_flip([1.0] * 60) == 1 / (DRAWS + 1)
    assert 0 < (sign_flip([0.5] * 3000) or 0) < 0.001


def test_clusters_flip_together() -> None:
    values, names = [1.0, 2.0, -0.5, 1.5, 3.0, 0.5], ["a", "a", "b", "b", "c", "d"]
    assert sign_flip(values, names) == sign_flip([3.0, 1.0, 3.0, 0.5])
    assert sign_flip(values, ["all"] * 6) == 1.0


@pytest.mark.parametrize("n", [2, 7, 12, 13, 40, 200])
def test_neither_order_nor_direction_changes_a_digit(n: int) -> None:
    values = differences(scores(n, n), scores(n + 1, n))
    names = [f"c{place % (n // 2 + 1)}" for place in range(n)]
    first, flips = estimate(values, names), (sign_flip(values), sign_flip(values, names))
    others = scores(n + 2, n)
    for seed in range(5):
        order = random.Random(seed).sample(range(n), n)
        mixed, clusters = [values[i] for i in order], [names[i] for i in order]
        assert estimate(mixed, clusters) == first
        assert (sign_flip(mixed), sign_flip(mixed, clusters)) == flips
        assert (sign_flip([-value for value in mixed]), sign_flip([-v for v in mixed], clusters)) == flips
        assert pearson(mixed, [others[i] for i in order]) == pearson(values, others)
        assert spearman(mixed, [others[i] for i in order]) == spearman(values, others)
        assert agreement(mixed, [others[i] for i in order]) == agreement(values, others)


@pytest.mark.parametrize(
    ("values", "clusters", "why"),
    [
        ([], None, "no values"),
        ([3.0], None, "only one value"),
        ([4.0, 4.0], None, "all 2 values are equal"),
        ([0.0] * 20, None, "all 20 values are equal"),
        (differences([4 / 3 + n for n in range(6)], [1 / 3 + n for n in range(6)]), None, "all 6 values are equal"),
        ([1.0, 2.0], ["a", "a"], "all rows have the same question"),
        ([1.0, 2.0, 2.0, 1.0], ["a", "a", "b", "b"], "all clusters have the same mean"),
    ],
)
def test_where_there_is_no_interval_there_is_a_word_for_it(
    values: list[float], clusters: list[str] | None, why: str
) -> None:
    found = estimate(values, clusters)
    assert (found.se, found.low, found.high, found.p, found.why) == (None, None, None, None, why)
    assert found.mean == (pytest.approx(sum(values) / len(values)) if values else None)


def test_what_only_rounding_tells_apart_is_a_tie() -> None:
    assert differences([0.1 + 0.2, 13 / 3 - 10 / 3], [0.3, 1.0]) == [0.0, 0.0]
    assert differences([1.5], [1.0]) == [0.5]


def test_sign_flips_of_nothing() -> None:
    assert (sign_flip([]), sign_flip([2.0]), sign_flip([0.0] * 20), sign_flip([1.0] * 10)) == (
        None,
        None,
        1.0,
        2 / 1024,
    )


def test_lists_that_do_not_pair_are_errors() -> None:
    for call in (
        lambda: differences([1.0], []),
        lambda: estimate([1.0, 2.0], ["a"]),
        lambda: sign_flip([1.0, 2.0], ["a"]),
        lambda: pearson([1.0], []),
        lambda: agreement([1.0], []),
        lambda: corrected([1.0], [1.0], []),
    ):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize(
    "ps", [[0.04], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 1.0], [0.02, 0.02, 0.02], [1e-4, 0.9], [0.0, 0.3]]
)
def test_holm_is_statsmodels(ps: list[float]) -> None:
    known = multipletests(ps, method="holm")[1]
    for order in (range(len(ps)), reversed(range(len(ps)))):
        found = holm({f"p{i}": ps[i] for i in order})
        assert [found[f"p{i}"] for i in range(len(ps))] == pytest.approx(list(known), **CLOSE)
    assert holm({}) == {}


@pytest.mark.parametrize(("count", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (3, 1000)])
def test_wilson_is_statsmodels(count: int, n: int) -> None:
    found, known = wilson(count, n), proportion_confint(count, n, method="wilson")
    assert (found.share, found.low, found.high) == (count / n, *(pytest.approx(bound, **CLOSE) for bound in known))


def test_a_share_of_nothing_is_none() -> None:
    assert (wilson(0, 0).share, wilson(0, 0).low, wilson(0, 0).high) == (None, None, None)


@pytest.mark.parametrize("n", [2, 3, 20, 200])
@pytest.mark.parametrize("seed", range(4))
def test_correlations_are_scipys(n: int, seed: int) -> None:
    xs, ys = scores(seed, n), [x + y for x, y in zip(scores(seed, n), scores(seed + 9, n), strict=True)]
    if len(set(xs)) < 2 or len(set(ys)) < 2:
        assert pearson(xs, ys) is None
        return
    assert pearson(xs, ys) == pytest.approx(stats.pearsonr(xs, ys).statistic, **CLOSE)
    assert spearman(xs, ys) == pytest.approx(stats.spearmanr(xs, ys).statistic, **CLOSE)


@pytest.mark.parametrize("xs", [[], [1.0], [2.0, 2.0, 2.0], [1 / 3] * 7])
def test_what_does_not_vary_correlates_with_nothing(xs: list[float]) -> None:
    ys = [float(n) for n in range(len(xs))]
    assert (pearson(xs, ys), pearson(ys, xs), spearman(xs, ys)) == (None, None, None)


def test_rows_needed_by_the_formula() -> None:
    assert rows_needed(1.0, 0.5) == math.ceil((2.8 / 0.5) ** 2) == rows_needed(1.0, -0.5)
    assert (rows_needed(1.0, 0.0), rows_needed(0.0, 1.0), rows_needed(1.0, 1e-300)) == (None, None, None)
    assert rows_needed(1.28, detectable_effect(1.28, 20)) in (20, 21)


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_statsmodels(seed: int) -> None:
    draw = random.Random(seed)
    one = [draw.randint(1, 5) for _ in range(60)]
    other = [min(5, max(1, value + draw.choice([-2, -1, 0, 0, 0, 1]))) for value in one]
    counts = np.zeros((5, 5))
    for a, b in zip(one, other, strict=True):
        counts[a - 1, b - 1] += 1
    found = agreement(one, other)
    assert found.kappa == pytest.approx(cohens_kappa(counts, wt="quadratic").kappa, **CLOSE)
    assert found.exact == np.trace(counts) / 60
    assert found.within_one == np.mean(np.abs(np.subtract(one, other)) <= 1)


def test_agreement_of_means_allows_for_rounding_alone() -> None:
    found = agreement([4 / 3, 4.0, 3.0], [1 / 3 + 2e-16, 5.4, 3.0 + 1e-15])
    assert (found.exact, found.within_one) == (1 / 3, 2 / 3)


def test_agreement_without_spread() -> None:
    assert agreement([], []).model_dump() == {"n": 0, "exact": None, "within_one": None, "kappa": None}
    assert (agreement([4, 4], [4, 4]).exact, agreement([4, 4], [4, 4]).kappa) == (1.0, None)
    assert agreement([4, 4], [5, 5]).kappa == 0.0


def test_a_judge_is_corrected_by_the_formula() -> None:
    judge, human = scores(1, 200), scores(2, 40)
    same = judge[:40]
    found, off = corrected(judge, human, same), np.subtract(human, same)
    se = math.sqrt(np.var(judge, ddof=1) / 200 + np.var(off, ddof=1) / 40)
    assert (found.mean, found.se) == (pytest.approx(np.mean(judge) + off.mean()), pytest.approx(se))
    half = stats.t.ppf(0.975, 39) * se
    assert (found.low, found.high) == (pytest.approx(found.mean - half), pytest.approx(found.mean + half))


@pytest.mark.parametrize(
    ("judge", "human", "same", "mean", "why"),
    [
        ([], [], [], None, "no answer was scored by both"),
        ([3.0, 4.0], [], [], None, "no answer was scored by both"),
        ([3.0, 4.0], [3.0], [3.0], 3.5, "only one value"),
        ([4.0] * 9, [3.0, 3.0], [4.0, 4.0], 3.0, "all values are equal"),
    ],
)
def test_a_correction_without_data(
    judge: list[float], human: list[float], same: list[float], mean: float | None, why: str
) -> None:
    found = corrected(judge, human, same)
    assert (found.mean, found.low, found.high, found.why) == (mean, None, None, why)
