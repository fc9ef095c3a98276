"""Smaller dense networks as a control: their baseline, their name, and what they leave alone."""

import csv
import json

import pytest
from run_directories import conditions, make

from dst_jax import report
from dst_jax.report import comparisons, runs, tables, verdicts


def network(root, algorithm, sparsity, values, width=0, depth=0, size=1000, **options):
    """Runs of a network of that width and number of parameters: one for each accuracy."""
    paths = []
    for seed, value in enumerate(values):
        name = f"{algorithm}-{sparsity}-{width}-{depth}-{seed}"
        path = make(root, algorithm, sparsity, seed, conditions(0.9, value), name=name, **options)
        config = json.loads((path / "config.json").read_text())
        config["model"] |= {"width": width, "depth": depth}
        (path / "config.json").write_text(json.dumps(config))
        facts = json.loads((path / "model.json").read_text()) | {"parameters": size}
        (path / "model.json").write_text(json.dumps(facts))
        paths.append(path)
    return paths


def one(paths):
    (comparison,) = comparisons.compare(list(map(runs.read, paths)))
    return comparison


def texts(comparison):
    return {row.cells[0].text: [c.text for c in row.cells] for row in tables.build(comparison).rows}


def baselines(comparison):
    found = {group.name: comparison.baseline(group) for group in comparison.groups}
    return {name: base.name if base else None for name, base in found.items()}


DENSE, RIGL, SMALL = (0.50, 0.51, 0.52), (0.60, 0.62, 0.61), (0.40, 0.42, 0.41)
SMALL_NAME = "small dense, width=50, 420 parameters"


@pytest.fixture
def ablation(tmp_path):
    return [
        *network(tmp_path, "dense", 0.0, DENSE),
        *network(tmp_path, "rigl", 0.5, RIGL),
        *network(tmp_path, "dense", 0.0, SMALL, width=50, size=420),
    ]


def test_a_small_dense_network_is_held_against_the_wide_one(ablation):
    comparison = one(ablation)
    assert baselines(comparison) == {"dense": None, "rigl 50 %": "dense", SMALL_NAME: "dense"}
    rows = texts(comparison)
    # 41 against 51, and 61 against 51.
    assert [rows[name][5] for name in ("dense", SMALL_NAME, "rigl")] == ["–", "-10.0", "+10.0"]
    assert list(rows) == ["dense", SMALL_NAME, "rigl"]
    # The gains of the seeds are 10, 11 and 9 points: t = 0.1 / sqrt(0.0001 / 3) = 17.32, of which p
    # with 2 degrees of freedom is 1 - t / sqrt(2 + t^2) = 0.0033; twice that by Holm.
    found = verdicts.judge([comparison])
    assert sorted(verdict.text for verdict in found.values()) == ["less robust", "more robust"]
    assert [verdict.p for verdict in found.values()] == pytest.approx([0.0066, 0.0066], abs=1e-4)


def test_the_sentences_about_it(ablation):
    comparison = one(ablation)
    text = verdicts.paragraph(comparison, 0, verdicts.judge([comparison]))
    assert (
        f"More robust than dense: rigl 50 % (+10.0 pp); less robust than dense: {SMALL_NAME} "
        "(-10.0 pp)." in text
    )
    assert "the 2 comparisons of this page" in text
    (note,) = [note for note in comparison.notes if "small dense network" in note]
    assert "its gain is over dense (1,000 parameters), which differs from it in the size" in note


def test_it_is_no_dynamic_sparse_method_of_the_papers_claim(tmp_path):
    paths = [
        *network(tmp_path, "dense", 0.0, DENSE),
        *network(tmp_path, "dense", 0.0, RIGL, width=50, size=420),
    ]
    for path in paths:
        config = (path / "config.json").read_text().replace('"digits"', '"cifar10"')
        (path / "config.json").write_text(config)
    comparison = one(paths)
    text = verdicts.paragraph(comparison, 0, verdicts.judge([comparison]))
    assert f"More robust than dense: {SMALL_NAME} (+10.0 pp)." in text
    assert "hese runs do not test the claim of Wu et al. 2025" in text


