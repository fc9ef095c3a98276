"""Run directories of earlier versions, stopped half-way: resumed, evaluated, analysed, reported.

`fixtures/README.md` says how they were made. `whole.npz` is the final state of the same run of that
version in one go, `whole.jsonl` its record.
"""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import runs

from dst_jax import config as config_lib
from dst_jax.runtime import checkpoint, environment

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = ["version_0.1.0", "before_0.1.0"]


def call(workdir, cache_dir, *arguments):
    return runs.run(
        [sys.executable, "run.py", f"--workdir={workdir}", f"--cache_dir={cache_dir}", *arguments]
    )


@pytest.fixture(scope="module", params=VERSIONS)
def resumed(request, tmp_path_factory, cache_dir):
    """A copy of the directory, trained to its end by the directory alone."""
    fixture = FIXTURES / request.param
    workdir = tmp_path_factory.mktemp("old") / "run"
    shutil.copytree(fixture / "run", workdir)
    done = call(workdir, cache_dir, "--mode=train")
    assert done.returncode == 0, done.stderr
    return fixture, workdir


def leaves(state):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def test_it_ends_with_the_state_that_its_version_ended_with(resumed):
    fixture, workdir = resumed
    found = leaves(checkpoint.read(workdir / "checkpoints"))
    first, *_, last = environment.starts(workdir)
    assert (first.get("step", 0), last["step"]) == (0, 55)
    same = all(
        first["versions"][name] == last["versions"][name] for name in ("jax", "jaxlib", "numpy")
    )
    with np.load(fixture / "whole.npz") as whole:
        names = [name for name in whole.files if not name.startswith("window/")]  # empty at the end
        assert set(names) <= set(found)
        for name in names:
            if same and first["hardware"] == last["hardware"]:
                np.testing.assert_array_equal(found[name], whole[name], err_msg=name)
            elif whole[name].dtype == np.uint8:  # other kernels: nearly all masks are the same
                assert (found[name] != whole[name]).mean() < 0.02, name
            else:
                np.testing.assert_allclose(found[name], whole[name], atol=0.02, err_msg=name)


def test_its_record_goes_on(resumed):
    fixture, workdir = resumed
    lines = [json.loads(line) for line in (fixture / "whole.jsonl").read_text().splitlines()]
    for found, old in zip(runs.record(workdir), lines, strict=True):
        assert found["step"] == old["step"]
        for name in ("loss", "accuracy", "density", "mask_churn"):
            assert found.get(name) == pytest.approx(old.get(name), abs=0.02), (old["step"], name)
        # A window that an earlier version began leaves out what it did not count; none is wrong.
        for name in ("regrown_same", "grown_survival"):
            assert 0 <= found.get(name, 0) <= 1, (old["step"], name)
        assert np.isfinite(list(found.values())).all()


def test_it_is_evaluated_analysed_and_reported(resumed, cache_dir):
    _, workdir = resumed
    before = (workdir / "config.json").read_bytes()
    few = ("--corruptions=contrast", "--severities=1,5", "--max_images=64")
    done = call(workdir, cache_dir, "--mode=evaluate", *few)
    assert done.returncode == 0, done.stderr
    assert "contrast" in done.stdout
    assert call(workdir, cache_dir, "--mode=describe").returncode == 0
    done = call(workdir, cache_dir, "--mode=report")
    assert done.returncode == 0, done.stderr
    assert "rigl" in done.stdout
    assert (workdir / "config.json").read_bytes() == before


@pytest.mark.parametrize("version", VERSIONS)
def test_with_its_card_it_is_the_same_run(version, tmp_path, cache_dir):
    shutil.copytree(FIXTURES / version / "run", tmp_path / "run")
    command = json.loads((tmp_path / "run" / "environment.json").read_text())["command"]
    options = [part for part in command.split() if part.startswith("--config.")]
    if version == "before_0.1.0":  # before the card gave a width
        options.append("--config.model.width=8")
    card = "--config=tests/fixtures/digits_of_0_1_0.py"
    done = call(tmp_path / "run", cache_dir, card, "--mode=train", *options)
    assert done.returncode == 0, done.stderr
    changed = call(
        tmp_path / "run", cache_dir, card, "--mode=train", *options, "--config.train.ema=0.9"
    )
    assert changed.returncode == 2
    assert "config.train.ema was 0.0 and is 0.9" in changed.stderr


def test_a_config_of_an_earlier_version_is_completed_in_steps():
    old = json.loads((FIXTURES / "before_0.1.0" / "run" / "config.json").read_text())
    assert not {"ema", "decay_every"} & set(old["train"])
    found = config_lib.completed(old)
    assert found["train"]["ema"] == 0.0
    assert found["train"]["decay_every"] == round(2.4 * old["train"]["steps_per_epoch"])
    assert found["eval"]["suite"] == "common"
    assert config_lib.completed(found) == found
    assert config_lib.differences(old, found) == []
