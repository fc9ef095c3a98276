"""Directories and names of runs, and the plan of a call."""

from pathlib import Path

import pytest

from dst_jax import config as config_lib
from dst_jax import places as places_lib
from dst_jax.errors import UserError
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


def test_default_directories_are_named_after_the_run():
    config = config_lib.default()
    path = places_lib.default_workdir("configs/digits_rigl.py", config, "")
    assert path == Path("runs/digits_rigl/dense-seed0")
    config.sparsity.algorithm = "rigl"
    path = places_lib.default_workdir("configs/digits_rigl.py", config, "")
    assert path == Path("runs/digits_rigl/rigl-0.5-seed0")
    assert places_lib.default_workdir("c/x.py", config, "demo") == Path("runs/x/demo")
