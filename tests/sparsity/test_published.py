"""Numbers and properties of sparse training from the literature, computed anew."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dst_jax import sparsity
from dst_jax.sparsity import sparsity_distributions, sparsity_schedules, topk


def uniform(target):
    return functools.partial(sparsity_distributions.uniform, sparsity=target)


def test_set_by_hand():
    """3x3, 4 active, drop half: the two smallest |w| go, the two luckiest others come."""
    old = jnp.array([[1, 0, 1], [0, 1, 0], [1, 0, 0]], jnp.uint8)
    weights = jnp.array([[0.9, 0, -0.1], [0, 0.2, 0], [-0.8, 0, 0]])
    luck = jnp.array([[0.99, 0.1, 0.8], [0.2, 0.3, 0.7], [0.98, 0.4, 0.5]])

    class Loaded(sparsity.SET):
        def _get_grow_scores(self, sparse_state, params, grads):
            return {"w": luck}

    updater = Loaded(drop_fraction_fn=lambda _: 0.5)
    state = sparsity.SparseState({"w": old}, optax.TraceState({"w": jnp.ones((3, 3))}), count=0)
    params, state = updater.update_params_and_state(state, {"w": weights}, None)
    # 0.9 and 0.8 stay. (0, 2) was dropped just now, is lucky and comes back as it was.
    assert state.masks["w"].tolist() == [[1, 0, 1], [0, 0, 1], [1, 0, 0]]
    np.testing.assert_allclose(params["w"], [[0.9, 0, -0.1], [0, 0, 0], [-0.8, 0, 0]])
    assert state.inner_state.trace["w"].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("sparsity_", "fraction", "probability"),
    [(0.1, 0.5, 0.818), (0.3, 0.5, 0.538), (0.5, 0.3, 0.231), (0.9, 0.3, 0.032)],
)
def test_how_often_a_dropped_weight_comes_back(sparsity_, fraction, probability):
    size = 20_000
    keep = round(size * (1 - sparsity_))
    old = jnp.zeros(size, jnp.uint8).at[:keep].set(1)
    weights = {"w": jnp.arange(size, 0.0, -1.0) * old}
    updater = sparsity.SET(drop_fraction_fn=lambda _: fraction)
    new = updater.update_state(sparsity.SparseState({"w": old}, count=jnp.int32(0)), weights, None)
    dropped = np.asarray(new.masks["w"])[keep - round(keep * fraction) : keep]
    assert dropped.mean() == pytest.approx(probability, abs=0.02)


def first_steps(adam_fresh):
    """Length of the steps of a new weight over those of a settled one, under one gradient."""
    tx = optax.adam(1.0)
    updater = sparsity.RigL(adam_fresh=adam_fresh, drop_fraction_fn=lambda _: 0.5)
    params = {"w": jnp.array([3.0, 2.0, 1.0, 0.0])}
    mask = {"w": jnp.array([1, 1, 0, 0], jnp.uint8)}
    grads, state = {"w": jnp.ones(4)}, tx.init(params)
    state = jax.lax.fori_loop(0, 12_000, lambda _, state: tx.update(grads, state)[1], state)
    sparse = sparsity.SparseState(mask, state, count=jnp.int32(0))
    sparse = updater.update_state(sparse, params, {"w": jnp.array([0.0, 0, 1, 0])})
    assert sparse.masks["w"].tolist() == [1, 0, 1, 0]
    lengths, state = [], sparse.inner_state
    for _ in range(30):
        updates, state = jax.jit(tx.update)(grads, state)
        lengths.append(float(updates["w"][2] / updates["w"][0]))
    return lengths


def test_adam_takes_long_first_steps_for_new_weights():
    lengths = first_steps("zero")
    assert lengths[0] == pytest.approx(0.1 / 0.001**0.5, rel=0.03)  # 3.15 to 3.16
    assert max(lengths) == pytest.approx(6.57, abs=0.1)
    assert lengths.index(max(lengths)) in (11, 12, 13)
    assert max(first_steps("mean_v")) <= 1.01


def test_a_thousand_updates_change_no_count():
    rng = np.random.default_rng(0)
    params = {"a": rng.standard_normal((13, 7), np.float32), "b": np.zeros((1, 1), np.float32)}
    params["c"] = rng.standard_normal((5, 5), np.float32)
    updater = sparsity.SET(
        sparsity_distribution_fn=uniform(0.37), drop_fraction_fn=lambda step: 0.31
    )
    state = updater.init_state(jax.tree.map(jnp.asarray, params))
    before = [int(m.sum()) for m in jax.tree.leaves(state.masks)]

    @jax.jit
    def many(state):
        def one(t, state):
            return updater.update_state(state._replace(count=t), params, None)

        return jax.lax.fori_loop(0, 1000, one, state)

    after = many(jax.tree.map(jnp.asarray, state)._replace(target_sparsities=None))
    assert [int(m.sum()) for m in jax.tree.leaves(after.masks)] == before
    assert before[1] == 1  # the only weight of a layer


def test_growth_gradients_are_true_derivatives():
    """At inactive positions too: what RigL ranks is the change of the loss."""
    weights = jnp.array([[0.5, 0.0], [0.0, -0.3]])
    inputs = jnp.array([[1.0, 2.0], [-1.0, 0.5]])

    def loss(w):
        return jnp.sum(jnp.tanh(inputs @ w) ** 2)

    gradient = jax.grad(loss)(weights)
    for place in ((0, 1), (1, 0)):
        shift = jnp.zeros((2, 2)).at[place].set(1e-2)
        difference = (loss(weights + shift) - loss(weights - shift)) / 2e-2
        assert float(gradient[place]) == pytest.approx(float(difference), rel=1e-2)


@pytest.mark.parametrize("algorithm", ["set", "rigl", "mest_g"])
def test_vmap_over_seeds(algorithm):
    def masks(seed):
        updater = sparsity.create_updater_from_config(
            {"algorithm": algorithm, "dist_type": "uniform", "sparsity": 0.5, "update_freq": 1,
             "update_start_step": 0, "update_end_step": 9, "rng_seed": jax.random.key(seed)}
        )  # fmt: skip
        params = {"w": jnp.linspace(-1, 1, 24).reshape(4, 6)}
        state = updater.init_state(params)
        return updater.update_state(state, params, params).masks["w"]

    together = jax.vmap(masks)(jnp.arange(4))
    for seed in range(4):
        np.testing.assert_array_equal(together[seed], masks(seed))


def test_static_masks_never_change():
    updater = sparsity.StaticRandomSparse(
        scheduler=sparsity_schedules.PeriodicSchedule(1, 0), sparsity_distribution_fn=uniform(0.5)
    )
    params = {"w": jnp.ones((4, 4))}
    state = updater.init_state(params)
    assert updater.update_state(state, params, params) is state


@pytest.mark.parametrize("k", [0, 1, 6])
@pytest.mark.parametrize("shape", [(1,), (2, 3), (0,)])
def test_ends_of_the_range(shape, k):
    for scores in (jnp.zeros(shape), np.zeros(shape, np.float32)):
        assert int(topk.exact_topk(scores, k).sum()) == min(k, scores.size)


def test_an_empty_tree():
    updater = sparsity.RigL()
    state = updater.init_state({})
    assert updater.update_state(state, {}, {}).masks == {}
    assert sparsity_distributions.requested_sparsity(uniform(0.25)) == 0.25


def test_a_hundred_million_weights_do_not_drift():
    """The first linear layer of VGG16, where counts in float32 are wrong by up to six."""
    layer = {"fc": jax.ShapeDtypeStruct((25088, 4096), jnp.float32)}
    n = sparsity_distributions.active_counts(layer, {"fc": 0.9}, 0.9)["fc"]
    assert n == 10_276_045
    updater = sparsity.RigL(drop_fraction_fn=lambda step: 0.3)
    counts = jax.jit(updater._layer_counts)

    active = jnp.array([n, 25_557_031, 102_760_448], jnp.int32)
    for fraction in np.linspace(0.0, 1.0, 101, dtype=np.float32):
        kept, new = counts(active, fraction)
        assert new.tolist() == active.tolist()
        assert all(0 < k <= m for k, m in zip(kept.tolist(), new.tolist(), strict=True))
        exact = np.array(active, np.float64) * (1 - np.float64(fraction))
        np.testing.assert_allclose(kept, np.maximum(exact, 1), rtol=2e-7, atol=0.5)


@pytest.mark.parametrize("algorithm", ["rigl", "granet_g", "mest_g", "topkast"])
def test_bfloat16_weights_get_the_masks_of_their_values(algorithm, params):
    updater = sparsity.create_updater_from_config(
        {"algorithm": algorithm, "dist_type": "erk", "sparsity": 0.6, "update_freq": 1,
         "update_start_step": 0, "update_end_step": 9, "rng_seed": 0}
    )  # fmt: skip
    short = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    found = []
    for weights in (short, jax.tree.map(lambda p: p.astype(jnp.float32), short)):
        state = updater.init_state(weights)
        masked = updater.post_gradient_update(weights, state)
        masked, state = updater.update_params_and_state(state, masked, weights)
        assert jax.tree.map(lambda p: p.dtype, masked) == jax.tree.map(lambda p: p.dtype, weights)
        found.append(state.masks)
    jax.tree.map(np.testing.assert_array_equal, *found)
