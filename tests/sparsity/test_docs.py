"""The code blocks of docs/sparsity.md run, and its tables name what there is."""

import pathlib
import re

import jax.numpy as jnp
import pytest

from dst_jax import config as config_lib
from dst_jax import sparsity
from dst_jax.sparsity import api

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "sparsity.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ALGORITHM = next(block for block in BLOCKS if "register_algorithm" in block)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0])
def test_every_block_runs_as_written(block, monkeypatch, capsys):
    """With nothing defined before it."""
    if "equinox" in block:
        pytest.importorskip("equinox", reason="Equinox is not installed")
    monkeypatch.setattr(api, "ALGORITHM_REGISTRY", dict(api.ALGORITHM_REGISTRY))
    names = {}
    exec(block, names)
    if "layer_table" in block:
        assert capsys.readouterr().out.splitlines()[2].startswith("all maskable layers")
        assert any(names["updater"].is_mask_update(step) for step in range(20))


def test_your_own_algorithm(monkeypatch, params):
    monkeypatch.setattr(api, "ALGORITHM_REGISTRY", dict(api.ALGORITHM_REGISTRY))
    exec(ALGORITHM, {})
    updater = sparsity.create_updater_from_config(
        {
            "algorithm": "rigl_saliency",
            "dist_type": "uniform",
            "sparsity": 0.5,
            "update_freq": 1,
            "update_start_step": 0,
            "update_end_step": 9,
            "drop_fraction": 0.5,
        }
    )
    weights, grads = {"w": jnp.array([[4.0, 1.0], [0, 0]])}, {"w": jnp.array([[0.1, 9.0], [1, 2]])}
    state = sparsity.SparseState({"w": jnp.array([[1, 1], [0, 0]], jnp.uint8)}, count=jnp.int32(0))
    new = updater.update_state(state, weights, grads)
    assert new.masks["w"].tolist() == [[0, 1], [0, 1]]  # |w g| = 0.4 and 9: RigL would keep 4


@pytest.mark.parametrize("name", api.ALGORITHMS)
def test_every_method_is_in_the_table(name):
    family = {"global": "global_*"}.get(name.split("_")[0], "*_ste" if "_ste" in name else name)
    assert f"`{family}`" in PAGE


def test_every_option_is_in_the_table():
    for option in config_lib.OPTIONS:
        section, _, name = option.partition(".")
        if section == "sparsity" and name != "algorithm":
            assert f"`{name}`" in PAGE, name
