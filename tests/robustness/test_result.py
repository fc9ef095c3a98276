"""Means, mCE only where it is defined, gains, paired by image or seed, tables and figures."""

import re

import numpy as np
import pytest
import synthetic_results as tables
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dst_jax import robustness
from dst_jax.data import benchmarks
from dst_jax.errors import UserError
from dst_jax.robustness import metrics
from dst_jax.robustness.records import Condition

FOUR = {
    Condition("gaussian_noise", 1): 0.5,
    Condition("gaussian_noise", 2): 0.3,
    Condition("shot_noise", 1): 0.4,
    Condition("fog", 1): 0.8,
}
ALEXNET = {c: 1 - metrics.ALEXNET_ERRORS[c.corruption] for c in tables.GRID}


def test_means_by_hand():
    result = tables.of_accuracies(FOUR)
    assert result.clean_accuracy == 0.75
    assert result.robust_accuracy == pytest.approx((0.5 + 0.3 + 0.4 + 0.8) / 4)
    assert result.by_corruption == pytest.approx(
        {"gaussian_noise": 0.4, "shot_noise": 0.4, "fog": 0.8}
    )
    # A mean over conditions: three of noise.
    assert result.by_category == pytest.approx({"noise": 0.4, "weather": 0.8})
    assert result.by_severity == pytest.approx({1: 1.7 / 3, 2: 0.3})
    assert (result.severities, result.n) == ((1, 2), 1000)
    assert result.mean_ece == pytest.approx(0.1)


def test_the_four_categories_hold_the_15():
    result = tables.of_accuracies(dict.fromkeys(tables.GRID, 0.5))
    assert list(result.by_category) == ["noise", "blur", "weather", "digital"]
    counts = {}
    for name in result.corruptions:
        group = benchmarks.category(name)
        counts[group] = counts.get(group, 0) + 1
    assert counts == {"noise": 3, "blur": 4, "weather": 4, "digital": 4}
    assert benchmarks.category("h265_crf") == "3d"  # from files only
    assert benchmarks.category("saturate") == "extra"


def test_mce_of_alexnet_is_100_and_of_a_perfect_model_0():
    alexnet = tables.of_accuracies(ALEXNET, clean=1 - metrics.ALEXNET_CLEAN_ERROR)
    assert alexnet.mce == pytest.approx(100, abs=1e-9)
    assert alexnet.relative_mce == pytest.approx(100, abs=1e-9)
    assert tables.of_accuracies(dict.fromkeys(tables.GRID, 1.0)).mce == 0
    assert alexnet.why_no_mce == ""


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (tables.of_accuracies(ALEXNET, dataset="cifar10"), "the dataset is cifar10"),
        (tables.of_accuracies(ALEXNET, dataset=""), "the dataset is not named"),
        (
            tables.of_accuracies(ALEXNET, setting=("c", "rendered", "inception299", 0)),
            "the constants are inception299",
        ),
        (
            tables.of_accuracies({c: a for c, a in ALEXNET.items() if c.corruption != "frost"}),
            "not scored at all five severities: frost",
        ),
        (
            tables.of_accuracies({c: a for c, a in ALEXNET.items() if c.severity < 5}),
            "not scored at all five severities: gaussian_noise, shot",
        ),
    ],
)
def test_elsewhere_there_is_no_mce_and_a_reason(result, reason):
    assert result.mce is None
    assert result.relative_mce is None
    assert reason in result.why_no_mce
    assert reason in result.table()
    assert result.summary()["mce"] is None
    assert reason in result.summary()["why_no_mce"]


def test_validation_corruptions_never_count_in_mce():
    more = {Condition("saturate", severity): 0.0 for severity in range(1, 6)}
    assert tables.of_accuracies({**ALEXNET, **more}).mce == pytest.approx(100, abs=1e-9)


def test_relative_gain_by_hand():
    dense = tables.of_accuracies(FOUR, clean=0.8)
    sparse = tables.of_accuracies({c: a + 0.1 for c, a in FOUR.items()}, clean=0.76)
    assert sparse.relative_gain(dense) == pytest.approx(0.1 / 0.5)
    gains = sparse.relative_gains(dense)
    assert gains[Condition("gaussian_noise", 2)] == pytest.approx(1 / 3)
    assert gains[robustness.CLEAN] == pytest.approx(-0.05)
    nothing = tables.of_accuracies(dict.fromkeys(FOUR, 0.0))
    assert sparse.relative_gain(nothing) is None


def random_hits(seed, n=60, right=0.5):
    random = np.random.default_rng(seed)
    return {c: random.random(n) < right for c in FOUR}


