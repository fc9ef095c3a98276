"""Directories and names of runs, and the plan of a call."""

import importlib
import json
import os
import re
from pathlib import Path

import jax
import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import paths
from dst_jax.analysis import training_estimate
from dst_jax.errors import UserError
from dst_jax.runtime import environment, run_dir
from dst_jax.sweep import Sweep, plan


def test_a_sweep_changes_its_members_only():
    config = config_lib.default()
    lists = {"two": [{"seed": 1}, {"seed": 2, "model.name": "mlp"}]}
    planned = plan(config, Sweep(lists=lists, name="two"))
    assert [(name, member.seed) for name, member in planned] == [("1", 1), ("2-model.name=mlp", 2)]
    assert config.seed == 0


def test_a_sweep_that_names_no_option_is_refused():
    with pytest.raises(UserError, match="found 'sed'; expected an option"):
        plan(config_lib.default(), Sweep(lists={"x": [{"sed": 1}]}, name="x"))


CARDS = ["digits_rigl", "cifar10_resnet20", "resnet50_rigl"]


def directory(card, argument="", sweep="", **changes):
    path = f"configs/{card}.py"
    config = importlib.import_module(f"configs.{card}").get_config(argument)
    for name, value in changes.items():
        config_lib.set_option(config, name.replace("__", "."), value)
    return paths.default_workdir(path, config, sweep)


def test_default_directories_are_named_after_the_run():
    assert directory("digits_rigl") == Path("runs/digits_rigl/rigl-0.5-seed0")
    assert directory("digits_rigl", "algorithm=dense") == Path("runs/digits_rigl/dense-seed0")
    told = directory("digits_rigl", "algorithm=set,sparsity=0.8,seed=3")
    assert told == Path("runs/digits_rigl/set-0.8-seed3")
    assert directory("digits_rigl", sweep="demo") == Path("runs/digits_rigl/demo")


@pytest.mark.parametrize("card", CARDS)
def test_default_directories_tell_runs_apart(card):
    plain = directory(card)
    others = [
        directory(card, "tiny"),
        directory(card, "epochs=3"),
        directory(card, train__learning_rate=0.03),
        directory(card, train__learning_rate=0.04),
        directory(card, sparsity__drop_fraction=0.2),
    ]
    assert len({plain, *others}) == 6
    for other in others:
        assert re.fullmatch(f"{re.escape(plain.name)}-[0-9a-f]{{6}}", other.name)
    # What a second start on the same directory may change makes no other directory.
    assert directory(card, eval__max_images=8, checkpoint__keep=9, analysis__images=3) == plain
    # The name of a sweep does not tell algorithm and seed.
    sweep = directory(card, sweep="x")
    assert sweep != directory(card, sweep="x", seed=1) != directory(card, "tiny", "x")


def test_the_cache_of_programs_keeps_what_was_used_last(tmp_path):
    for age in range(6):
        path = tmp_path / f"program{age}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))
    paths._shrink(tmp_path, 350)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"program{age}-cache" for age in range(3)
    ]
    paths._shrink(tmp_path / "none", 350)


