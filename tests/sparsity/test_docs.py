"""The code blocks of docs/sparsity.md run, and its tables name what there is."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import config as config_lib
from dst_jax import sparsity
from dst_jax.sparsity import api

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "sparsity.md").read_text()
EXAMPLE, ALGORITHM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_example(params):
    def loss(params, batch):
        return sum(jnp.sum((p - batch) ** 2) for p in jax.tree.leaves(params))

    names = {"params": params, "loss": loss}
    exec(EXAMPLE, names)
    step, state, params = names["step"], names["state"], names["params"]
    first = [np.asarray(m) for m in jax.tree.leaves(state.masks)]
    for _ in range(3):
        params, state = step(params, state, 0.5)
    _, state = step(params, state._replace(count=jnp.int32(100)), 0.5)
    changed = [np.asarray(m) for m in jax.tree.leaves(state.masks)]
    assert [m.sum() for m in first] == [m.sum() for m in changed]
    assert any((a != b).any() for a, b in zip(first, changed, strict=True))


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
