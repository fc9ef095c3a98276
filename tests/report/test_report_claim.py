"""The sentences about the paper's claim and its explanations, from numbers set by hand."""

import numpy as np
import pytest
from run_directories import analysed, conditions, make
from scipy import stats

from dst_jax.report import claim, explanation, groups, runs
from dst_jax.workdir import write_arrays


def comparison_of(*directories):
    (comparison,) = groups.compare(list(map(runs.read, directories)))
    return comparison


def with_dense(root, *others, dense=(0.50, 0.51, 0.52)):
    """Runs of a dense baseline and of others, as (algorithm, sparsity, accuracies by seed)."""
    return comparison_of(
        *(
            make(root, algorithm, sparsity, seed, conditions(0.9, value))
            for algorithm, sparsity, values in (("dense", 0.0, dense), *others)
            for seed, value in enumerate(values)
        )
    )


def test_it_holds(tmp_path):
    text = claim.paragraph(with_dense(tmp_path, ("rigl", 0.5, (0.60, 0.61, 0.62))))
    assert "holds in these runs: it holds for rigl 50 % (robust +10.0 pp, clean +0.0 pp)." in text
    assert "chance" not in text


def test_it_does_not_hold(tmp_path):
    text = claim.paragraph(with_dense(tmp_path, ("set", 0.1, (0.40, 0.41, 0.42))))
    assert "does NOT hold in these runs: it does NOT hold for set 10 % (robust -10.0 pp" in text


def test_it_holds_in_part_and_is_open_in_part(tmp_path):
    # Dense 0.51 +- 0.01, mest_g 0.52 +- 0.02: 0.01 < 2 sqrt(0.0001 / 3 + 0.0004 / 3) = 0.026.
    text = claim.paragraph(
        with_dense(
            tmp_path,
            ("mest_g", 0.3, (0.50, 0.52, 0.54)),
            ("rigl", 0.5, (0.60, 0.61, 0.62)),
            ("set", 0.5, (0.40, 0.41, 0.42)),
        )
    )
    assert "holds only in part in these runs" in text
    assert "it holds for rigl 50 %" in text
    assert "it does NOT hold for set 50 %" in text
    assert "it is not resolved for mest_g 30 % (robust +1.0 pp" in text


def test_one_seed_is_said_to_be_one_seed(tmp_path):
    text = claim.paragraph(with_dense(tmp_path, ("rigl", 0.5, (0.6,)), dense=(0.5,)))
    assert "holds in these runs" in text
    assert "may be chance" in text


@pytest.mark.parametrize(
    ("algorithm", "sparsity"), [("static", 0.5), ("rigl", 0.9), ("rigl", 0.05), ("gmp", 0.5)]
)
def test_other_methods_and_sparsities_do_not_test_it(tmp_path, algorithm, sparsity):
    text = claim.paragraph(with_dense(tmp_path, (algorithm, sparsity, (0.6,)), dense=(0.5,)))
    assert "is not tested by these runs" in text


def test_without_dense_it_is_not_tested(tmp_path):
    path = make(tmp_path, "rigl", 0.5, 0, conditions(0.9, 0.6))
    assert "is not tested by these runs" in claim.paragraph(comparison_of(path))


def test_the_papers_number_is_labelled_as_theirs(tmp_path):
    paths = [
        make(tmp_path, "dense", 0.0, 0, conditions(0.9, 0.5)),
        make(tmp_path, "rigl", 0.1, 0, conditions(0.8, 0.6)),
    ]
    for path in paths:
        text = (path / "config.json").read_text().replace('"mlp"', '"resnet50"')
        (path / "config.json").write_text(text.replace('"digits"', '"imagenet2012"'))
    text = claim.paragraph(comparison_of(*paths))
    assert "ImageNet-C, rigl: theirs 38.70 %, ours 60.00 (n = 1) % (clean 80.00 %)" in text


def test_explanations_are_the_numbers(tmp_path):
    text = explanation.paragraph(
        comparison_of(
            analysed(make(tmp_path, "dense", 0.0, 0, conditions(0.9, 0.5)), 0.5),
            analysed(make(tmp_path, "rigl", 0.5, 0, conditions(0.9, 0.6)), 0.4),
        )
    )
    assert "without high frequencies: dense 50.0 %, rigl 50 % 40.0 % (-10.0 pp)" in text
    assert "without low frequencies: dense 25.0 %, rigl 50 % 20.0 % (-5.0 pp)" in text
    assert "every channel full or empty): rigl 50 % 0.124." in text  # (0.25 - 0.001) / 2
    assert "Rank correlation" not in text  # two corruptions only


def test_the_order_of_gains_is_a_rank_correlation(tmp_path):
    names = ("a", "b", "c", "d", "e")
    gains, shares = (0.1, 0.0, 0.3, 0.2, 0.1), (0.2, 0.1, 0.9, 0.4, 0.5)
    paths = [
        make(tmp_path, "dense", 0.0, 0, conditions(0.9, {(n, 1): 0.5 for n in names})),
        make(
            tmp_path,
            *("rigl", 0.5, 0),
            conditions(0.9, {(n, 1): 0.5 * (1 + g) for n, g in zip(names, gains, strict=True)}),
        ),
    ]
    (paths[0] / "analysis").mkdir()
    arrays = {
        "names": np.array(names),
        "severities": np.array([1]),
        "high_share": np.array(shares)[:, None],
        "n": np.array(8),
    }
    write_arrays(paths[0] / "analysis" / "corruptions.npz", arrays)
    expected = stats.spearmanr(gains, shares).statistic
    text = explanation.paragraph(comparison_of(*paths))
    assert f"over 5 corruptions: rigl 50 % {expected:+.2f};" in text


def test_nothing_analysed_says_nothing(tmp_path):
    path = make(tmp_path, "dense", 0.0, 0, conditions(0.9, 0.5))
    assert explanation.paragraph(comparison_of(path)) == ""
