"""Intervals against a loop and against SciPy, and how often they hold the truth."""

import math

import numpy as np
import pytest

from benchmarks.verdicts import Case, share_of_verdicts
from dst_jax.errors import UserError
from dst_jax.statistics import bootstrap, difference, holm, paired_difference


def test_bootstrap_is_the_loop():
    values = np.random.default_rng(1).integers(-3, 4, 37) / 3
    found = bootstrap(values, resamples=200, seed=5)
    generator = np.random.default_rng(5)
    means = []
    for _ in range(200):
        drawn = [values[index] for index in generator.integers(0, 37, 37)]
        means.append(math.fsum(drawn) / 37)
    means.sort()
    low, high = 0.025 * 199, 0.975 * 199  # places among the sorted means, interpolated linearly
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(np.interp(low, range(200), means))
    assert found.high == pytest.approx(np.interp(high, range(200), means))


def test_intervals_cover_the_true_difference_as_often_as_they_say():
    # Two models that are right under each of 5 conditions with probabilities that an image's own
    # difficulty shifts: the conditions of an image are anything but independent.
    generator = np.random.default_rng(0)
    repetitions, images, conditions = 400, 150, 5
    held = 0
    for _ in range(repetitions):
        difficulty = generator.normal(0, 0.25, (1, images))
        ours = generator.random((conditions, images)) < np.clip(0.6 + difficulty, 0, 1)
        theirs = generator.random((conditions, images)) < np.clip(0.5 + difficulty, 0, 1)
        values = ours.mean(0) - theirs.mean(0)
        interval = bootstrap(values, resamples=200, seed=int(generator.integers(2**31)))
        held += interval.low <= TRUE_DIFFERENCE <= interval.high
    # Binomial: 0.95 +- 3 * sqrt(0.95 * 0.05 / 400) = 0.917 .. 0.983; percentile intervals of 150
    # images are narrow by about one percent.
    assert 0.91 < held / repetitions < 0.985


def _clipped_mean(mean, std):
    """E[clip(X, 0, 1)] of a normal X, by numerical integration."""
    x = np.linspace(mean - 10 * std, mean + 10 * std, 200_001)
    density = np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    return float(np.trapezoid(np.clip(x, 0, 1) * density, x))


TRUE_DIFFERENCE = _clipped_mean(0.6, 0.25) - _clipped_mean(0.5, 0.25)


def test_a_t_interval_by_hand():
    # Means 0.60 and 0.51; variances 0.0001 and 0.0004; error sqrt(0.0005 / 3) = 0.012910.
    found = difference([0.59, 0.60, 0.61], [0.49, 0.51, 0.53])
    assert found is not None
    assert found.mean == pytest.approx(0.09)
    # t of 2 degrees of freedom: 4.302653 for 95 %.
    assert found.high - found.mean == pytest.approx(4.302653 * 0.0129099, rel=1e-5)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    # P(|t| > x) = 1 - x / sqrt(2 + x^2) for 2 degrees of freedom, x = 0.09 / 0.01291 = 6.9714.
    assert found.p == pytest.approx(1 - 6.97137 / math.sqrt(2 + 6.97137**2), rel=1e-4)
    assert not found.paired
    wider = difference([0.59, 0.60, 0.61], [0.49, 0.51, 0.53], level=0.99)
    assert wider.high > found.high


def test_a_paired_t_interval_by_hand():
    # Differences 0.10, 0.09 and 0.11: mean 0.10, standard deviation 0.01, error 0.01 / sqrt(3).
    found = paired_difference([0.59, 0.60, 0.64], [0.49, 0.51, 0.53])
    assert found is not None
    assert found.paired
    assert found.mean == pytest.approx(0.10)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    # P(|t| > x) = 1 - x / sqrt(2 + x^2) for 2 degrees of freedom, x = 10 sqrt(3).
    assert found.p == pytest.approx(1 - math.sqrt(300 / 302), rel=1e-6)


def test_paired_on_students_own_data():
    """Hours of sleep gained with two drugs by ten patients (Student 1908, table of section IX)."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_difference(second, first)
    # What R prints for t.test(..., paired = TRUE) on its data set `sleep`.
    assert found.mean == pytest.approx(1.58)
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
def test_paired_is_scipys(seeds, level):
    from scipy import stats

    generator = np.random.default_rng(seeds)
    theirs = generator.normal(0.5, 0.02, seeds)
    ours = 0.9 * theirs + generator.normal(0.06, 0.01, seeds)
    found = paired_difference(ours.tolist(), theirs.tolist(), level)
    wanted = stats.ttest_rel(ours, theirs)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
    interval = wanted.confidence_interval(level)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.level == level


def test_pairs_that_are_alike_have_a_narrower_interval():
    ours, theirs = [0.52, 0.57, 0.61], [0.50, 0.54, 0.60]
    paired, welch = paired_difference(ours, theirs), difference(ours, theirs)
    assert paired.mean == pytest.approx(welch.mean)
    assert welch.low < paired.low < paired.high < welch.high
    assert paired.p < welch.p


def test_pairs_need_two_and_a_spread_of_their_differences():
    assert paired_difference([], []) is None
    assert paired_difference([0.6], [0.5]) is None
    # Each side has a spread, their differences have none but rounding.
    assert paired_difference([0.6, 0.7, 0.9], [0.5, 0.6, 0.8]) is None
    with pytest.raises(UserError, match="pairs: found 3 and 2 values; expected as many"):
        paired_difference([0.6, 0.7, 0.9], [0.5, 0.6])


@pytest.mark.parametrize(
    ("ours", "theirs"), [([0.6], [0.5, 0.5]), ([0.6, 0.7], [0.5]), ([0.6] * 3, [0.5] * 3), ([], [])]
)
def test_without_seeds_or_spread_there_is_no_statement(ours, theirs):
    assert difference(ours, theirs) is None


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1 and never falling.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("paired", "correlation"), [(False, 0.0), (False, 0.9), (True, 0.0), (True, 0.5), (True, 0.9)]
)
@pytest.mark.parametrize(
    ("seeds", "groups", "spread"), [(3, 1, 1), (5, 1, 4), (3, 8, 1), (5, 8, 4)]
)
def test_false_verdicts_are_as_rare_as_stated(seeds, groups, spread, paired, correlation):
    """`benchmarks.verdicts` has more repetitions and groups; here 3 standard errors are left."""
    case = Case(seeds, groups, 0.0, spread, correlation, paired)
    pages, _ = share_of_verdicts(1500, case)
    error = 3 * math.sqrt(0.05 * 0.95 / 1500)
    assert pages <= 0.05 + error
    if paired and groups == 1:  # exact, so not rarer either
        assert pages >= 0.05 - error


def test_an_effect_is_found():
    _, found = share_of_verdicts(300, Case(seeds=5, groups=1, effect=3.0))
    assert found > 0.9


def test_pairs_find_an_effect_that_welch_does_not():
    case = Case(seeds=3, groups=1, effect=2.0, correlation=0.9)
    _, welch = share_of_verdicts(300, case)
    _, paired = share_of_verdicts(300, case._replace(paired=True))
    assert welch < 0.3 < 0.8 < paired
