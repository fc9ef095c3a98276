"""The numbers of the report against values computed by hand."""

import csv
import math

import pytest
from run_directories import conditions, make

from dst_jax import report
from dst_jax.errors import UserError
from dst_jax.report import comparisons, runs, tables

DENSE = {
    ("gaussian_noise", 1): 0.50,
    ("gaussian_noise", 2): 0.30,
    ("fog", 1): 0.80,
    ("fog", 2): 0.60,
}
SPARSE = {
    ("gaussian_noise", 1): 0.60,
    ("gaussian_noise", 2): 0.46,
    ("fog", 1): 0.78,
    ("fog", 2): 0.60,
}


def read_csv(written: report.Report) -> list[dict[str, str]]:
    return list(csv.DictReader(written.csv_path.read_text(encoding="utf-8").splitlines()))


def one_table(directories) -> tables.Table:
    (comparison,) = comparisons.compare([runs.read(path) for path in directories])
    return tables.build(comparison)


def texts(table: tables.Table) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in table.rows]


def test_table_has_the_numbers_computed_by_hand(tmp_path):
    directories = [
        make(tmp_path, "rigl", 0.5, rows=conditions(0.90, SPARSE)),
        make(tmp_path, "dense", 0.9, rows=conditions(0.92, DENSE)),  # its sparsity is not read
    ]
    # Dense: (50 + 30 + 80 + 60) / 4 = 55; rigl: (60 + 46 + 78 + 60) / 4 = 61; 6 / 55 = 10.9 %.
    dense, rigl = texts(one_table(directories))
    # Of 1000 parameters 100 are never masked: 550 are left of rigl's.
    assert dense == [
        *("dense", "0", "1", "92.0", "55.0", "–", "–", "–", "–", "–", "–", "–", "–"),
        *("0.0", "1.00", "1.00", "1.00"),
    ]
    assert rigl == [
        *("rigl", "50", "1", "90.0", "61.0", "+6.0", "–", "one seed: no verdict", "–", "+10.9"),
        *("–", "–", "–", "50.0", "0.55", "0.50", "0.75"),
    ]


def test_seeds_give_mean_and_sample_standard_deviation(tmp_path):
    values = (0.50, 0.53, 0.62)  # mean 0.55, deviations -5, -2, 7: variance (25 + 4 + 49) / 2 = 39
    directories = [
        make(tmp_path, "set", 0.3, seed, conditions(0.9, value))
        for seed, value in enumerate(values)
    ]
    (row,) = one_table(directories).rows
    robust = row.cells[4]
    assert row.cells[2].text == "3"
    assert robust.value == pytest.approx(0.55)
    assert robust.std == pytest.approx(math.sqrt(39) / 100)
    assert robust.text == "55.0 ± 6.2"


def test_two_decimals_from_ten_thousand_images_on(tmp_path):
    make(tmp_path, "dense", 0.0, rows=conditions(0.91234, 0.5, n=10_000))
    (row,) = one_table([tmp_path / "dense-0.0-0"]).rows
    assert row.cells[3].text == "91.23"


def test_one_is_no_plural(tmp_path):
    table = one_table([make(tmp_path, "set", 0.5, rows=conditions(0.9, {("fog", 1): 0.5}))])
    assert "Test-C: 1 corruption, 1 condition, 100 images each, INCOMPLETE" in table.title


def test_dense_first_then_sparsity_then_name(tmp_path):
    wanted = [("dense", 0.0), ("set", 0.1), ("rigl", 0.5), ("set", 0.5)]
    directories = [make(tmp_path, a, s, rows=conditions(0.9, 0.5)) for a, s in reversed(wanted)]
    assert [(r[0], r[1]) for r in texts(one_table(directories))] == [
        ("dense", "0"),
        ("set", "10"),
        ("rigl", "50"),
        ("set", "50"),
    ]


def test_no_gain_over_a_dense_run_of_other_length(tmp_path):
    table = one_table(
        [
            make(tmp_path, "dense", 0.0, rows=conditions(0.9, 0.5), steps=800),
            make(tmp_path, "rigl", 0.5, rows=conditions(0.9, 0.6), steps=400),
        ]
    )
    assert texts(table)[1][5:7] == ["–", "–"]


