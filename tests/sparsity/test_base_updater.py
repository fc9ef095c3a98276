import functools
from unittest import mock

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dst_jax import sparsity
from dst_jax.sparsity import (
    base_updater,
    optimizer_state,
    sparsity_distributions,
    sparsity_schedules,
)

PARAMS = {"w": jnp.array([[4.0, -3.0], [2.0, 1.0]]), "b": jnp.array([1.0, 1.0])}
EVERY = sparsity_schedules.PeriodicSchedule(1, 0, 100)


def uniform(s):
    return functools.partial(sparsity_distributions.uniform, sparsity=s)


def test_wrapper_looks_methods_up_on_the_instance():
    distribution = mock.MagicMock()
    updater = base_updater.BaseUpdater(
        scheduler=sparsity_schedules.PolynomialSchedule(1, 0, 1),
        sparsity_distribution_fn=distribution,
    )
    updater.get_initial_masks = mock.MagicMock()
    inner = mock.MagicMock()
    inner.update.return_value = ({}, None)
    tx = updater.wrap_optax(inner)
    tx.init({})
    distribution.assert_called_once()
    updater.get_initial_masks.assert_called_once()
    updater.calculate_scores = mock.MagicMock(return_value=None)
    tx.update({}, sparsity.SparseState(masks=None, count=0), {})
    inner.update.assert_called_once()
    updater.calculate_scores.assert_called_once()


def test_inner_update_is_traced_once_and_gets_the_extra_arguments():
    calls = []

    def update(updates, state, params=None, **extra):
        calls.append(extra)
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    scored = []

    class Noisy(sparsity.MagnitudePruning):
        def calculate_scores(self, params, sparse_state=None, grads=None, **kwargs):
            scored.append(kwargs)
            return super().calculate_scores(params)

    updater = Noisy(scheduler=EVERY, sparsity_distribution_fn=uniform(0.5), skip_gradients=True)
    tx = updater.wrap_optax(inner)
    state = tx.init(PARAMS)
    calls.clear()  # of reading, without computing anything, what the optimizer does
    jax.jit(tx.update)(PARAMS, state, PARAMS, noise=jnp.float32(1))
    assert [list(extra) for extra in calls] == [["noise"]]
    assert [list(kwargs) for kwargs in scored] == [["noise"]]
    assert isinstance(tx, optax.GradientTransformationExtraArgs)


@pytest.mark.parametrize("compiled", [False, True])
def test_learning_rate_follows_the_batches(compiled):
    """An update step that takes no optimizer step must not hold the schedule back."""
    rates = optax.piecewise_constant_schedule(1.0, dict.fromkeys(range(1, 9), 0.5))
    updater = sparsity.RigL(
        scheduler=sparsity_schedules.PeriodicSchedule(2, 1, 8),
        sparsity_distribution_fn=uniform(0.5),
    )
    tx = updater.wrap_optax(optax.chain(optax.trace(0.5), optax.scale_by_learning_rate(rates)))
    state = tx.init(PARAMS)
    update = jax.jit(tx.update) if compiled else tx.update
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    momentum = 0.0
    for t in range(6):
        updates, state = update(ones, state, PARAMS)
        if updater.scheduler.is_mask_update_iter(t):
            np.testing.assert_array_equal(updates["b"], [0.0, 0.0])
        else:
            momentum = 0.5 * momentum + 1
            np.testing.assert_allclose(updates["b"], -momentum * 0.5**t, rtol=1e-6)
        np.testing.assert_allclose(state.inner_state[0].trace["b"], momentum)
    assert int(state.inner_state[1].count) == int(state.count) == 6


