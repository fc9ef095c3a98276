import dataclasses
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st

from dst_jax import sparsity
from dst_jax.sparsity import sparsity_distributions, sparsity_types
from dst_jax.sparsity.algorithms import sparse_trainers

# Bits of a 4x5 layer and scores with many ties.
bits = st.lists(st.integers(0, 1), min_size=20, max_size=20)
scores = st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0]), min_size=20, max_size=20)


def layer(values, dtype):
    return jnp.array(values, dtype).reshape(4, 5)


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(bits, scores, scores, st.floats(0, 1, width=32), st.integers(0, 99))
def test_drop_and_grow(mask, drop, grow, fraction, seed):
    old, drop, grow = layer(mask, jnp.uint8), layer(drop, jnp.float32), layer(grow, jnp.float32)
    updater = sparsity.RigL()
    counts = updater._layer_counts(jnp.array([old.sum()], jnp.int32), fraction)
    kept, new = updater._drop_and_grow([old], [drop], [grow], *counts, jax.random.key(seed))
    kept, new = np.asarray(kept[0]), np.asarray(new[0])
    old, drop, grow = np.asarray(old), np.asarray(drop), np.asarray(grow)
    n = int(old.sum())
    assert new.sum() == n  # I2
    assert (kept <= old).all()  # I3
    assert (kept <= new).all()
    stay = int(np.round(np.float32(n) * (np.float32(1) - np.float32(fraction))))
    assert kept.sum() == min(max(stay, min(1, n)), n)
    dropped, grown, rest = old > kept, new > kept, (kept == 0) & (new == 0)
    if dropped.any():
        assert drop[dropped].max() <= drop[kept == 1].min()
    if grown.any() and rest.any():
        # Never a smaller gradient than one that was passed over.
        assert grow[grown].min() >= grow[rest].max()


