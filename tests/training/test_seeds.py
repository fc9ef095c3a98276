"""Several seeds in one program: each run is what it would be alone, also after a kill."""

import json
import shutil

import jax
import numpy as np
import pytest
import runs

from dst_jax import config, run_configs
from dst_jax.errors import UserError
from dst_jax.runtime import checkpoint
from dst_jax.runtime.run_dir import claim
from dst_jax.training import loop

pytestmark = pytest.mark.usefixtures("compiled_in_full", "on_one_device")


def trained(workdir, cache_dir, seeds, **changes):
    """The final states of runs trained together, by seed."""
    configs = [runs.small_config(seed=seed, **changes) for seed in seeds]
    workdirs = [workdir / f"seed{seed}" for seed in seeds]
    for path, resolved in zip(workdirs, configs, strict=True):
        claim(path, resolved)
    loop.train(configs, workdirs, None, cache_dir)
    return {
        seed: checkpoint.read(path / "checkpoints")
        for seed, path in zip(seeds, workdirs, strict=True)
    }


def assert_same(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def together(tmp_path_factory, cache_dir):
    workdir = tmp_path_factory.mktemp("together")
    return workdir, trained(workdir, cache_dir, (3, 4))


@pytest.mark.parametrize("seed", [3, 4])
def test_a_run_is_bit_for_bit_what_it_is_alone(tmp_path, cache_dir, together, seed):
    workdir, states = together
    alone = trained(tmp_path, cache_dir, (seed,))
    assert_same(alone[seed], states[seed])
    paths = [path / f"seed{seed}" for path in (tmp_path, workdir)]
    assert runs.record(paths[0]) == runs.record(paths[1])
    assert [json.loads((path / "config.json").read_text())["num_seeds"] for path in paths] == [1, 1]


def test_seeds_differ_in_everything(together):
    _, states = together
    masks = [jax.tree.leaves(state["sparse"]["masks"]) for state in states.values()]
    differ = [(a != b).any() for a, b in zip(*masks, strict=True) if not a.all()]
    assert differ
    assert all(differ)


def test_runs_that_a_kill_left_apart_end_with_the_same_bits(tmp_path, cache_dir, together):
    workdir, states = together
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.iterdir():
        (path / "summary.json").unlink()
    saved = sorted((tmp_path / "seed4" / "checkpoints").iterdir(), key=lambda path: path.name)
    shutil.rmtree(next(path for path in saved if path.name == "44"))  # one run is a save behind
    assert_same(trained(tmp_path, cache_dir, (3, 4)), states)
    assert all((path / "summary.json").exists() for path in tmp_path.iterdir())


def test_a_config_of_several_seeds_becomes_runs_with_their_own_names(tmp_path):
    card = config.default()
    card.seed, card.num_seeds = 5, 3
    planned = run_configs.seeds_of(tmp_path, "", card)
    assert [(path.name, run.seed, run.num_seeds) for path, run in planned.items()] == [
        ("seed5", 5, 1),
        ("seed6", 6, 1),
        ("seed7", 7, 1),
    ]
    assert tmp_path / "rigl-seed5" in run_configs.seeds_of(tmp_path, "rigl", card)
    card.num_seeds = 1
    assert run_configs.seeds_of(tmp_path, "rigl", card) == {tmp_path / "rigl": card}


def test_what_cannot_be_trained_together_is_refused(tmp_path):
    card = config.default()
    card.num_seeds, card.checkpoint.keep = 2, 1
    with pytest.raises(UserError, match=r"config.checkpoint.keep: found 1; expected at least 2"):
        run_configs.seeds_of(tmp_path, "", card)