def test_difference_resamples_images_with_all_their_conditions():
    ours, theirs = random_hits(0, right=0.7), random_hits(1)
    found = tables.of_hits(ours).difference(tables.of_hits(theirs), resamples=100, seed=3)
    generator = np.random.default_rng(3)
    differences = []
    for _ in range(100):
        drawn = generator.integers(0, 60, 60)
        robust = [
            np.mean([np.mean([hits[c][i] for i in drawn]) for c in FOUR]) for hits in (ours, theirs)
        ]
        differences.append(robust[0] - robust[1])
    low, high = np.quantile(differences, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    means = [np.mean([h.mean() for h in hits.values()]) for hits in (ours, theirs)]
    assert found.estimate == pytest.approx(means[0] - means[1])


def test_pairing_narrows_the_interval_of_models_that_fail_alike():
    hits = random_hits(0, n=400)
    nearly = {c: h ^ (np.arange(400) < 4) for c, h in hits.items()}
    paired = tables.of_hits(hits).difference(tables.of_hits(nearly))
    alone = tables.of_hits(hits).interval()
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 70), st.integers(0, 10_000))
def test_the_record_gives_the_accuracies_back(n, seed):
    result = tables.of_hits(random_hits(seed, n))
    assert result.share_correct().mean() == pytest.approx(result.robust_accuracy)
    for condition, hits in random_hits(seed, n).items():
        assert np.array_equal(result.hits[condition].unpack(n), hits)


def test_other_images_or_conditions_are_refused():
    one = tables.of_hits(random_hits(0))
    with pytest.raises(UserError, match="other images"):
        one.difference(tables.of_hits(random_hits(0), labels=np.ones(60, np.int32)))
    with pytest.raises(UserError, match="number of images: found 59; expected 60"):
        one.difference(tables.of_hits(random_hits(0, 59)))
    with pytest.raises(UserError, match=r"conditions: found other conditions"):
        one.relative_gain(tables.of_hits(dict(list(random_hits(0).items())[:2])))
    with pytest.raises(UserError, match="seed: found 1; expected 0"):
        one.difference(tables.of_hits(random_hits(0), setting=(*tables.SETTING[:3], 1)))
    with pytest.raises(UserError, match="no record of gaussian_noise 1"):
        tables.of_accuracies(FOUR).interval()


def test_over_seeds_is_mean_and_sample_standard_deviation():
    values = (0.50, 0.53, 0.62)  # mean 0.55, variance (25 + 4 + 49) / 2 = 39 in units of 0.01^2
    results = [tables.of_accuracies(dict.fromkeys(tables.GRID, v)) for v in values]
    found = robustness.over_seeds(results)
    for name in ("robust_accuracy", "by_category/noise", "by_corruption/fog", "by_severity/3"):
        assert found[name].mean == pytest.approx(0.55)
        assert found[name].std == pytest.approx(0.39**0.5 / 10)
        assert found[name].n == 3
    assert found["mce"].std > 0
    assert robustness.over_seeds(results[:1])["mce"].std is None
    assert "mce" not in robustness.over_seeds([tables.of_accuracies(FOUR)])
    with pytest.raises(UserError, match="no result"):
        robustness.over_seeds([])
    with pytest.raises(UserError, match="dataset"):
        robustness.over_seeds([results[0], tables.of_accuracies(ALEXNET, dataset="cifar10")])


def test_over_seeds_takes_results_of_several_corruption_seeds():
    """One model under three draws of the corruptions: 0.50, 0.53 and 0.62, as above."""

    def of(value, seed):
        setting = (*tables.SETTING[:3], seed)
        return tables.of_accuracies(dict.fromkeys(tables.GRID, value), setting=setting)

    found = robustness.over_seeds([of(0.50, 0), of(0.53, 1), of(0.62, 2)])
    assert found["robust_accuracy"].mean == pytest.approx(0.55)
    assert found["robust_accuracy"].std == pytest.approx(0.39**0.5 / 10)
    assert found["clean_accuracy"].std == 0
    other = ("c", "rendered", *of(0.5, 0).setting[2:4])
    with pytest.raises(UserError, match="other result: s"):
        robustness.over_seeds([of(0.5, 0), tables.of_accuracies(FOUR, setting=other)])
    hits = random_hits(0)
    twice = tables.of_hits(hits)
    with pytest.raises(UserError, match="each training once"):
        robustness.over_seeds([twice, tables.of_hits(hits)])


def test_a_result_is_of_one_setting_with_each_condition_once():
    rows = tables.of_accuracies(FOUR).scores
    for wrong in (
        [*rows, rows[0]],
        [*rows[:-1], rows[-1]._replace(seed=1)],
        [*rows[:-1], rows[-1]._replace(n=1)],
        [],
    ):
        with pytest.raises(ValueError, match="scores: found"):
            robustness.Result("", tuple(wrong))


