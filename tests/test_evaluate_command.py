"""`run.py --mode=evaluate` and what comes after a training: flags of one call, tables, no work."""

import dataclasses
import json
import shutil
import sys

import jax
import numpy as np
import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import evaluate, experiment, run_configs, stages
from dst_jax.analysis import network_facts
from dst_jax.config.options import OPTIONS
from dst_jax.errors import UserError
from dst_jax.paths import RunPaths
from dst_jax.robustness import evaluation, storage
from dst_jax.runtime.run_dir import checkpoint_steps
from dst_jax.sweep import Sweep

pytestmark = pytest.mark.usefixtures("on_one_device")

CHANGES = {"model.name": "mlp", "train.epochs": 0.25, "train.warmup": "0", "checkpoint.every": "5"}


def card():
    config = config_lib.default()
    for name, value in {**runs.SMALL, "sparsity.algorithm": "rigl", **CHANGES}.items():
        config_lib.set_option(config, name, value)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache_dir):
    """A finished run, evaluated as its config says: one corruption, severities 1 and 5."""
    run_paths = RunPaths(tmp_path_factory.mktemp("trained") / "run", None, cache_dir)
    experiment.run(card(), run_paths, mode="train")
    text = experiment.run(card(), run_paths, mode="evaluate")
    return run_paths, text


@pytest.fixture
def copy(trained, tmp_path):
    run_paths, _ = trained
    shutil.copytree(run_paths.workdir, tmp_path / "run")
    return RunPaths(tmp_path / "run", None, run_paths.cache_dir)


def test_every_option_of_eval_is_a_flag():
    done = runs.run([sys.executable, "run.py", "--help"])
    longer = {"batch_size": "eval_batch_size", "seed": "eval_seed"}
    names = [name.removeprefix("eval.") for name in OPTIONS if name.startswith("eval.")]
    assert {"corruptions", "severities", "source"} < set(names)
    for name in names:
        assert f"--{longer.get(name, name)}: " in done.stdout.replace("--[no]", "--")


def test_flags_of_one_call_are_not_the_runs_own(copy, monkeypatch):
    before = (copy.workdir / "config.json").read_bytes()
    asked = []
    complete = evaluate.complete

    def spy(config, *arguments):
        asked.append(config["eval"])
        return complete(config, *arguments)

    monkeypatch.setattr(evaluate, "complete", spy)
    experiment.run(None, copy, mode="evaluate", evaluation={"max_images": 8})
    assert asked[-1]["max_images"] == 8
    assert asked[-1]["corruptions"] == ["gaussian_noise"]  # a number of images is no suite
    text = experiment.run(None, copy, mode="evaluate")
    assert asked[-1]["max_images"] == 0
    assert (copy.workdir / "config.json").read_bytes() == before
    assert {result.n for result in storage.load_all(copy.workdir)} == {8, 360}
    assert "360" in text
    # A card's own options of evaluation are for the call as well.
    changed = card()
    changed.eval.max_images = 16
    experiment.run(changed, copy, mode="evaluate")
    assert asked[-1]["max_images"] == 16
    assert (copy.workdir / "config.json").read_bytes() == before


def test_predictions_of_a_scored_run_are_kept_afterwards(copy):
    before = (copy.workdir / "robustness.csv").read_bytes()
    text = experiment.run(None, copy, mode="evaluate", evaluation={"keep": "top5"})
    assert "top-5 " in text
    (result,) = storage.load_all(copy.workdir)
    assert result.top_k(1) == pytest.approx(result.robust_accuracy)
    assert result.confusion().sum() == result.n * len(result.conditions)
    assert (copy.workdir / "robustness.csv").read_bytes() == before
    assert experiment.run(None, copy, mode="evaluate", evaluation={"keep": "top5"}) == text


@pytest.mark.parametrize("suite", ["c_bar_cifar", "common"])
def test_a_suite_that_is_named_is_meant_whole(trained, suite):
    run_paths, _ = trained
    run = run_configs.of_call(None, run_paths.workdir, run_paths, {"suite": suite, "max_images": 8})
    assert run.config["eval"]["corruptions"] == ["gaussian_noise"]
    wanted = evaluate.plan(run.for_evaluation, None)
    assert len({condition.corruption for condition in wanted.conditions}) > 10
    assert {condition.severity for condition in wanted.conditions} == {0, 1, 2, 3, 4, 5}
    given = {"suite": suite, "severities": (3,)}
    run = run_configs.of_call(None, run_paths.workdir, run_paths, given)
    wanted = evaluate.plan(run.for_evaluation, None)
    assert {condition.severity for condition in wanted.conditions} == {0, 3}


