"""Missing, unfinished and damaged runs are told in words, and the rest is drawn."""

import json
import re

import pytest
from run_directories import conditions, make

from dst_jax import report
from dst_jax.report import runs


@pytest.fixture
def good(tmp_path):
    return make(tmp_path, "dense", 0.0, rows=conditions(0.9, 0.5))


def lines(written: report.Report) -> list[str]:
    return [" ".join(line.split()) for line in written.text.splitlines()]


def test_planned_runs_without_directory_are_not_run(tmp_path, good):
    expected = [
        {"name": good.name, "algorithm": "dense", "sparsity": 0.0, "seed": 0},
        {"name": "rigl-a", "algorithm": "rigl", "sparsity": 0.5, "seed": 0},
        {"name": "rigl-b", "algorithm": "rigl", "sparsity": 0.5, "seed": 1},
    ]
    written = report.write([good], tmp_path / "out", expected)
    assert "dense 0 1 90.0 50.0 – – – 0.0" in lines(written)
    # Runs that are alike and lack the same share a row.
    assert [line for line in lines(written) if "not run" in line] == ["rigl 50 seeds 0, 1 not run"]


def test_planned_run_is_found_by_its_recipe(tmp_path, good):
    expected = [{"name": "elsewhere", "algorithm": "dense", "sparsity": 0.0, "seed": 0}]
    assert "not run" not in report.write([good], tmp_path / "out", expected).text


def test_only_planned_runs(tmp_path):
    expected = [{"name": "x", "algorithm": "rigl", "sparsity": 0.5, "seed": 0}]
    written = report.write([], tmp_path / "out", expected)
    assert "rigl 50 seed 0 not run" in lines(written)
    assert "No run has been evaluated yet." in written.text


def test_unfinished_and_unevaluated(tmp_path, good):
    directories = [
        good,
        make(tmp_path, "rigl", 0.5, upto=120),
        make(tmp_path, "set", 0.5),
        tmp_path / "gone",
    ]
    written = report.write(directories, tmp_path / "out")
    assert "rigl 50 seed 0 training not finished at step 120 of 400" in lines(written)
    assert "set 50 seed 0 not evaluated" in lines(written)
    assert "gone – – not run" in lines(written)
    page = written.html_path.read_text()
    assert "training not finished at step 120 of 400" in page


def test_scores_of_an_unfinished_run_are_not_averaged(tmp_path):
    directories = [
        make(tmp_path, "set", 0.5, 0, conditions(0.9, 0.5)),
        make(tmp_path, "set", 0.5, 1, conditions(0.9, 0.3), upto=80),
    ]
    found = lines(report.write(directories, tmp_path / "out"))
    first, second = [line for line in found if re.match(r"set .*50 1 90", line)]
    assert "set 50 1 90.0 50.0" in first
    assert "set (training not finished at step 80 of 400) 50 1 90.0 30.0" in second


JSON_FILES = ["config.json", "environment.json", "model.json", "summary.json"]


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b""])
def test_unreadable_json_is_read_as_a_problem(good, name, content):
    (good / name).write_bytes(content)
    run = runs.read(good)
    assert run.problems == (f"{name} is unreadable",)
    assert run.results


@pytest.mark.parametrize("name", JSON_FILES)
def test_unreadable_json_is_told(tmp_path, good, name):
    damaged = make(tmp_path, "rigl", 0.5, rows=conditions(0.9, 0.6))
    (damaged / name).write_text("{")
    written = report.write([good, damaged], tmp_path / "out")
    assert f"{name} is unreadable" in " ".join(lines(written))
    assert "dense 0 1 90.0 50.0 – – – 0.0" in lines(written)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x00\xff\x00", "robustness.csv is unreadable: a damaged table (no column suite"),
        (b"", "robustness.csv is unreadable: a damaged table (no column suite"),
        (b"suite,corruption,severity,n,accuracy\na,fog,1,10", "1 unreadable row, left out"),
        (
            b"suite,corruption,severity,n,accuracy\na,fog,1,10,nan\na,fog,x,1,1\n",
            "2 unreadable rows",
        ),
        (b"suite,corruption,severity,n,accuracy\na,fog,1,10,1.5\n", "1 unreadable row, left out"),
    ],
)
def test_unreadable_scores(tmp_path, good, content, problem):
    damaged = make(tmp_path, "rigl", 0.5)
    (damaged / "robustness.csv").write_bytes(content)
    assert any(problem in found for found in runs.read(damaged).problems)
    written = report.write([good, damaged], tmp_path / "out")
    assert problem in " ".join(lines(written))