def test_a_call_bounds_the_cache_of_programs_but_not_one_that_the_user_bounds(
    tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(paths, "_shrink", lambda *arguments: asked.append(arguments))
    values = {name: getattr(jax.config, name) for name in CACHE_OPTIONS}
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        run_paths = paths.RunPaths(tmp_path, None, tmp_path)
        paths.prepare_jax(run_paths)
        assert asked == [(tmp_path / "xla", 2 << 30)]
        jax.config.update("jax_compilation_cache_dir", None)
        jax.config.update("jax_compilation_cache_max_size", 1 << 30)
        paths.prepare_jax(run_paths)
        assert len(asked) == 1
    finally:
        for name, value in values.items():
            jax.config.update(name, value)


CACHE_OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


# --- what a directory says of its starts ---


def test_every_start_of_a_run_is_kept(tmp_path, monkeypatch):
    old = {"command": "python run.py", "commit": "a", "versions": {}, "hardware": "1 x TPU"}
    (tmp_path / "environment.json").write_text(json.dumps({**old, "started": "2026"}))
    monkeypatch.setattr(environment, "commit", lambda: "b")
    environment.record_start(tmp_path, 55, "1 x cpu", None)
    monkeypatch.setattr(environment, "commit", lambda: "c")
    environment.record_start(tmp_path, 66, "1 x cpu", str(tmp_path))
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["commit"] == "a"
    assert found["hardware"] == "1 x TPU"
    assert [start["commit"] for start in found["starts"]] == ["a", "b", "c"]
    assert [start.get("step") for start in found["starts"]] == [None, 55, 66]
    assert found["starts"][-1]["deterministic_kernels"] is True  # this is a CPU
    assert environment.data_dir_of(tmp_path) == str(tmp_path)


def test_data_that_have_gone_are_not_looked_for_where_they_were(tmp_path):
    (tmp_path / "data").mkdir()
    environment.record_start(tmp_path, 0, "1 x cpu", str(tmp_path / "data"))
    assert environment.data_dir_of(tmp_path) == str(tmp_path / "data")
    (tmp_path / "data").rmdir()
    assert environment.data_dir_of(tmp_path) is None
    assert environment.data_dir_of(tmp_path / "none") is None


def test_a_damaged_record_of_starts_is_one_line(tmp_path):
    (tmp_path / "environment.json").write_text("[1]")
    with pytest.raises(UserError, match=r"environment.json: found no starts of a run; .* Delete"):
        environment.record_start(tmp_path, 0, "1 x cpu", None)
    assert (tmp_path / "environment.json").read_text() == "[1]"


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ("", False),
        ("--xla_gpu_autotune_level=0", False),
        ("--xla_gpu_deterministic_ops=true", True),
        ("--a=b --xla_gpu_exclude_nondeterministic_ops", True),
        ("--xla_gpu_deterministic_ops=true --xla_gpu_deterministic_ops=false", False),
    ],
)
def test_deterministic_kernels_on_gpus_are_those_asked_for(flags, asked, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert environment.deterministic_kernels() is asked
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert environment.deterministic_kernels() is True


def test_a_config_is_written_once(tmp_path):
    config = runs.small_config()
    run_dir.claim(tmp_path, config)
    before = (tmp_path / "config.json").read_bytes()
    other = {**config, "eval": {**config["eval"], "max_images": 8}}
    run_dir.claim(tmp_path, other)
    assert (tmp_path / "config.json").read_bytes() == before


# --- what a training will take ---


def test_an_estimate_counts_the_bytes_of_a_small_network():
    config = runs.small_config(model__name="mlp", model__width=4, train__ema=0.9)
    needs = training_estimate.needs(config)
    maskable = 3072 * 4 + 4 * 10  # a hidden layer and the classifier
    biases = 4 + 10
    assert needs.gradients == needs.optimizer == 4 * (maskable + biases)
    assert needs.parameters == 2 * needs.gradients  # and their running average
    assert needs.masks == 3 * maskable
    assert needs.images == 44 * 32 * (3072 + 4)
    assert needs.activations == 32 * 4 * (4 + 10)
    forward = 2 * maskable + 4  # and a ReLU
    assert needs.flops == pytest.approx(3 * forward * 32 * 44, rel=1e-3)
    streamed = training_estimate.needs(runs.small_config(data__input="stream", model__name="mlp"))
    assert streamed.images == 2 * 32 * (3072 + 4)


def test_an_estimate_says_so_and_needs_the_most_of_its_runs(monkeypatch):
    monkeypatch.setattr(training_estimate, "matmul_speed", lambda dtype: 1e6)
    small, large = (runs.small_config(model__name="mlp", model__width=w) for w in (4, 64))
    lines = training_estimate.text([small, large, {**large, "seed": 3}]).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "estimate of memory",
        "estimate of arithmetic",
        "estimate of time",
    ]
    assert training_estimate._size(training_estimate.needs(large).memory) in lines[0]
    total = sum(training_estimate.needs(config).flops for config in (small, large, large))
    assert f"{total:.3g} FLOPs for 3 runs" in lines[1]
    assert training_estimate._duration(total / 1e6) in lines[2]


def test_the_speed_of_a_product_is_that_of_this_machine():
    assert 1e7 < training_estimate.matmul_speed("float32") < 1e15


def test_a_run_and_a_directory_of_runs_are_not_mixed(tmp_path):
    config = runs.small_config()
    run_dir.claim(tmp_path / "sweep" / "one", config)
    with pytest.raises(UserError, match=r"found a directory of runs \(one\); expected the dir"):
        run_dir.claim(tmp_path / "sweep", config)
    (tmp_path / "sweep" / "one" / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="found the directory of one run; expected a directory for"):
        run_dir.claim(tmp_path / "sweep" / "one" / "two", config)