def test_the_documented_command_scores_another_suite(copy):
    done = runs.run(
        [
            *(sys.executable, "run.py", "--mode=evaluate", f"--workdir={copy.workdir}"),
            *(f"--cache_dir={copy.cache_dir}", "--suite=c_bar_cifar", "--severities=1,2"),
            *("--corruptions=checkerboard_cutout,sparkles", "--eval_batch_size=100"),
        ]
    )
    assert done.returncode == 0, done.stderr
    assert "checkerboard_cutout" in done.stdout
    assert "sparkles" in done.stdout


def test_an_evaluation_ends_with_the_table_of_each_run(trained, tmp_path):
    run_paths, text = trained
    assert f"{run_paths.workdir}\n" in text
    (table,) = storage.load_all(run_paths.workdir)
    assert text.endswith(table.table())
    for name in ("one", "two"):
        shutil.copytree(run_paths.workdir, tmp_path / name)
    several = experiment.run(None, RunPaths(tmp_path, None, run_paths.cache_dir), mode="evaluate")
    assert several.count(table.table()) == 2
    assert f"{tmp_path / 'two'}\n" in several


def test_the_runs_of_a_directory_are_scored_side_by_side(trained, tmp_path, monkeypatch, capsys):
    run_paths, _ = trained
    names = ["one", "three", "two"]
    for name in names:
        shutil.copytree(run_paths.workdir, tmp_path / name)
    asked = []
    real = evaluation.evaluate_models

    def spy(predicts, *arguments, **options):
        asked.append(sorted(predicts))
        return real(predicts, *arguments, **options)

    monkeypatch.setattr(evaluation, "evaluate_models", spy)
    several = RunPaths(tmp_path, None, run_paths.cache_dir)
    text = experiment.run(None, several, mode="evaluate", evaluation={"seed": 7})
    assert asked == [names]
    (own,) = (result for result in storage.load_all(tmp_path / "one") if result.setting.seed == 7)
    assert text.count(own.table()) == 3
    # One that cannot be scored does not stop the others.
    shutil.rmtree(tmp_path / "three" / "checkpoints")
    asked.clear()
    with pytest.raises(UserError, match="three"):
        experiment.run(None, several, mode="evaluate", evaluation={"seed": 8})
    assert asked == [["one", "two"]]
    assert "three is not evaluated: " in capsys.readouterr().out
    for name in ("one", "two"):
        assert 8 in {result.setting.seed for result in storage.load_all(tmp_path / name)}


