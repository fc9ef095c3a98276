"""A user's NumPy arrays give the masks, moments and weights that JAX arrays give, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dst_jax import sparsity
from tests.sparsity.conftest import random_like


def config(name, packed):
    return {
        "algorithm": name,
        "dist_type": "erk",
        "sparsity": 0.6,
        "update_freq": 2,
        "update_start_step": 2,
        "update_end_step": 8,
        "rng_seed": 3,
        "use_packed_masks": packed,
    }


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "name", ["set", "rigl", "mest_r", "granet_g", "gmp", "acdc", "snfs", "topkast", "magnitude"]
)
def test_a_whole_update_of_numpy_arrays(params, name, packed):
    updater = sparsity.create_updater_from_config(config(name, packed))
    tx = optax.adam(0.1)
    state = updater.init_state(params)._replace(inner_state=tx.init(params), count=jnp.int32(4))
    grads = random_like(params, 1)
    adam = state.inner_state[0]._replace(mu=random_like(params, 2), nu=grads)
    state = state._replace(inner_state=(adam, *state.inner_state[1:]))
    masked = updater.post_gradient_update(params, state)
    given = (state, masked, grads)
    compiled = jax.jit(updater.update_params_and_state)(*given)
    plain = updater.update_params_and_state(*jax.tree.map(np.asarray, given))
    plain, compiled = (
        jax.tree.leaves((found, state._replace(target_sparsities=None)))
        for found, state in (plain, compiled)
    )
    for ours, theirs in zip(plain, compiled, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("sparsity_type", [None, "block_2,2"])
def test_a_subclass_may_answer_with_numpy_arrays(params, sparsity_type):
    class Own(sparsity.RigL):
        def _get_drop_scores(self, sparse_state, params, grads):
            scores = super()._get_drop_scores(sparse_state, params, grads)
            return jax.tree.map(lambda s: np.asarray(jnp.sqrt(s)), scores)

    for kind in (Own, sparsity.RigL):
        updater = sparsity.create_updater_from_config(
            config("rigl", False) | {"sparsity_type": sparsity_type}
        )
        updater.__class__ = kind
        state = updater.init_state(params)._replace(count=jnp.int32(4))
        given = state, updater.post_gradient_update(params, state), random_like(params, 1)
        found = updater.update_state(*jax.tree.map(np.asarray, given))
        jax.tree.map(np.testing.assert_array_equal, found.masks, updater.update_state(*given).masks)