def test_freezing_keeps_moments_with_their_counter():
    params = {"w": jnp.ones((2, 3)), "v": jnp.ones(3)}
    grads = jax.tree.map(jnp.ones_like, params)
    rate = optax.linear_schedule(1.0, 0.0, 10)
    tx = optax.chain(
        optax.masked(optax.scale_by_adam(), {"w": True, "v": False}),
        optax.inject_hyperparams(optax.sgd)(learning_rate=rate, momentum=0.9),
        optax.scale_by_factored_rms(min_dim_size_to_factor=1),
        optax.scale_by_schedule(rate),
    )
    before = tx.init(params)
    after = tx.update(grads, before, params)[1]
    frozen = optimizer_state.freeze_moments(jnp.bool_(True), before, after, params)
    adam, injected, factored, schedule = frozen
    jax.tree.map(np.testing.assert_array_equal, adam, before[0])
    assert int(injected.count) == 1
    jax.tree.map(np.testing.assert_array_equal, injected.inner_state[0], before[1].inner_state[0])
    jax.tree.map(np.testing.assert_array_equal, factored, before[2])
    assert int(schedule.count) == 1
    moved = optimizer_state.freeze_moments(jnp.bool_(False), before, after, params)
    jax.tree.map(np.testing.assert_array_equal, moved, after)


def test_a_single_array_as_params():
    params = jnp.arange(6.0).reshape(2, 3)
    updater = sparsity.RigL(scheduler=EVERY, sparsity_distribution_fn=uniform(0.5))
    tx = updater.wrap_optax(optax.adam(0.1))
    state = tx.init(params)
    updates, state = jax.jit(tx.update)(params, state, params)
    assert state.masks.sum() == 3
    np.testing.assert_array_equal(params + updates, params * state.masks)


def test_frozen_dict_params():
    params = flax.core.freeze({"a": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}})
    updater = sparsity.RigL(scheduler=EVERY, sparsity_distribution_fn=uniform(0.5))
    tx = updater.wrap_optax(optax.sgd(0.1, momentum=0.9))
    state = tx.init(params)
    _, state = jax.jit(tx.update)(params, state, params)
    assert isinstance(state.masks, flax.core.FrozenDict)
    assert state.masks["a"]["kernel"].sum() == 8


def test_instant_sparsify():
    updater = sparsity.MagnitudePruning(sparsity_distribution_fn=uniform(0.5))
    masked, masks = updater.instant_sparsify(PARAMS)
    np.testing.assert_array_equal(masked["w"], [[4.0, -3.0], [0.0, 0.0]])
    np.testing.assert_array_equal(masks["w"], [[1, 1], [0, 0]])
    assert masks["b"] is None
    updater.use_packed_masks = True
    np.testing.assert_array_equal(updater.instant_sparsify(PARAMS)[1]["w"], [0b11000000])
    updater.sparsity_distribution_fn = None
    with pytest.raises(ValueError, match="sparsity_distribution_fn"):
        updater.instant_sparsify(PARAMS)


def test_custom_topk_fn_is_used():
    def topk(scores, sparsity):
        return jnp.ones_like(scores)

    updater = sparsity.MagnitudePruning(topk_fn=topk, sparsity_distribution_fn=uniform(0.5))
    assert updater.topk_fn is topk
    np.testing.assert_array_equal(updater.instant_sparsify(PARAMS)[1]["w"], np.ones((2, 2)))


def test_no_pruning():
    tree = {"a": 0, "b": {"c": 0}}
    updater = sparsity.NoPruning()
    assert updater.get_initial_masks(tree, target_sparsities=None) == {"a": None, "b": {"c": None}}
    assert updater.instant_sparsify(tree)[0] == tree
    state = updater.init_state(PARAMS)
    assert updater.update_state(state, PARAMS, PARAMS) is state
    assert updater.post_gradient_update(PARAMS, state)["w"] is PARAMS["w"]


def test_masks_may_be_missing_altogether():
    updater = sparsity.MagnitudePruning()
    assert updater.apply_masks(PARAMS, None) is PARAMS
    with pytest.raises(NotImplementedError):
        base_updater.BaseUpdater().calculate_scores(PARAMS)


