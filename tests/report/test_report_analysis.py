"""Figures of analyses from synthetic files, what is said of missing ones, intervals, LaTeX."""

import json
import re

import numpy as np
import pytest
from run_directories import CORRUPTIONS, SEVERITIES, analysed, conditions, make

from dst_jax import report
from dst_jax.report import comparisons, runs
from dst_jax.report.figures import drawing, spectral
from dst_jax.report.read_analyses import read, samples
from dst_jax.report.tables import COLUMNS, build
from dst_jax.runtime.run_dir import write_arrays


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    root = tmp_path_factory.mktemp("analysed")
    return [
        analysed(make(root, "dense", 0.0, 0, conditions(0.9, 0.5)), 0.5),
        analysed(make(root, "rigl", 0.5, 0, conditions(0.9, 0.6)), 0.6),
        analysed(make(root, "rigl", 0.3, 0, conditions(0.9, 0.4)), 0.7),
    ]


def test_every_figure_is_drawn_and_stands_alone(directories, tmp_path):
    written = report.write(directories, tmp_path / "out")
    names = [path.stem for path in written.figure_paths]
    assert names == [
        *("gains", "sparsity", "corruptions", "severity", "training"),
        *("attenuated", "attenuation", "fourier", "noise", "kernels", "layers", "fans", "saliency"),
    ]
    assert "Not analysed" not in written.text
    page = written.html_path.read_text()
    references = re.findall(r'\b(?:href|src)="([^"]{0,40})', page)
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in references)
    assert page.count("data:image/png;base64,") >= 3 + 6 + 12 + 4
    assert written.html_path.stat().st_size < 1_000_000
    gains = next(p for p in written.figure_paths if p.stem == "gains").read_text()
    # gaussian_noise comes first in the evaluation, fog has more high frequencies here.
    assert gains.index("fog") < gains.index("gaussian")
    assert "mean stripe score 0.124" in page  # (0.25 - 0.001) / 2
    assert "14.29 % of the outputs dead" in page  # 2 of 14
    again = report.write(directories, tmp_path / "out")
    assert page == again.html_path.read_text()


def test_what_is_missing_is_said_and_the_rest_is_drawn(directories, tmp_path):
    root = tmp_path / "runs"
    some = [
        directories[0],
        analysed(make(root, "set", 0.5, 0, conditions(0.9, 0.6)), parts=["weights", "noise"]),
        analysed(make(root, "static", 0.5, 0, conditions(0.9, 0.6)), parts=["attenuation"]),
    ]
    (some[2] / "analysis" / "attenuation.npz").write_bytes(b"PK\x03\x04 cut short")
    (some[1] / "analysis" / "heat_map.npz").write_bytes(b"")
    write_arrays(some[1] / "analysis" / "saliency.npz", {"method": np.array("")})
    written = report.write(some, tmp_path / "out")
    text = " ".join(written.text.split())
    assert (
        "Not analysed: set-0.5-0 without attenuation, corruptions; static-0.5-0 without weights, "
        "heat_map, noise, corruptions, saliency (--mode=analyze). Damaged, and left out: "
        "set-0.5-0/analysis/heat_map.npz, static-0.5-0/analysis/attenuation.npz." in text
    )
    assert "Not analysed: set-0.5-0" in written.html_path.read_text()
    assert {"attenuation", "kernels", "layers"} <= {path.stem for path in written.figure_paths}


def test_runs_without_any_analysis_are_not_scolded(tmp_path):
    written = report.write(
        [make(tmp_path, "dense", 0.0, 0, conditions(0.9, 0.5))], tmp_path / "out"
    )
    assert "Not analysed" not in written.text


def test_a_heat_map_is_mirrored(directories):
    square = spectral._square(read(directories[0])["heat_map"])
    np.testing.assert_array_equal(square, square[::-1, ::-1])
    assert square[1, 1] == 0
    assert square[1, 2] == square[1, 0] == 0.125


def test_seeds_become_a_band(directories, tmp_path):
    more = analysed(make(tmp_path, "dense", 0.0, 1, conditions(0.9, 0.5)), 0.7)
    (comparison,) = comparisons.compare([runs.read(directories[0]), runs.read(more)])
    found = samples(comparison, drawing.styles_for(comparison.all_groups))
    ((_, curve),) = spectral.curves(found, "attenuation", "radii", "high")
    np.testing.assert_allclose(curve["mean"], 0.6)
    np.testing.assert_allclose(curve["std"], 0.1 * np.sqrt(2))


