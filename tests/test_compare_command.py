"""`dst-jax compare A B`: two stored results, paired by image; what is not alike is refused."""

import dataclasses
import sys

import numpy as np
import pytest
import runs
import synthetic_results as tables

from dst_jax.data import benchmarks
from dst_jax.errors import UserError
from dst_jax.robustness import compare, storage
from dst_jax.robustness.metrics import ALEXNET_ERRORS
from dst_jax.robustness.records import CLEAN, Condition
from dst_jax.statistics import bootstrap, bootstrap_columns

SETTING = ("common", "rendered", "cifar32", 0)
CONDITIONS = [Condition(name, level) for name in ("fog", "contrast") for level in (1, 3, 5)]


def result(seed, n=300, right=0.6, setting=SETTING, conditions=CONDITIONS, **options):
    random = np.random.default_rng(seed)
    hits = {c: random.random(n) < right for c in conditions}
    clean = random.random(n) < 0.9
    return tables.of_hits(hits, clean, setting=setting, dataset="cifar10", **options)


@pytest.fixture
def both(tmp_path):
    ours, theirs = result(0, right=0.75), result(1)
    storage.save(tmp_path / "a", ours)
    storage.save(tmp_path / "b", theirs)
    return tmp_path / "a", tmp_path / "b", ours, theirs


def by_hand(ours, theirs, conditions):
    """The percentile bootstrap of the difference of two means over conditions, image by image."""
    shares = [
        np.mean([r.hits[c].unpack(r.n) for c in conditions], 0, dtype=float) for r in (ours, theirs)
    ]
    generator = np.random.default_rng(0)
    n = len(shares[0])
    means = []
    for _ in range(1000):
        drawn = generator.integers(0, n, n)
        means.append(shares[0][drawn].mean() - shares[1][drawn].mean())
    return [float(np.mean(shares[0]) - np.mean(shares[1])), *np.quantile(means, [0.025, 0.975])]


def test_each_row_is_the_paired_bootstrap_over_images(both):
    first, second, ours, theirs = both
    text = compare.text(str(first), str(second / "robustness.csv"))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    groups = {
        "clean": [CLEAN],
        "fog": [c for c in CONDITIONS if c.corruption == "fog"],
        "contrast": [c for c in CONDITIONS if c.corruption == "contrast"],
        "CIFAR10-C": CONDITIONS,
    }
    found = ours.differences(theirs)
    for name, conditions in groups.items():
        wanted = by_hand(ours, theirs, conditions)
        interval = found["robust" if name == "CIFAR10-C" else name]
        assert [*interval[:3]] == pytest.approx(wanted)
        means = [
            100 * np.mean([r.hits[c].unpack(300).mean() for c in conditions])
            for r in (ours, theirs)
        ]
        shown = [f"{value:.1f}" for value in means]
        ends = [f"{100 * end:+.1f}" for end in wanted]
        assert rows[name] == [*shown, ends[0], ends[1], "to", ends[2]]
    assert found["robust"][:3] == pytest.approx(ours.difference(theirs)[:3])
    assert "INCOMPLETE: 6 of 95 conditions; 300 of 10,000 images" in text
    assert text.startswith(f"A: {first}\nB: {second}")


def test_intervals_of_one_result_and_of_mce():
    everything = [Condition(name, level) for name in ALEXNET_ERRORS for level in range(1, 6)]
    random = np.random.default_rng(0)
    one = tables.of_hits({c: random.random(200) < 0.4 for c in everything})
    found = one.intervals()
    fog = [c for c in everything if c.corruption == "fog"]
    assert found["fog"][:3] == pytest.approx(one.interval(fog)[:3])
    assert found["robust"][:3] == pytest.approx(one.interval()[:3])
    assert found["fog"].estimate == pytest.approx(one.by_corruption["fog"])
    assert set(found) == {"clean", "robust", *ALEXNET_ERRORS}
    # mCE of each resample, by the definition.
    interval = one.mce_interval(resamples=50, seed=1)
    assert interval.estimate == pytest.approx(one.mce)
    generator = np.random.default_rng(1)
    values = []
    for _ in range(50):
        drawn = generator.integers(0, 200, 200)
        ratios = [
            sum(
                1 - one.hits[Condition(name, level)].unpack(200)[drawn].mean()
                for level in range(1, 6)
            )
            / (5 * alexnet)
            for name, alexnet in ALEXNET_ERRORS.items()
        ]
        values.append(100 * np.mean(ratios))
    assert [interval.low, interval.high] == pytest.approx([*np.quantile(values, [0.025, 0.975])])
    assert f"(95 % interval over images: {one.mce_interval().low:.1f} to " in one.table()
    assert result(0).mce_interval() is None


