"""NumPy arrays: masks are chosen on the host, the same bit for bit as in a compiled program."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dst_jax import sparsity
from dst_jax.sparsity import host_ranking, ranking
from tests.sparsity.conftest import random_like

floats = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, np.inf, -np.inf, np.nan, 1e-40])


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    hnp.arrays(np.float32, 24, elements=floats),
    hnp.arrays(np.uint8, 24, elements=st.integers(0, 1)),
    st.integers(0, 26),
    st.booleans(),
    st.booleans(),
)
def test_same_choice(scores, allowed, k, joint, random_ties):
    key = jax.random.key(3) if random_ties else None
    layers = [scores[:8].reshape(2, 4), scores[8:]]
    masks = [allowed[:8].reshape(2, 4), allowed[8:]]
    counts = k if joint else [k, k // 2]
    options = {"tie_key": key, "joint": joint}
    host = ranking.topk_masks(layers, counts, candidates=masks, **options)
    device = ranking.topk_masks(
        [jnp.asarray(s) for s in layers], counts, candidates=masks, **options
    )
    for ours, theirs in zip(host, device, strict=True):
        assert isinstance(ours, np.ndarray)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("values", ["normal", "mostly zero", "integers", "uint32", "bfloat16"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.97])
def test_large_layers(values, share):
    """Large enough for the sample to bracket the threshold, with ties that mislead it."""
    rng = np.random.default_rng(1)
    scores = rng.standard_normal(70_000, np.float32)
    if values == "mostly zero":
        scores *= rng.random(70_000) < 0.05
    if values == "integers":
        scores = (scores * 3).astype(np.int32)
    if values == "uint32":
        scores = rng.integers(0, 2**32, 70_000, np.uint32)
    if values == "bfloat16":
        scores = np.asarray(jnp.asarray(scores, jnp.bfloat16))
    allowed = (rng.random(70_000) < 0.6).astype(np.uint8)
    k, key = int(share * allowed.sum()), jax.random.key(0)
    host = ranking.exact_topk(scores, k, candidates=allowed, tie_key=key)
    device = ranking.exact_topk(jnp.asarray(scores), k, candidates=allowed, tie_key=key)
    assert host.sum() == k
    np.testing.assert_array_equal(host, device)
    keys = host_ranking.ranking_key(scores)
    np.testing.assert_array_equal(keys, np.maximum(ranking.ranking_key(jnp.asarray(scores)), 1))


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
def test_a_whole_update_on_the_host(params, name, packed):
    updater = sparsity.create_updater_from_config(config(name, packed))
    tx = optax.adam(0.1)
    state = updater.init_state(params)._replace(inner_state=tx.init(params), count=jnp.int32(4))
    grads = random_like(params, 1)
    adam = state.inner_state[0]._replace(mu=random_like(params, 2), nu=grads)
    state = state._replace(inner_state=(adam, *state.inner_state[1:]))
    masked = updater.post_gradient_update(params, state)
    given = (state, masked, grads)
    device = jax.jit(updater.update_params_and_state)(*given)
    host = updater.update_params_and_state(*jax.tree.map(np.asarray, given))
    host, device = (
        jax.tree.leaves((found, state._replace(target_sparsities=None)))
        for found, state in (host, device)
    )
    for ours, theirs in zip(host, device, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
