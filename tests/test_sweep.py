"""Sweeps: the plan in words, the names of the runs, and one run by its index."""

import fcntl
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runs

from dst_jax import config as config_lib
from dst_jax import run_configs, sweep
from dst_jax.errors import UserError
from dst_jax.runtime.run_dir import locked, write_json


def progress(path, evaluated=True):
    return sweep.progress(path, {"train": {"steps": 40}}, lambda config, path: evaluated)


def test_how_far_a_run_is(tmp_path):
    assert progress(tmp_path / "none").state == "not begun"
    (tmp_path / "checkpoints" / "16").mkdir(parents=True)
    (tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp-1").mkdir()
    assert progress(tmp_path).state == "step 16 of 40"
    with locked(tmp_path):
        assert progress(tmp_path).state == "running, step 16 of 40"
    write_json(tmp_path / "summary.json", {"step": 40, "seconds": 3700.0})
    assert progress(tmp_path, evaluated=False).state == "trained, not evaluated to the end"
    assert not progress(tmp_path, evaluated=False).finished
    assert progress(tmp_path).state == "finished, 40 steps in 1:01:40"


def test_a_run_starts_while_others_ask_whether_it_runs(tmp_path):
    """The old probe took the lock: about one start in twenty of these was refused."""
    probe = f"""
from pathlib import Path
from dst_jax.sweep import is_running
is_running(Path({str(tmp_path)!r}))
print("ready", flush=True)
while True:
    is_running(Path({str(tmp_path)!r}))
"""
    with locked(tmp_path):
        assert sweep.is_running(tmp_path)
    prober = subprocess.Popen(
        [sys.executable, "-c", probe], cwd=runs.ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert prober.stdout.readline() == "ready\n"
        refused = starts = 0
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            starts += 1
            try:
                with locked(tmp_path):
                    pass
            except UserError:
                refused += 1
        assert prober.poll() is None
    finally:
        prober.kill()
        prober.communicate()
    assert (refused, starts > 1000) == (0, True)


def test_two_that_ask_whether_a_run_is_running_do_not_see_each_other(tmp_path):
    (tmp_path / ".lock").touch()
    with open(tmp_path / ".lock") as other:  # another program in the middle of its probe
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not sweep.is_running(tmp_path)
    with open(tmp_path / ".lock", "w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert sweep.is_running(tmp_path)
        with pytest.raises(UserError, match="in use by another run"), locked(tmp_path):
            pass
    assert not sweep.is_running(tmp_path)


def test_the_cost_is_not_known_before_a_run_is_done():
    new = sweep.RunStatus(100, 0, None, False, False)
    done = sweep.RunStatus(100, 100, 50.0, True, False)
    begun = sweep.RunStatus(100, 40, None, False, False)
    text = sweep.describe("x", [{"a": new}, {"b": begun}])
    assert text.startswith("sweep x: 2 runs, 0 finished\n    0  a  not begun\n    1  b  step 40")
    assert text.endswith("cost: 160 steps to train; the time is not known until one run is done")
    text = sweep.describe("x", [{"a": new}, {"b": begun}, {"c": done}])
    assert "about 0:01:20 one run after another at the 2 steps/s of the 1 trained run;" in text
    assert sweep.describe("x", [{"c": done}]).endswith("cost: nothing left to train")


def test_an_index_beyond_the_sweep_is_refused():
    assert list(sweep.chosen(3, sweep.Sweep(name="x", index=2))) == [2]
    with pytest.raises(UserError, match=r"--sweep_index: found 3; expected 0 to 2"):
        sweep.chosen(3, sweep.Sweep(name="x", index=3))


# --- names ---


def planned(*members, **changes):
    """The names of a sweep of these members, and the directories of their runs."""
    config = config_lib.default()
    config.sparsity.algorithm = "rigl"
    for name, value in changes.items():
        config[name] = value
    runs = sweep.plan(config, sweep.Sweep(lists={"x": members}, name="x"))
    paths = [run_configs.seeds_of(Path("w"), name, member) for name, member in runs]
    return [name for name, _ in runs], [str(path) for group in paths for path in group]


ALGORITHM, SPARSITY = "sparsity.algorithm", "sparsity.sparsity"


def test_a_value_of_another_option_is_named_with_its_option():
    names, paths = planned(
        {ALGORITHM: "rigl", "sparsity.drop_fraction": 0.3, "seed": 0},
        {ALGORITHM: "rigl", SPARSITY: 0.3, "seed": 0},
        {ALGORITHM: "rigl", "sparsity.initial_density": 0.9, "seed": 0},
        {ALGORITHM: "rigl", "train.batch_size": 64},  # eval has a batch_size too
        {ALGORITHM: "rigl", "eval.batch_size": 64},
        {"eval.seed": 1},
        {"seed": 1},
    )
    assert names == [
        *("rigl-drop_fraction=0.3-0", "rigl-0.3-0", "rigl-initial_density=0.9-0"),
        *("rigl-train.batch_size=64", "rigl-eval.batch_size=64", "eval.seed=1", "1"),
    ]
    assert paths == [f"w/{name}" for name in names]
    assert planned({}) == (["card"], ["w/card"])  # not the directory of the sweep itself


@pytest.mark.parametrize(
    ("members", "found"),
    [
        (
            [{SPARSITY: 0.0}, {"seed": 2}, {"seed": 0}],
            "runs 0 {'sparsity.sparsity': 0.0} and 2 {'seed': 0}",
        ),
        (
            [{"sparsity.exclude": "a/b"}, {"sparsity.exclude": "a_b"}],
            "runs 0 {'sparsity.exclude': 'a/b'} and 1 {'sparsity.exclude': 'a_b'}, of the same "
            "name, exclude=a_b",
        ),
        (
            [{"seed": 1}, {ALGORITHM: "rigl", "seed": 1}],
            "runs 0 {'seed': 1} and 1 {'sparsity.algorithm': 'rigl', 'seed': 1}, with the same",
        ),
        (
            [{"num_seeds": 3}, {"seed": 2}],
            "runs 0 {'num_seeds': 3} and 1 {'seed': 2}, with the same options",
        ),
    ],
)
def test_members_that_would_be_one_run_are_refused_in_a_line_that_names_both(members, found):
    members = [dict(member) for member in members]
    if SPARSITY in members[0]:
        members[0][SPARSITY] = 0  # a whole number, so that its name is that of seed 0
        found = found.replace("0.0", "0")
    with pytest.raises(UserError) as error:
        planned(*members)
    text = str(error.value)
    assert text.startswith(f"--sweep=x: found {found}")
    assert "\n" not in text


def test_a_value_makes_one_directory_whatever_is_in_it():
    names, paths = planned(
        {"sparsity.exclude": ".*/kernel|../x y"},
        {"train.milestones": ("50%", "75%")},
        {"eval.frost_dir": "/data/frost"},
        {ALGORITHM: ".."},
    )
    assert names[:3] == [
        *("exclude=._kernel_.._x_y", "milestones=50%,75%", "frost_dir=_data_frost")
    ]
    assert all(path.count("/") == 1 for path in paths)
    assert names[3] not in (".", "..")
    assert not Path(paths[3]).is_relative_to("w/..")


def test_several_seeds_of_a_member_are_directories_named_after_their_seeds():
    names, paths = planned(
        {ALGORITHM: "dense", "num_seeds": 2},
        {ALGORITHM: "rigl", "num_seeds": 2, "seed": 3},
        {ALGORITHM: "rigl", "num_seeds": 2, "seed": 7},
    )
    assert names == ["dense", "rigl", "rigl"]
    runs = ("dense-seed0", "dense-seed1", "rigl-seed3", "rigl-seed4", "rigl-seed7", "rigl-seed8")
    assert paths == [f"w/{name}" for name in runs]


def test_a_member_with_a_value_of_the_wrong_kind_is_one_line():
    with pytest.raises(UserError) as error:
        planned({"sparsity.update_freq": ("100",)})
    assert str(error.value).startswith("--sweep=x: sparsity.update_freq: found ('100',); expected")
    with pytest.raises(UserError, match="--sweep=x: num_seeds: found 0; expected at least 1"):
        planned({"num_seeds": 0})


def test_the_sweeps_of_the_cards_keep_the_names_of_their_runs():
    def names(card, name):
        module = importlib.import_module(f"configs.{card}")
        lists = sweep.Sweep(lists=module.SWEEPS, name=name)
        return [run for run, _ in sweep.plan(module.get_config(), lists)]

    figure2 = names("cifar100_resnet34", "figure2")
    assert figure2[:4] == ["dense-0", "dense-1", "dense-2", "set-0.3-0"]
    assert figure2[-1] == "granet_g-0.7-2"
    assert names("imagenet_resnet50", "table1")[3] == "rigl-0.1-0"
    assert names("digits_rigl", "paper")[3] == "set-0.5-0"
    assert names("cifar10_resnet20", "methods")[-1] == "rigl-2"
    assert "dense-width=50-0" in names("cifar100_resnet34", "ablation")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sweep_index=0"], "--sweep_index: found no sweep; expected --sweep=NAME"),
        (["--mode=plan"], "--mode=plan: found no sweep"),
        (["--launcher=local"], "--launcher: found no sweep"),
        (
            ["--sweep=demo", "--launcher=local", "--sweep_index=1"],
            "--sweep_index: found --launcher as well",
        ),
        (["--sweep=demo", "--launcher_options=jobs=2"], "--launcher_options: found no launcher"),
        (["--sweep=demo", "--launcher=local", "--mode=train"], "--launcher: found --mode=train"),
        (["--sweep=demo", "--sweep_index=9"], "--sweep_index: found 9; expected 0 to 1"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(arguments, text, tmp_path, cache_dir):
    done = runs.run(runs.command(tmp_path, cache_dir, *arguments))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert text in done.stderr
    assert not list(tmp_path.iterdir())