def test_columns_have_the_draws_of_one():
    values = np.random.default_rng(0).random((70, 3))
    for column, interval in enumerate(bootstrap_columns(values, resamples=60, seed=4)):
        assert interval == pytest.approx(bootstrap(values[:, column], resamples=60, seed=4))


def test_the_15_and_the_19_are_both_named():
    names = [*tables.metrics_15(), "speckle_noise", "gaussian_blur", "spatter", "saturate"]
    values = {Condition(name, level): 0.5 for name in names[:15] for level in (1, 2)}
    values |= {Condition(name, level): 0.9 for name in names[15:] for level in (1, 2)}
    both = tables.of_accuracies(values, dataset="cifar10", setting=SETTING)
    assert both.common_means() == {
        15: pytest.approx(0.5),
        19: pytest.approx((15 * 0.5 + 4 * 0.9) / 19),
    }
    line = (
        "the 15 common corruptions 50.0 (those of mCE)  the 19 common corruptions 58.4 (with the 4"
    )
    assert line in both.table()
    first = {c: value for c, value in values.items() if c.corruption in names[:15]}
    assert list(tables.of_accuracies(first).common_means()) == [15]
    assert result(0).common_means() == {}
    assert both.summary()["common_means"]["15"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (result(1, setting=(*SETTING[:3], 2)), "compare: {b}: found seed 2; expected 0, as in the"),
        (result(1, n=200), "compare: {b}: found number of images 200; expected 300, as in the fi"),
        (
            result(1, setting=("common", "rendered+jpeg85", *SETTING[2:])),
            "compare: {b}: found source 'rendered+jpeg85'; expected 'rendered', as in the first",
        ),
        (
            result(1, labels=np.ones(300, np.int32)),
            "compare: {b}: found images other images; expected the same as here, as in the first",
        ),
        (
            result(1, conditions=[Condition("snow", 1)]),
            "compare: found no condition that both were scored on; expected one at least",
        ),
    ],
)
def test_unlike_results_are_refused_with_the_field_that_differs(both, tmp_path, other, text):
    first = both[0]
    storage.save(tmp_path / "other", other)
    with pytest.raises(UserError) as caught:
        compare.text(str(first), str(tmp_path / "other"))
    assert text.format(b=tmp_path / "other") in str(caught.value)


def test_several_results_and_results_that_are_not_done(both, tmp_path):
    first, second, _, _ = both
    setting = ("c_bar_cifar", *SETTING[1:])
    lines = [Condition("lines", 1), Condition("ripple", 2)]
    for path, seed in ((first, 5), (second, 6)):
        storage.save(path, result(seed, setting=setting, conditions=lines[: seed - 4]))
    text = compare.text(str(first), str(second))
    assert text.count("A: ") == 2
    assert "Left out of all rows: the conditions that only B has: 1 (ripple 2).\n" in text
    assert "ripple" not in text.replace("(ripple 2)", "")
    assert compare.text(str(first), str(second), "c_bar_cifar").count("A: ") == 1
    assert compare.text(str(first), str(second), "CIFAR10-C-bar").count("A: ") == 1
    with pytest.raises(UserError, match="--suite: found 3dcc; expected common, c_bar_cifar"):
        compare.text(str(first), str(second), "3dcc")
    with pytest.raises(UserError, match=r"found a directory of results \(a, b\); expected the dir"):
        compare.text(str(tmp_path), str(second))
    with pytest.raises(UserError, match=r"nowhere: found no result; expected the directory of one"):
        compare.text(str(tmp_path / "nowhere"), str(second))


def test_the_command(both):
    first, second, _, _ = both
    done = runs.run([sys.executable, "run.py", "compare", str(first), str(second)])
    assert done.returncode == 0, done.stderr
    assert done.stdout == compare.text(str(first), str(second)) + "\n"
    done = runs.run([sys.executable, "run.py", "compare", str(first)])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "compare: found " in done.stderr
    assert "; expected A B. dst-jax compare --help lists the flags" in done.stderr


def test_lists_of_the_same_name_are_not_compared(tmp_path):
    setting = ("mine", *SETTING[1:])
    for name, listed in (("a", ("fog",)), ("b", ("fog", "snow"))):
        found = result(0, setting=setting, conditions=[Condition("fog", 1)])
        own = benchmarks.Benchmark("mine", listed, (1,), "cifar10")
        storage.save(tmp_path / name, dataclasses.replace(found, listed=own))
    with pytest.raises(UserError, match="found another list of corruptions under the name mine"):
        compare.text(str(tmp_path / "a"), str(tmp_path / "b"))