def test_runs_that_differ_in_more_than_the_seed_are_told_apart(tmp_path):
    table = one_table(
        [
            make(tmp_path, "rigl", 0.5, 0, conditions(0.9, 0.5), name="a", update_freq=10),
            make(tmp_path, "rigl", 0.5, 1, conditions(0.9, 0.6), name="b", update_freq=20),
        ]
    )
    assert [row[0] for row in texts(table)] == ["rigl, update_freq=10", "rigl, update_freq=20"]
    assert [row[2] for row in texts(table)] == ["1", "1"]


def test_a_seed_counts_once(tmp_path):
    table = one_table(
        [
            make(tmp_path, "set", 0.5, 0, conditions(0.9, 0.5), name="first"),
            make(tmp_path, "set", 0.5, 0, conditions(0.9, 0.7), name="again"),
        ]
    )
    (row,) = texts(table)
    assert row[2] == "1"
    assert row[4] == "50.0"
    assert "again repeats seed 0 of first and is not counted." in table.notes


def test_a_part_of_the_benchmark_says_so_in_the_cell_and_is_compared_with_nothing(tmp_path):
    partial = {key: SPARSE[key] for key in list(SPARSE)[:2]}  # gaussian noise: 60 and 46, mean 53
    table = one_table(
        [
            make(tmp_path, "dense", 0.0, rows=conditions(0.9, DENSE)),
            make(tmp_path, "rigl", 0.5, rows=conditions(0.9, partial)),
        ]
    )
    assert [row[4] for row in texts(table)] == [
        "55.0",
        "53.0 (incomplete: 2 of 4 conditions, without fog)",
    ]
    assert texts(table)[1][5:8] == ["–", "–", "–"]
    assert (
        "rigl 50 % has no dense baseline: dense was scored on 4 conditions, this on 2."
        in table.notes
    )


def test_no_gain_between_different_numbers_of_images(tmp_path):
    table = one_table(
        [
            make(tmp_path, "dense", 0.0, rows=conditions(0.9, 0.5, n=100)),
            make(tmp_path, "rigl", 0.5, rows=conditions(0.9, 0.6, n=200)),
        ]
    )
    assert texts(table)[1][4:6] == ["60.0", "–"]
    assert any("dense was scored on 100 images, this on 200." in note for note in table.notes)


def test_models_and_suites_are_not_mixed(tmp_path):
    first = make(tmp_path, "dense", 0.0, rows=conditions(0.9, 0.5))
    other = [("gaussian_noise+fog", *row[1:]) for row in conditions(0.9, 0.7)]
    second = make(tmp_path, "rigl", 0.5, rows=conditions(0.9, 0.6) + other)
    by_suite = {c.suite: c for c in comparisons.compare([runs.read(first), runs.read(second)])}
    other = "gaussian_noise+fog"
    assert [g.method for g in by_suite["Test-C"].groups] == ["dense", "rigl"]
    assert [g.method for g in by_suite[other].groups] == ["rigl"]
    remarks = [row.remark for row in tables.build(by_suite[other]).rows]
    assert remarks == [f"not evaluated on {other}", ""]


def test_csv_round_trip(tmp_path):
    directories = [
        make(tmp_path / "runs", "dense", 0.0, rows=conditions(0.92, DENSE)),
        make(tmp_path / "runs", "rigl", 0.5, 0, conditions(0.9, SPARSE)),
        make(tmp_path / "runs", "rigl", 0.5, 1, conditions(0.9, 1 / 3)),
        make(tmp_path / "runs", "set", 0.5, upto=120),
    ]
    written = report.write(directories, tmp_path / "out")
    table = one_table(directories)
    rows = read_csv(written)
    assert len(rows) == len(table.rows) == 3
    for row, model in zip(rows, table.rows, strict=True):
        for column, cell in zip(tables.COLUMNS[1:], model.cells[1:], strict=True):
            if column.key not in ("verdict", "gain_test"):
                assert row[column.key] == ("" if cell.value is None else repr(cell.value))
        assert row["robust_accuracy_std"] == (
            "" if not model.cells[4].std else repr(model.cells[4].std)
        )
        assert row["remark"] == model.remark
    assert {(row["dataset"], row["model"], row["suite"]) for row in rows} == {
        ("digits", "mlp", "Test-C")
    }


def test_user_mistakes(tmp_path):
    with pytest.raises(UserError, match="at least one run directory"):
        report.write([], tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="a directory"):
        report.write([tmp_path], file)