def test_table_and_figures_show_the_numbers():
    result = tables.of_hits({**random_hits(0), **random_hits(1)})
    text = result.table()
    assert f"robust {100 * result.robust_accuracy:.1f} % (95 % interval over images" in text
    assert all(name in text for name in result.corruptions)
    dense = tables.of_accuracies(FOUR)
    bars = dense.plot_corruptions(result, labels=["dense", "sparse"]).axes[0]
    heights = [patch.get_height() for patch in bars.patches]
    assert heights[:4] == pytest.approx([75, 40, 40, 80])
    assert len(heights) == 8
    lines = dense.plot_severities().axes[0].lines
    assert list(lines[0].get_xdata()) == [0, 1, 2]
    assert list(lines[0].get_ydata()) == pytest.approx([75, 170 / 3, 30])


def results(*accuracies):
    return [tables.of_accuracies(dict.fromkeys(tables.GRID, value)) for value in accuracies]


OURS, THEIRS = (0.52, 0.57, 0.61), (0.50, 0.54, 0.60)  # of the seeds 0, 1 and 2


def test_a_gain_is_paired_where_both_sides_have_the_same_seeds():
    found = robustness.gain(results(*OURS), results(*THEIRS), seeds=([0, 1, 2], [0, 1, 2]))
    assert found.over_seeds.paired
    wanted = stats.ttest_rel(OURS, THEIRS)
    interval = wanted.confidence_interval(0.95)
    assert found.over_seeds.p == pytest.approx(wanted.pvalue)
    assert found.over_seeds.low == pytest.approx(interval.low)
    assert found.over_seeds.high == pytest.approx(interval.high)
    assert found.absolute == pytest.approx(0.02) == pytest.approx(found.over_seeds.mean)
    # Their order is of no matter, as long as each result has its own seed.
    mixed = results(THEIRS[2], THEIRS[0], THEIRS[1])
    again = robustness.gain(results(*OURS), mixed, seeds=([0, 1, 2], np.array([2, 0, 1])))
    assert again.over_seeds == pytest.approx(found.over_seeds)
    wrong = robustness.gain(results(*OURS), mixed, seeds=([0, 1, 2], [0, 1, 2]))
    assert wrong.over_seeds.p != pytest.approx(found.over_seeds.p, rel=0.1)


@pytest.mark.parametrize(
    "seeds",
    [
        None,
        ([0, 1, 2], [0, 1, 3]),  # some are the same
        ([0, 1, 2], [3, 4, 5]),
        ([0, 1, None], [0, 1, 2]),
        ([0, 1, None], [0, 1, None]),
        ([None] * 3, [None] * 3),
    ],
)
def test_a_gain_is_not_paired_elsewhere(seeds):
    found = robustness.gain(results(*OURS), results(*THEIRS), seeds=seeds)
    assert found.over_seeds == robustness.gain(results(*OURS), results(*THEIRS)).over_seeds
    assert not found.over_seeds.paired
    # Welch's statistic; its degrees of freedom are 2, not those of Satterthwaite that SciPy takes.
    t = stats.ttest_ind(OURS, THEIRS, equal_var=False).statistic
    assert found.over_seeds.p == pytest.approx(2 * stats.t.sf(t, 2))


def test_a_gain_over_more_seeds_is_not_paired():
    more = results(*THEIRS, 0.55)
    found = robustness.gain(results(*OURS), more, seeds=([0, 1, 2], [0, 1, 2, 3]))
    assert not found.over_seeds.paired


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        (([0, 1], [0, 1, 2]), "found 2 of ours, which has 3 results; expected one per result"),
        (([0, 1, 2], [0, 1, 2, 3]), "found 4 of theirs, which has 3 results"),
        (([0, 1, 1], [0, 1, 2]), "found 1 twice in ours; expected each training once"),
        (([0, 1, 2], [5, None, 5]), "found 5 twice in theirs"),
        ([0, 1, 2], "found [0, 1, 2]; expected (seeds of ours, seeds of theirs)"),
        (7, "found 7; expected (seeds of ours, seeds of theirs)"),
    ],
)
def test_wrong_seeds_are_told_in_one_line(seeds, text):
    with pytest.raises(UserError, match=re.escape(f"gain: seeds: {text}")) as error:
        robustness.gain(results(*OURS), results(*THEIRS), seeds=seeds)
    assert "\n" not in str(error.value)


def test_one_training_given_twice_is_no_further_sample():
    ours = [tables.of_hits(random_hits(seed)) for seed in (0, 1)]
    theirs = [tables.of_hits(random_hits(seed)) for seed in (2, 3)]
    assert robustness.gain(ours, theirs).over_seeds is not None
    again = tables.of_hits(random_hits(0))
    with pytest.raises(UserError, match="gain: found result 2 with the same answers"):
        robustness.gain([*ours, again], theirs)
    with pytest.raises(UserError, match="over_seeds: found result 2 with the same answers"):
        robustness.over_seeds([*ours, again])