def test_it_is_never_the_baseline_of_the_wide_sparse_runs(tmp_path):
    comparison = one(
        [
            *network(tmp_path, "dense", 0.0, SMALL, width=50, size=420),
            *network(tmp_path, "rigl", 0.5, RIGL),
        ]
    )
    assert set(baselines(comparison).values()) == {None}
    assert any("differs in model.width (50, here 0)" in note for note in comparison.notes)


def test_of_several_larger_ones_the_largest(tmp_path):
    comparison = one(
        [
            *network(tmp_path, "dense", 0.0, DENSE, width=16, size=4000),
            *network(tmp_path, "dense", 0.0, SMALL, width=8, size=2000),
            *network(tmp_path, "dense", 0.0, RIGL, width=4, depth=3, size=1000),
        ]
    )
    assert baselines(comparison) == {
        "dense": None,
        "small dense, width=8, 2,000 parameters": "dense",
        "small dense, width=4, depth=3, 1,000 parameters": "dense",
    }
    base = comparison.baseline(comparison.groups[1])
    assert base.fact("parameters").mean == 4000


@pytest.mark.parametrize("change", ["rate", "steps", "size", "unknown", "images"])
def test_dense_runs_that_differ_in_more_or_are_no_smaller_have_no_baseline(tmp_path, change):
    options = {
        "rate": {"train": {"learning_rate": 0.01}},
        "steps": {"steps": 800},
        "size": {"size": 1000},
    }.get(change, {})
    small = network(tmp_path, "dense", 0.0, SMALL, width=50, **{"size": 420, **options})
    for path in small if change == "unknown" else ():
        (path / "model.json").unlink()
    for path in small if change == "images" else ():
        table = (path / "robustness.csv").read_text()
        (path / "robustness.csv").write_text(table.replace(",100,", ",64,"))
    comparison = one([*network(tmp_path, "dense", 0.0, DENSE), *small])
    assert set(baselines(comparison).values()) == {None}
    assert verdicts.judge([comparison]) == {}
    told = f"{SMALL_NAME} has no dense baseline: dense was scored on 100 images, this on 64."
    assert (told in comparison.notes) == (change == "images")


def test_an_unfinished_one_is_not_held_against_a_finished_one(tmp_path):
    comparison = one(
        [
            *network(tmp_path, "dense", 0.0, DENSE),
            *network(tmp_path, "dense", 0.0, SMALL, width=50, size=420, upto=80),
        ]
    )
    assert set(baselines(comparison).values()) == {None}


def test_names_tell_small_ones_apart_and_leave_the_others_alone(tmp_path):
    kept = {"train": {"learning_rate": 0.01}}
    comparison = one(
        [
            *network(tmp_path / "a", "dense", 0.0, DENSE),
            *network(tmp_path / "b", "dense", 0.0, DENSE, **kept),
            *network(tmp_path / "c", "dense", 0.0, SMALL, width=50, size=420),
            *network(tmp_path / "d", "dense", 0.0, SMALL, width=50, size=420, **kept),
        ]
    )
    assert baselines(comparison) == {
        "dense, train.learning_rate=0.1": None,
        "dense, train.learning_rate=0.01": None,
        "small dense, width=50, train.learning_rate=0.1, 420 parameters": (
            "dense, train.learning_rate=0.1"
        ),
        "small dense, width=50, train.learning_rate=0.01, 420 parameters": (
            "dense, train.learning_rate=0.01"
        ),
    }


def test_without_one_the_names_are_as_ever(tmp_path):
    paths = [
        *network(tmp_path, "dense", 0.0, DENSE),
        *network(tmp_path, "dense", 0.0, SMALL, width=50, size=1000),
        *network(tmp_path, "rigl", 0.5, RIGL),
    ]
    comparison = one(paths)
    assert [g.name for g in comparison.groups] == [
        "dense, model.width=0",
        "dense, model.width=50",
        "rigl 50 %",
    ]
    assert "small dense" not in report.write(paths, tmp_path / "out").html_path.read_text()


def test_the_page_with_one(ablation, tmp_path):
    written = report.write(ablation, tmp_path / "out")
    rows = list(csv.DictReader(written.csv_path.read_text().splitlines()))
    found = {row["method"]: (row["verdict"], row["gain"][:4]) for row in rows}
    assert found[SMALL_NAME] == ("less robust", "-0.1")
    page = written.html_path.read_text()
    assert f"{SMALL_NAME}, gain pp" in page
    assert "its ratios of parameters and FLOPs are to itself" in page
