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
from dst_jax.sparsity import host_arrays, mask_trees
from dst_jax.sparsity.topk import host_ranking, ranking, thresholds
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
def test_large_layers(values, share, monkeypatch):
    """Large enough for the sample to bracket the threshold, with ties that mislead it."""
    monkeypatch.setattr(host_arrays, "CHUNK", 9_000)  # several chunks, the last one short
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
    np.testing.assert_array_equal(keys, np.maximum(thresholds.ranking_key(jnp.asarray(scores)), 1))


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


def test_magnitudes_are_arrays_that_are_computed_when_read():
    array = np.array([[1.5, -2.0], [-0.0, np.nan]], np.float32)
    lazy = mask_trees.lazy_magnitudes({"a": array})["a"]
    assert isinstance(lazy, host_arrays.Magnitude)
    assert (lazy.shape, lazy.dtype, lazy.size, lazy.ndim) == ((2, 2), np.float32, 4, 2)
    np.testing.assert_array_equal(np.asarray(lazy), abs(array))
    np.testing.assert_array_equal(jnp.asarray(lazy), abs(array))
    np.testing.assert_array_equal(lazy + 1, abs(array) + 1)
    np.testing.assert_array_equal(lazy.reshape(-1)[1:], abs(array).reshape(-1)[1:])
    host = ranking.exact_topk(lazy, 3, candidates=np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(host, ranking.exact_topk(jnp.abs(array), 3))


def test_magnitudes_rank_as_absolute_values():
    values = np.random.default_rng(0).standard_normal(70_000, np.float32)
    values[::7] = np.nan
    values[::5] = -0.0
    values[::11] = -np.inf
    lazy = host_arrays.Magnitude(values)
    for k in (0, 10, 5_000, 30_000, 69_000):
        np.testing.assert_array_equal(
            ranking.exact_topk(lazy, k), ranking.exact_topk(jnp.abs(values), k)
        )


def test_zeroing_reaches_what_is_not_a_number(monkeypatch):
    monkeypatch.setattr(host_arrays, "CHUNK", 2)
    for dtype in (np.float32, np.float16, np.int32):
        array = np.array([3, 1, 2, 5, 7], dtype)
        if dtype is not np.int32:
            array[1] = np.nan
        found = host_arrays.zero_where(array, np.array([0, 1, 1, 0, 0], np.uint8))
        assert found.dtype == dtype
        assert found.tolist() == [3, 0, 0, 5, 7]


def test_layers_keep_their_order_in_threads():
    arrays = [np.full(size, size) for size in (1, 5, 3, 2)]
    found = host_arrays.each(lambda array, factor: array.size * factor, arrays, [1, 10, 100, 1000])
    assert found == [1, 50, 300, 2000]
    with pytest.raises(ZeroDivisionError):
        host_arrays.each(lambda array: 1 / (array.size - 3), arrays)


@pytest.mark.parametrize("sparsity_type", [None, "block_2,2"])
def test_scores_of_ones_own_are_given_plain_arrays(params, sparsity_type):
    """Whatever a subclass does with JAX to the scores it inherits works on the host as well."""

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