def test_exploration_is_drawn_from_the_record(tmp_path):
    directory = make(tmp_path, "set", 0.5)
    lines = [f'{{"step": {s}, "explored": {s / 100}, "mask_churn": 0.1}}\n' for s in (10, 20)]
    (directory / "metrics.jsonl").write_text("".join(lines))
    written = report.write([directory], tmp_path / "out")
    assert "exploration" in {path.stem for path in written.figure_paths}
    assert "Explored in the end: set 50 % 20.0 %." in written.html_path.read_text()


def with_bits(root, algorithm, sparsity, right, seed=0):
    """A run with robustness.npz: `right` is bool [conditions, images]."""
    names = [(c, s) for c in CORRUPTIONS for s in SEVERITIES]
    accuracies = {name: row.mean() for name, row in zip(names, right, strict=True)}
    rows = conditions(0.9, accuracies, n=right.shape[1])
    path = make(root, algorithm, sparsity, seed)
    head = "suite,source,corruption,severity,n,accuracy,preset,seed"
    table = [f"Test-C,rendered,{c},{s},{n},{a},cifar32,0" for _, c, s, n, a in rows]
    (path / "robustness.csv").write_text("\n".join([head, *table]) + "\n")
    arrays = {}
    for (c, s), row in zip(names, right, strict=True):
        key = f"Test-C/rendered/cifar32/0/{c}/{s}"  # as version 0.1 wrote it
        arrays |= {f"{key}/bits": np.packbits(row), f"{key}/images": np.uint32(7)}
    write_arrays(path / "robustness.npz", arrays)
    return path


def test_a_gain_has_an_interval_where_images_are_known(tmp_path):
    draw = np.random.default_rng(1)
    dense, sparse = draw.random((4, 203)) < 0.5, draw.random((4, 203)) < 0.7
    paths = [with_bits(tmp_path, "dense", 0.0, dense), with_bits(tmp_path, "rigl", 0.5, sparse)]
    (comparison,) = comparisons.compare(list(map(runs.read, paths)))
    table = build(comparison)
    cell = table.rows[1].cells[10]
    difference = sparse.mean(0) - dense.mean(0)
    # The normal interval of a mean of 203 independent numbers, to a tenth of its width.
    error = 1.96 * difference.std() / np.sqrt(203)
    assert cell.value == pytest.approx(difference.mean() - error, abs=0.2 * error)
    assert cell.std == pytest.approx(difference.mean() + error, abs=0.2 * error)
    assert re.fullmatch(r"\+\d+\.\d to \+\d+\.\d", cell.text)
    assert any("paired bootstrap" in note for note in table.notes)
    assert table.rows[0].cells[10].text == "–"

    bits = dict(np.load(paths[1] / "robustness.npz"))
    first = next(iter(bits))
    write_arrays(paths[1] / "robustness.npz", {**bits, first: ~bits[first]})  # of another state
    (comparison,) = comparisons.compare(list(map(runs.read, paths)))
    assert comparison.gain(comparison.groups[1]) is None  # that condition is not counted
    told = "robustness.csv and robustness.npz contradict each other in 1 row, left out"
    assert any(told in note for note in comparison.notes)


def test_latex_is_balanced_and_escaped(tmp_path):
    report.write(
        [
            make(tmp_path, "dense", 0.0, 0, conditions(0.9, 0.5)),
            make(tmp_path, "mest_g", 0.5, upto=40),
        ],
        tmp_path / "out",
    )
    lines = (tmp_path / "out" / "report.tex").read_text().splitlines()
    body = [line for line in lines if not line.startswith("%")]
    assert body.count(r"\bottomrule") == body.count(r"\end{tabular}") == 2
    cells = [line.replace(r"\&", "").count("&") for line in body if line.endswith(r"\\")]
    assert set(cells) == {len(COLUMNS) - 1, 8}
    assert r"mest\_g" in "\n".join(body)
    assert not re.search(r"(?<!\\)[_%#]", "\n".join(body).replace("{lrrr", ""))


def test_a_group_without_a_dense_one_beside_another_of_its_name(directories, tmp_path):
    """Which map is drawn under which is told by its place, not by a name that two groups have."""
    root = tmp_path / "runs"
    alone = analysed(make(root, "rigl", 0.5, 7, conditions(0.9, 0.6)))
    config = json.loads((alone / "config.json").read_text())
    config["seed"] = "seven"
    (alone / "config.json").write_text(json.dumps(config))
    written = report.write([*directories, alone], tmp_path / "out")
    assert "fourier" in {path.stem for path in written.figure_paths}