@pytest.mark.parametrize("algorithm", [sparsity.SteMagnitudePruning, sparsity.SteRandomPruning])
def test_straight_through_keeps_dense_weights(algorithm):
    updater = algorithm(sparsity_distribution_fn=uniform(0.5))
    params = {"w": jax.random.normal(jax.random.key(0), (10, 10))}
    tx = updater.wrap_optax(optax.sgd(0.1))
    state = tx.init(params)
    assert state.masks == {"w": None}
    seen = updater.pre_forward_update(params, state)
    assert int((seen["w"] == 0).sum()) == 50
    updates, state = tx.update(seen, state, params)
    params = optax.apply_updates(params, updates)
    assert updater.post_gradient_update(params, state) is params
    assert int((params["w"] == 0).sum()) == 0


@pytest.mark.parametrize(
    "algorithm", [sparsity.GlobalMagnitudePruning, sparsity.GlobalSaliencyPruning]
)
def test_global_ranking(algorithm):
    updater = algorithm(filter_fn=lambda *_: True, sparsity=0.5)
    scores = {"w": jnp.array([0.1, 0.9, -0.2, 0.5]), "w2": jnp.array([0.7, 0.8])}
    masks = updater.create_masks(scores, target_sparsity=0.5)
    np.testing.assert_array_equal(masks["w"], [0, 1, 0, 0])
    np.testing.assert_array_equal(masks["w2"], [1, 1])
    updater.custom_sparsity_map = {("w2",): 0.5}
    masks = updater.create_masks(scores, 0.5)
    np.testing.assert_array_equal(masks["w"], [0, 1, 0, 1])
    np.testing.assert_array_equal(masks["w2"], [0, 1])
    updater.sparsity_type = sparsity.sparsity_types.NByM(2, 4)
    with pytest.raises(AttributeError, match="not supported for"):
        updater.init_state(scores)


def test_random_pruning_never_brings_a_weight_back():
    updater = sparsity.RandomPruning(
        scheduler=sparsity_schedules.PolynomialSchedule(1, 0, 10),
        sparsity_distribution_fn=uniform(0.9),
    )
    params = {"w": jnp.ones((20, 20))}
    state = updater.init_state(params)
    before = state.masks["w"]
    for t in range(10):
        state = updater.update_state(state._replace(count=jnp.int32(t)), params, None)
        assert (state.masks["w"] <= before).all()
        before = state.masks["w"]
    assert int(before.sum()) == 40
    with pytest.raises(ValueError, match="gradients"):
        sparsity.SaliencyPruning().calculate_scores(params)


@pytest.mark.parametrize("algorithm", ["rigl", "mest_r", "gmp", "topkast", "adam-fisher"])
def test_an_update_state_of_ones_own_goes_under_the_branch_whole(params, algorithm):
    """The halves of an update, masks inside the branch and moments outside, are the whole."""
    kind = sparsity.ALGORITHM_REGISTRY[algorithm]

    class Own(kind):
        calls = 0

        def update_state(self, sparse_state, params, grads, **kwargs):
            Own.calls += 1
            return super().update_state(sparse_state, params, grads, **kwargs)

    options = {"dist_type": "erk", "sparsity": 0.6, "update_freq": 2, "update_start_step": 2,
               "update_end_step": 6, "rng_seed": 0}  # fmt: skip
    ours = sparsity.create_updater_from_config({"algorithm": algorithm, **options})
    own = Own(**{field: getattr(ours, field) for field in sparsity.fields_of(algorithm)})

    def train(updater):
        tx = updater.wrap_optax(optax.adam(0.1))

        @jax.jit
        def step(t, carry):
            weights, state = carry
            grads = jax.tree.map(lambda p: jnp.sin(p + t), params)
            updates, state = tx.update(grads, state, weights)
            return updater.post_gradient_update(optax.apply_updates(weights, updates), state), state

        state = tx.init(params)
        carry = updater.post_gradient_update(params, state), state
        for t in range(7):
            carry = step(t, carry)
        return carry

    for a, b in zip(jax.tree.leaves(train(ours)), jax.tree.leaves(train(own)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert Own.calls == 1  # traced once