def test_a_damaged_member_does_not_stop_the_others(trained, tmp_path, capsys):
    run_paths, _ = trained
    for name in ("nan", "odd", "unfinished", "whole"):
        shutil.copytree(run_paths.workdir, tmp_path / name)
    (tmp_path / "odd" / "config.json").write_text("{")
    (tmp_path / "unfinished" / "model.json").unlink()
    for name in ("model.json", storage.CSV, storage.NPZ, storage.JSON):
        (tmp_path / "nan" / name).unlink()
    step = max(checkpoint_steps(tmp_path / "unfinished"))
    shutil.rmtree(tmp_path / "unfinished" / "checkpoints" / str(step))
    several = RunPaths(tmp_path, None, run_paths.cache_dir)
    load = stages._load

    def poisoned(path):
        run = load(path)
        if path.name != "nan":
            return run
        params = jax.tree.map(lambda leaf: leaf * np.nan, run.params)
        return dataclasses.replace(run, params=params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_load", poisoned)
        patch.setattr(network_facts, "write", lambda run: None)
        with pytest.raises(UserError, match=r"odd/config\.json"):
            experiment.run(None, several, mode="evaluate", evaluation={"seed": 9})
    said = capsys.readouterr().out
    assert "odd is not evaluated: " in said
    assert "unfinished is not evaluated: " in said
    assert "nan is not evaluated: predict gives NaN for " in said
    assert "whole is not" not in said
    assert not (tmp_path / "unfinished" / "model.json").exists()
    seeds = {n: {r.setting.seed for r in storage.load_all(tmp_path / n)} for n in ("nan", "whole")}
    assert seeds == {"nan": set(), "whole": {0, 9}}


def test_what_is_finished_is_not_loaded(copy, monkeypatch):
    config = card()
    config.analysis.parts = ("weights",)
    config.analysis.images = 16
    experiment.run(config, copy, mode="analyze")
    loaded = []
    load = stages._load
    monkeypatch.setattr(stages, "_load", lambda path: loaded.append(path) or load(path))
    monkeypatch.setattr(experiment, "_report", lambda *_: "")
    experiment.run(config, copy, mode="all")
    experiment.run(config, copy, mode="evaluate")
    experiment.run(config, copy, mode="analyze")
    assert loaded == []
    (copy.workdir / "analysis" / "weights.npz").unlink()
    (copy.workdir / "model.json").unlink()
    experiment.run(config, copy, mode="all")
    assert loaded == [copy.workdir]  # once, for both
    assert (copy.workdir / "model.json").exists()
    assert (copy.workdir / "analysis" / "weights.npz").exists()


@pytest.mark.parametrize("mode", ["evaluate", "analyze", "describe"])
def test_an_algorithm_of_a_file_needs_its_import(copy, mode):
    path = copy.workdir / "config.json"
    config = json.loads(path.read_text())
    config["sparsity"]["algorithm"] = "of_my_card"
    path.write_text(json.dumps(config))
    expected = r"config.json: sparsity.algorithm: found of_my_card, .* add --import=FILE.py"
    with pytest.raises(UserError, match=expected):
        experiment.run(None, copy, mode=mode)


def test_a_run_remembers_where_its_data_were(copy, tmp_path):
    data_dir = tmp_path / "tfds"
    data_dir.mkdir()
    path = copy.workdir / "environment.json"
    found = json.loads(path.read_text())
    assert found["starts"][0]["data_dir"] is None
    found["starts"][0]["data_dir"] = str(data_dir)
    path.write_text(json.dumps(found))
    assert run_configs.of_call(None, copy.workdir, copy, {}).data_dir == str(data_dir)
    given = RunPaths(copy.workdir, "elsewhere", copy.cache_dir)
    assert run_configs.of_call(None, copy.workdir, given, {}).data_dir == "elsewhere"
    data_dir.rmdir()
    assert run_configs.of_call(None, copy.workdir, copy, {}).data_dir is None


def test_a_set_of_another_size_than_published_is_told(trained, monkeypatch):
    from dst_jax import data

    run_paths, _ = trained
    run = run_configs.of_call(None, run_paths.workdir, run_paths, {})
    assert run_configs.sizes([run], run_paths, planning=False) == []
    counts = {"train": 1000, "test": 361}
    monkeypatch.setattr(data, "num_examples", lambda dataset, split, *_: counts[split])
    assert run_configs.sizes([run, run], run_paths, planning=False) == [
        "data: digits has 1,000 training images here, fewer than the 1,437 published",
        "data: digits has 361 test images here, more than the 360 published",
    ]


def test_a_plan_needs_no_data_and_says_what_the_trainings_take(tmp_path):
    import importlib

    module = importlib.import_module("configs.cifar10_resnet20")
    members = [{"sparsity.algorithm": "dense"}, {"sparsity.algorithm": "rigl"}]
    sweep = Sweep(lists={"two": members}, name="two")
    run_paths = RunPaths(tmp_path / "runs", str(tmp_path / "none"), tmp_path / "cache")
    text = experiment.run(module.get_config(""), run_paths, mode="plan", sweep=sweep)
    assert "data: cifar10 is not prepared here: taken as published, 50,000 training images" in text
    assert "10,000 test images" in text
    assert "sweep two: 2 runs, 0 finished" in text
    for kind in ("memory", "arithmetic", "time: at best"):
        assert f"estimate of {kind}" in text
    with pytest.raises(UserError, match="the TFDS dataset cifar10, prepared"):
        experiment.run(module.get_config(""), run_paths, mode="train", sweep=sweep)


@pytest.mark.parametrize("kept", [[5], []])
def test_a_finished_run_whose_last_checkpoint_is_lost_goes_on(copy, kept, trained, capsys):
    for path in (copy.workdir / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) not in kept:
            shutil.rmtree(path)
    scores = (copy.workdir / "robustness.csv").read_bytes()
    experiment.run(card(), copy)  # nothing is left to evaluate, so nothing is trained
    assert (copy.workdir / "robustness.csv").read_bytes() == scores
    assert not (copy.workdir / "checkpoints" / "11").exists()
    with pytest.raises(UserError, match=r"Finish it with --mode=train|Train it first with --mode"):
        experiment.run(None, copy, mode="evaluate", evaluation={"severities": (2,)})
    experiment.run(None, copy, mode="train")
    assert "its last checkpoint is lost, resuming from" in capsys.readouterr().out
    runs.assert_same_state(copy.workdir, trained[0].workdir)
    assert runs.record(copy.workdir) == runs.record(trained[0].workdir)
    assert (copy.workdir / "robustness.csv").read_bytes() == scores


def test_one_bad_run_does_not_keep_the_others_from_being_evaluated(copy, trained, tmp_path, capsys):
    other = tmp_path / "a_bad_one"
    shutil.copytree(copy.workdir, other)
    for path in (other / "checkpoints").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    both = RunPaths(tmp_path, None, copy.cache_dir)
    with pytest.raises(UserError, match="a_bad_one"):
        experiment.run(None, both, mode="evaluate", evaluation={"severities": (2,)})
    printed = capsys.readouterr().out
    assert "not evaluated: " in printed
    assert f"{copy.workdir}\ncommon: digits" in printed
    assert any(row.severity == 2 for r in storage.load_all(copy.workdir) for row in r.scores)