def test_metrics_after_a_resume_and_a_torn_line(tmp_path):
    path = make(tmp_path, "rigl", 0.5, upto=120)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 80, "loss": 7.0}\n{"step": 160, "loss": NaN}\n{"step": 20')
    run = runs.read(path)
    assert [row["step"] for row in run.metrics] == [40, 80, 120, 160]
    assert run.metrics[1]["loss"] == 7.0
    assert run.problems == ("metrics.jsonl has 1 unreadable line, left out",)
    report.write([path], tmp_path / "out")


def test_clean_scores_only(tmp_path, good):
    clean = make(tmp_path, "rigl", 0.5, rows=conditions(0.8, {}))
    written = report.write([good, clean], tmp_path / "out")
    assert "rigl 50 1 80.0 – – – – 50.0" in lines(written)
    assert "rigl-0.5-0 was evaluated on clean images only." in " ".join(lines(written))


def test_no_condition_in_common(tmp_path):
    directories = [
        make(tmp_path, "dense", 0.0, rows=conditions(0.9, {("fog", 1): 0.5})),
        make(tmp_path, "rigl", 0.5, rows=conditions(0.9, {("gaussian_noise", 1): 0.5})),
    ]
    text = " ".join(report.write(directories, tmp_path / "out").text.split())
    assert "50.0 (incomplete: 1 of 4 conditions, without gaussian_noise) –" in text
    assert "rigl 50 % has no dense baseline: dense was scored on 1 conditions, this" in text
    assert "verdict" in text
    assert "holds" not in text


def test_a_config_of_an_older_version_is_completed_and_told(tmp_path, good):
    old = make(tmp_path, "rigl", 0.5, rows=conditions(0.9, 0.6))
    config = json.loads((old / "config.json").read_text())
    del config["train"]["ema"], config["num_seeds"]
    config["sparsity"]["gone_since"] = 3
    (old / "config.json").write_text(json.dumps(config))
    run = runs.read(old)
    assert run.problems == (
        "config.json is of another version: it lacks num_seeds, train.ema, read at the default and "
        "has sparsity.gone_since, not known here",
    )
    assert run.config["num_seeds"] == 1
    written = report.write([good, old], tmp_path / "out")
    assert "rigl 50 1 90.0 60.0 +10.0 – one seed: no verdict 50.0" in lines(written)
    assert "config.json is of another version" in " ".join(lines(written))


def test_two_seeds_are_one_method_though_an_older_version_wrote_one(tmp_path):
    old, new = (make(tmp_path, "set", 0.5, seed, conditions(0.9, 0.5)) for seed in (0, 1))
    config = json.loads((old / "config.json").read_text())
    del config["model"]["depth"]
    (old / "config.json").write_text(json.dumps(config))
    assert "set 50 2 90.0 ± 0.0" in " ".join(lines(report.write([old, new], tmp_path / "out")))


def test_the_config_of_another_program_is_told(tmp_path, good):
    foreign = make(tmp_path, "rigl", 0.5, rows=conditions(0.9, 0.6))
    (foreign / "config.json").write_text('{"architectures": ["ResNet"], "sparsity": {"x": 1}}')
    assert runs.read(foreign).problems == ("config.json is not that of a run of dst_jax",)
    written = report.write([good, foreign], tmp_path / "out")
    assert "is not that of a run of dst_jax" in " ".join(lines(written))
    assert "dense 0 1 90.0 50.0 – – – 0.0" in lines(written)


def test_a_checkpoint_of_another_step_is_told(tmp_path, good):
    assert runs.read(good).checkpoint is None
    for step in ("80", "120", "120.orbax-checkpoint-tmp"):
        (good / "checkpoints" / step).mkdir(parents=True)
    run = runs.read(good)
    assert run.checkpoint == 120
    assert run.problems == ("checkpoints/ is of step 120, the training ended at step 400",)
    (good / "checkpoints" / "400").mkdir()
    assert runs.read(good).problems == ()