def test_rigl_by_hand():
    """3x3, 4 active, drop half: the two smallest |w| go, the two largest |g| come."""
    old = jnp.array([[1, 0, 1], [0, 1, 0], [1, 0, 0]], jnp.uint8)
    weights = jnp.array([[0.9, 0, -0.1], [0, 0.2, 0], [-0.8, 0, 0]])
    grads = jnp.array([[9.0, -3.0, 0.5], [0.1, 2.0, 0.2], [9.0, 0.3, -1.0]])
    updater = sparsity.RigL(drop_fraction_fn=lambda _: 0.5, is_debug=True)
    state = sparsity.SparseState(
        masks={"w": old}, inner_state=optax.TraceState({"w": jnp.ones((3, 3))}), count=jnp.int32(0)
    )
    state = updater.update_state(state, {"w": weights}, {"w": grads})
    # (1, 1) was dropped and has the second largest gradient outside: it comes back.
    expected = [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_array_equal(state.masks["w"], expected)
    np.testing.assert_array_equal(state.inner_state.trace["w"], [[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    zero = dataclasses.replace(updater, regrow_same="zero")
    before = state._replace(masks={"w": old}, inner_state=optax.TraceState({"w": jnp.ones((3, 3))}))
    params, state = zero.update_params_and_state(before, {"w": weights}, {"w": grads})
    np.testing.assert_array_equal(state.masks["w"], expected)
    np.testing.assert_allclose(params["w"], [[0.9, 0, 0], [0, 0, 0], [-0.8, 0, 0]])
    np.testing.assert_array_equal(state.inner_state.trace["w"], [[1, 0, 0], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.0, [0, 1, 0, 1, 0, 1, 1, 0]),
        (0.25, [1, 1, 0, 1, 0, 1, 0, 0]),
        (0.5, [1, 1, 0, 0, 1, 1, 0, 0]),
        (0.75, [1, 0, 1, 0, 1, 1, 0, 0]),
        (1.0, [1, 0, 1, 0, 1, 1, 0, 0]),
    ],
)
def test_update_masks_as_jaxpruner_calls_it(fraction, expected):
    old = jnp.array([0, 1, 0, 1, 0, 1, 1, 0], jnp.uint8)
    score = jnp.array([-9, 1, 4, -1, 5, 8, -2, 3], jnp.float32)
    updater = sparsity.RigL(is_debug=True)
    new = updater._update_masks(old, score, jnp.abs(score), drop_fraction=fraction)
    np.testing.assert_array_equal(new, expected)


def test_an_overridden_update_masks_is_used():
    class Flip(sparsity.RigL):
        def _update_masks(self, old_mask, drop_score, grow_score, drop_fraction):
            return 1 - old_mask

    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    state = sparsity.SparseState({"w": jnp.array([[1, 0], [0, 1]], jnp.uint8), "b": None}, count=0)
    state = Flip().update_state(state, params, params)
    np.testing.assert_array_equal(state.masks["w"], [[0, 1], [1, 0]])
    assert state.masks["b"] is None


def test_equal_gradients_grow_at_random():
    """A dead unit's gradients are all 0: growth must not clump at low indices."""
    n = 64
    old = jnp.zeros((n, n), jnp.uint8).at[0].set(1)
    state = sparsity.SparseState({"w": old}, count=jnp.int32(0))
    weights = {"w": jnp.ones((n, n)) * old}
    updater = sparsity.RigL(drop_fraction_fn=lambda _: 0.5, rng_seed=1)
    zeros = {"w": jnp.zeros((n, n))}
    new = np.asarray(updater.update_state(state, weights, zeros).masks["w"])
    assert new.sum() == n
    # 32 weights spread over 63 free rows: some 25 rows are hit, against 1 by index.
    assert (new[1:].sum(axis=1) > 0).sum() > 15
    later = updater.update_state(state._replace(count=jnp.int32(1)), weights, zeros).masks["w"]
    assert (np.asarray(later) != new).any()
    other = sparsity.RigL(drop_fraction_fn=lambda _: 0.5, rng_seed=2)
    assert (np.asarray(other.update_state(state, weights, zeros).masks["w"]) != new).any()


def test_random_growth_comes_back_as_often_as_it_should():
    """Dropped and regrown at once with probability k / (N - n + k): 0.818 at S=0.1, p=0.5."""
    size, keep = 10_000, 9_000
    old = jnp.zeros(size, jnp.uint8).at[:keep].set(1)
    weights = {"w": jnp.arange(size, dtype=jnp.float32) * old}
    updater = sparsity.SET(drop_fraction_fn=lambda _: 0.5)
    state = sparsity.SparseState({"w": old}, count=jnp.int32(0))
    new = np.asarray(updater.update_state(state, weights, weights).masks["w"])
    assert new[: keep // 2].mean() == pytest.approx(0.818, abs=0.02)


@pytest.mark.parametrize("algorithm", ["static", "set", "rigl"])
@pytest.mark.parametrize("dist_type", ["uniform", "erk"])
def test_initial_masks_hit_the_request_exactly(params, algorithm, dist_type):
    for target in (0.1, 0.5, 0.9):
        updater = sparsity.create_updater_from_config(
            {
                "algorithm": algorithm,
                "dist_type": dist_type,
                "sparsity": target,
                "update_start_step": None,
                "rng_seed": 0,
            }
        )
        masks = jax.tree.leaves(updater.init_state(params).masks)
        total = sum(m.size for m in masks)
        assert sum(int(m.sum()) for m in masks) == round((1 - target) * total)
        assert all(m.dtype == jnp.uint8 for m in masks)


def test_initial_masks_depend_on_the_seed_only(params):
    def masks(seed):
        fn = functools.partial(sparsity_distributions.uniform, sparsity=0.5)
        updater = sparsity.StaticRandomSparse(sparsity_distribution_fn=fn, rng_seed=seed)
        low = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
        same = updater.init_state(low).masks
        jax.tree.map(np.testing.assert_array_equal, updater.init_state(params).masks, same)
        return np.asarray(same["Conv_1"]["kernel"])

    assert (masks(1) == masks(jax.random.PRNGKey(1))).all()
    assert (masks(1) != masks(2)).any()
    assert (masks(None) == masks(8)).all()


@pytest.mark.parametrize(
    "sparsity_type", [sparsity_types.Block((2, 2)), sparsity_types.Channel(axis=-1)]
)
@pytest.mark.parametrize("algorithm", [sparsity.SET, sparsity.RigL])
def test_patterns_stay_whole(sparsity_type, algorithm):
    fn = functools.partial(sparsity_distributions.uniform, sparsity=0.5)
    updater = algorithm(sparsity_distribution_fn=fn, sparsity_type=sparsity_type, is_debug=True)
    params = {"w": jax.random.normal(jax.random.key(0), (8, 8)), "b": jnp.ones(8)}
    state = updater.init_state(params)
    grads = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), params)
    new = updater.update_state(state, params, grads).masks["w"]
    assert new.sum() == state.masks["w"].sum() == 32
    assert (np.asarray(new) != np.asarray(state.masks["w"])).any()
    again = updater.topk_fn(new.astype(jnp.float32), 0.5)
    np.testing.assert_array_equal(again, new)


def test_restart_using_mask():
    tree = {"a": [-9, 1, 4, -1, 5, 8, -2, 3], "b": [1, 2]}
    masks = {"a": [0, 1, 0, 1, 0, 1, 1, 0], "b": [None, None]}
    found = sparse_trainers._restart_using_mask(tree, masks)
    assert jax.tree.map(int, found) == {"a": [-9, 0, 4, 0, 5, 0, 0, 3], "b": [1, 2]}


def test_defaults_and_mistakes():
    assert sparsity.StaticRandomSparse().is_sparse_gradients
    assert sparsity.SET().skip_gradients
    assert not sparsity.SET().is_debug
    assert sparsity.SET().drop_fraction_fn(0) == 0.3
    with pytest.raises(RuntimeError, match="instant_sparsify"):
        sparsity.RigL().instant_sparsify({"w": jnp.ones((2, 2))})
    with pytest.raises(ValueError, match="regrow_same"):
        sparsity.RigL(regrow_same="never")
