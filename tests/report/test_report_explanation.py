"""The sentences about the paper's explanations, from numbers set by hand."""

import re

import numpy as np
from run_directories import analysed, conditions, make
from scipy import stats

from dst_jax.report import comparisons, explanation, runs
from dst_jax.report.figures import analysis, gains
from dst_jax.runtime.run_dir import write_arrays


def comparison_of(*directories):
    (comparison,) = comparisons.compare(list(map(runs.read, directories)))
    return comparison


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
    sides = (("dense", 0.0, [0.0] * 5), ("rigl", 0.5, gains))
    paths = []
    for algorithm, sparsity, side in sides:
        rows = conditions(0.9, {(n, 1): 0.5 * (1 + g) for n, g in zip(names, side, strict=True)})
        rows = [("+".join(names), *row[1:]) for row in rows]
        paths.append(make(tmp_path, algorithm, sparsity, 0, rows))
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


def test_without_an_order_the_rank_correlation_is_0():
    assert explanation.rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([5.0, 5.0, 5.0])) == 0
    assert explanation.rank_correlation(np.zeros(4), np.arange(4.0)) == 0


def test_nothing_analysed_says_nothing(tmp_path):
    path = make(tmp_path, "dense", 0.0, 0, conditions(0.9, 0.5))
    assert explanation.paragraph(comparison_of(path)) == ""


def test_dense_runs_of_another_recipe_are_no_base_of_an_explanation(tmp_path):
    dense = make(tmp_path, "dense", 0.0, 0, conditions(0.9, 0.5), train={"learning_rate": 0.001})
    sparse = make(tmp_path, "rigl", 0.5, 0, conditions(0.9, 0.6))
    comparison = comparison_of(analysed(dense, 0.5), analysed(sparse, 0.4))
    text = explanation.paragraph(comparison)
    assert "without high frequencies" not in text
    drawings, _ = analysis.draw([comparison])
    found = {drawing.name: drawing for drawing in drawings}
    assert "minus dense" not in found["attenuation"].svg
    assert "minus dense" not in found["fourier"].svg
    alike = make(tmp_path, "dense", 0.0, 1, conditions(0.9, 0.5))
    comparison = comparison_of(dense, sparse, analysed(alike, 0.5))
    text = explanation.paragraph(comparison)
    assert "dense, train.learning_rate=0.1 50.0 %, rigl 50 % 40.0 % (-10.0 pp)" in text
    drawings, _ = analysis.draw([comparison])
    found = {drawing.name: drawing for drawing in drawings}
    assert found["fourier"].svg.count("minus dense") == 1


def test_a_line_over_sparsities_is_of_one_recipe(tmp_path):
    paths = [
        make(tmp_path / str(rate), a, s, 0, conditions(0.9, 0.5), train={"learning_rate": rate})
        for rate in (0.1, 0.01)
        for a, s in (("dense", 0.0), ("rigl", 0.3), ("rigl", 0.5))
    ]
    comparison = comparison_of(*paths)
    drawing = next(d for d in gains.draw([comparison]) if d.name == "sparsity")
    for name in ("rigl", "dense"):
        for rate in (0.1, 0.01):
            assert f"{name}, train.learning_rate={rate}" in legend(drawing.svg)


def legend(svg):
    """The texts of a figure: matplotlib writes each as a comment or as text."""
    return "\n".join(re.findall(r"<text[^>]*>(.*?)</text>", svg, re.S))
