"""The tests of a study's protocol: alike with alike, all tests counted, nothing dropped.

Ten runs of the kept study on the digits, dense and RigL, seeds 0 to 4, are changed one thing at a
time.
"""

import json
import shutil
import sys

import pytest
import runs
import scipy.stats

from benchmarks import study_tests
from benchmarks.study_tests import DENSE, STUDIES, Arm
from dst_jax.errors import UserError
from dst_jax.report import archive, archive_reading
from dst_jax.report.runs import read

RIGL = Arm("rigl", 0.5)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The run directories of dense and RigL, seeds 0 to 4."""
    folder = tmp_path_factory.mktemp("kept")
    with archive_reading.unpacked(runs.ROOT / "results" / "digits" / archive.NAME) as (found, _):
        for path in found:
            if path.name in {f"{m}-seed{k}" for m in ("dense", "rigl") for k in range(5)}:
                shutil.copytree(path, folder / path.name)
    return folder


@pytest.fixture
def folder(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "runs")


def _edit(folder, pattern, section, **values):
    for path in folder.glob(f"{pattern}/config.json"):
        config = json.loads(path.read_text())
        (config[section] if section else config).update(values)
        path.write_text(json.dumps(config))


def _arms(folder):
    return study_tests.arms_of(STUDIES["digits"], [read(path) for path in sorted(folder.iterdir())])


def _primary(arms):
    table = study_tests.family_table(arms, STUDIES["digits"].families["Primary outcome"])
    return {row.split(" | ")[0].strip("| "): row.split(" | ") for row in table.splitlines()[2:]}


def test_the_difference_is_scipys_and_missing_tests_count(kept):
    arms, left = _arms(kept)
    robust = {arm: study_tests.values(arms[arm], "robust") for arm in (DENSE, RIGL)}
    ours, theirs = ([robust[arm][seed] for seed in range(5)] for arm in (RIGL, DENSE))
    p = scipy.stats.ttest_rel(ours, theirs).pvalue
    row = _primary(arms)["rigl 0.5"]
    assert not left
    assert row[3] == "5"
    assert row[6] == f"{p:.2g}"
    assert _primary(arms)["set 0.5"][4] == "not tested"
    assert row[7].rstrip(" |") == f"{min(1, 3 * p):.2g}"  # two of the three tests are missing


@pytest.mark.parametrize(
    ("section", "value", "found"),
    [
        ("train", {"learning_rate": 0.3}, "train.learning_rate"),
        ("train", {"epochs": 5.0}, "train.epochs"),
        ("data", {"validation": 0.1}, "data.validation"),
    ],
)
def test_arms_of_other_recipes_are_refused(folder, section, value, found):
    _edit(folder, "rigl-*", section, **value)
    with pytest.raises(UserError, match=found):
        _arms(folder)


def test_an_arm_that_was_trained_in_two_ways_is_refused(folder):
    _edit(folder, "rigl-seed4", "sparsity", drop_fraction=0.1)
    with pytest.raises(UserError, match="drop_fraction"):
        _arms(folder)


def test_the_same_weights_under_another_seed_are_no_sample_and_are_named(folder):
    shutil.rmtree(folder / "rigl-seed4")
    shutil.copytree(folder / "rigl-seed0", folder / "rigl-seed4")
    _edit(folder, "rigl-seed4", None, seed=4)
    arms, left = _arms(folder)
    assert arms[RIGL].seeds == (0, 1, 2, 3)
    assert left == ["rigl-seed4: the same training as rigl-seed0"]


@pytest.mark.parametrize("lost", ["summary.json", "robustness.csv", "config.json"])
def test_a_run_that_does_not_count_is_named(folder, lost):
    (folder / "rigl-seed2" / lost).unlink()
    arms, left = _arms(folder)
    assert arms[RIGL].seeds == (0, 1, 3, 4)
    assert _primary(arms)["rigl 0.5"][3] == "4"
    assert [text.split(":")[0] for text in left] == ["rigl-seed2"]


def test_a_run_whose_network_is_not_what_its_config_says_is_no_run_of_that_arm(folder):
    configs = [folder / f"{method}-seed0" / "config.json" for method in ("dense", "rigl")]
    texts = [path.read_text() for path in configs]
    for path, text in zip(configs, reversed(texts), strict=True):
        path.write_text(text)
    arms, left = _arms(folder)
    assert arms[DENSE].seeds == arms[RIGL].seeds == (1, 2, 3, 4)
    assert len(left) == 2


def test_the_runs_of_one_study_are_not_tested_as_another(kept, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["study_tests", "cifar10_mlp", str(kept)])
    with pytest.raises(SystemExit) as end:
        study_tests.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("study_tests: runs: found resnet20 on digits")


def test_a_cell_of_fewer_runs_says_so(folder):
    shutil.rmtree(folder / "rigl-seed1" / "analysis")
    arms, _ = _arms(folder)
    row = next(r for r in study_tests.outcome_table(arms).splitlines() if "rigl" in r)
    assert row.count("(n = 4)") == 2
    assert "| 5 |" in row
