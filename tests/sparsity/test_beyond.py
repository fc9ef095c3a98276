"""AC/DC, SNFS, Top-KAST, SNIP and the other extensions, on trees small enough to follow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dst_jax import sparsity
from dst_jax.sparsity import optimizer_state, sparsity_distributions, sparsity_schedules
from dst_jax.sparsity.algorithms import extensions, snfs_topkast
from tests.sparsity.conftest import random_like


def uniform(target):
    return functools.partial(sparsity_distributions.uniform, sparsity=target)


def make(name, **options):
    base = {"algorithm": name, "dist_type": "uniform", "sparsity": 0.5, "rng_seed": 1}
    return sparsity.create_updater_from_config({**base, **options})


PARAMS = {"w": jnp.array([[0.1, 0.9], [0.2, 0.5]]), "b": jnp.ones(2)}
GRADS = {"w": jnp.array([[5.0, 1.0], [3.0, 0.5]]), "b": jnp.ones(2)}


@pytest.mark.parametrize("packed", [False, True])
def test_acdc_phases(packed):
    """JaxPruner's own test: dense, sparse, dense, sparse, dense, sparse."""
    updater = make(
        "acdc",
        init_dense_steps_end=1,
        final_sparse_steps_start=5,
        cycle_sparse_steps=1,
        cycle_dense_steps=1,
        use_packed_masks=packed,
    )
    tx = updater.wrap_optax(optax.adamw(1e-3))
    params, state = PARAMS, tx.init(PARAMS)
    step = jax.jit(tx.update)
    active = []
    for _ in range(8):
        updates, state = step(GRADS, state, params)
        params = updater.post_gradient_update(optax.apply_updates(params, updates), state)
        mask = state.masks["w"]
        if packed:
            mask = jnp.unpackbits(mask, count=4)
        active.append(int(mask.sum()))
        assert int((params["w"] != 0).sum()) <= 4
    assert active == [4, 2, 4, 2, 4, 2, 2, 2]


@pytest.mark.parametrize("reset", [True, False])
def test_acdc_moments(reset):
    updater = extensions.ACDC(
        scheduler=sparsity_schedules.PeriodicSchedule(10, 20, 60),
        sparsity_distribution_fn=uniform(0.5),
        reset_optimizer=reset,
    )
    trace = optax.TraceState(jax.tree.map(jnp.ones_like, PARAMS))
    state = updater.init_state(PARAMS)._replace(inner_state=trace, count=jnp.int32(20))
    state = updater.update_state(state, PARAMS, GRADS)  # compression: the pruned lose theirs
    assert state.masks["w"].tolist() == state.inner_state.trace["w"].tolist() == [[0, 1], [0, 1]]
    state = updater.update_state(state._replace(count=jnp.int32(30)), PARAMS, GRADS)
    assert state.masks["w"].tolist() == [[1, 1], [1, 1]]
    assert float(state.inner_state.trace["w"].sum()) == (0 if reset else 2)
    assert float(state.inner_state.trace["b"].sum()) == (0 if reset else 2)


def test_acdc_phases_from_an_ordinary_schedule():
    scheduler = make("acdc", update_start_step=20, update_end_step=70, update_freq=10).scheduler
    changes = [t for t in range(100) if scheduler.is_mask_update_iter(t)]
    assert changes == [20, 30, 40, 50, 60]
    sparse = [t for t in range(0, 100, 10) if scheduler.is_sparse_at(t)]
    assert sparse == [20, 40, 60, 70, 80, 90]
    assert bool(jax.jit(scheduler.is_mask_update_iter)(30))
    with pytest.raises(ValueError, match="cycle_sparse_steps"):
        make("acdc")


def test_adam_fisher():
    """JaxPruner's own test of the score, and of the reset."""
    updater = make("adam-fisher", reset_adam=True, update_start_step=0, update_end_step=0)
    tx = updater.wrap_optax(optax.adamw(1e-3))
    state = tx.init(PARAMS)
    adam = state.inner_state[0]._replace(mu=GRADS, nu=jax.tree.map(jnp.square, GRADS))
    state = state._replace(inner_state=(adam, *state.inner_state[1:]))
    scores = updater.calculate_scores(PARAMS, sparse_state=state, grads=GRADS)
    np.testing.assert_allclose(scores["w"], PARAMS["w"] ** 2 * GRADS["w"] ** 2)
    state = updater.update_state(state, PARAMS, GRADS)
    assert state.masks["w"].tolist() == [[0, 1], [1, 0]]  # .25 .81 .36 .0625
    for moments in (state.inner_state[0].mu, state.inner_state[0].nu):
        assert not any(jnp.any(m) for m in jax.tree.leaves(moments))
    with pytest.raises(ValueError, match="adam_fisher"):
        updater.calculate_scores(PARAMS, sparse_state=updater.init_state(PARAMS))


def test_iterative_nm():
    updater = make("iterative_nm", sparsity_type="nm_2,4", update_start_step=0, update_end_step=0)
    scores = jnp.array([[1.0, 2.0, 3.0, 4.0], [8.0, 7.0, 6.0, 5.0]])
    # The pattern needs 3 4 8 7; of the others the largest come along while the sparsity is lower.
    assert updater.topk_fn(scores, 0.25).tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert updater.topk_fn(scores, 0.5).tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    assert updater.topk_fn(scores, 0).tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1, width=32)), min_size=3, max_size=3),
    st.floats(0, 1),
)
def test_shares(layers, part):
    room = jnp.array([r for r, _ in layers], jnp.int32)
    shares = jnp.array([s for _, s in layers], jnp.float32)
    total = int(part * int(room.sum()))
    given_out = np.asarray(jax.jit(snfs_topkast._share_out)(jnp.int32(total), shares, room))
    assert given_out.sum() == total
    assert (given_out >= 0).all()
    assert (given_out <= np.asarray(room)).all()


def test_shares_are_in_proportion():
    shares = jnp.array([0.6, 0.3, 0.1])
    plenty, few = jnp.array([100, 100, 100]), jnp.array([2, 100, 100])
    assert snfs_topkast._share_out(jnp.int32(10), shares, plenty).tolist() == [6, 3, 1]
    assert snfs_topkast._share_out(jnp.int32(10), shares, few).tolist() == [2, 6, 2]


def test_snfs_by_hand():
    """Each layer drops one of two; both go where the momentum is, into the first layer."""
    updater = snfs_topkast.SNFS(drop_fraction_fn=lambda step: 0.5)
    masks = {
        "a": jnp.array([[1, 1], [0, 0]], jnp.uint8),
        "b": jnp.array([[1, 1], [0, 0]], jnp.uint8),
    }
    params = {"a": jnp.array([[3.0, 1.0], [0, 0]]), "b": jnp.array([[1.0, 3.0], [0, 0]])}
    trace = {"a": jnp.array([[5.0, 1.0], [7.0, 6.0]]), "b": jnp.array([[0.0, 0.0], [9.0, 0.0]])}
    state = sparsity.SparseState(masks, optax.TraceState(trace), count=jnp.int32(0))
    new = updater.update_state(state, params, params)
    assert new.masks["a"].tolist() == [[1, 0], [1, 1]]
    assert new.masks["b"].tolist() == [[0, 1], [0, 0]]
    jax.tree.map(np.testing.assert_array_equal, new.inner_state.trace, trace)  # kept on purpose
    with pytest.raises(ValueError, match="snfs: found no momentum"):
        updater.update_state(state._replace(inner_state=optax.EmptyState()), params, params)


def test_snfs_ranks_adam_by_the_normalised_momentum():
    adam = optax.ScaleByAdamState(
        jnp.int32(1), mu={"w": jnp.array([2.0])}, nu={"w": jnp.array([4.0])}
    )
    state = sparsity.SparseState(None, adam)
    scores = snfs_topkast.SNFS()._get_grow_scores(state, {"w": jnp.ones(1)}, None)
    np.testing.assert_allclose(scores["w"], [1.0])


@pytest.mark.parametrize("packed", [False, True])
def test_top_kast(packed):
    updater = snfs_topkast.TopKAST(
        scheduler=sparsity_schedules.PeriodicSchedule(1, 1, 9),
        sparsity_distribution_fn=uniform(0.75),
        penalty=0.5,
        use_packed_masks=packed,
    )
    params = {"w": jnp.array([[4.0, 3.0], [2.0, 1.0]]), "b": jnp.ones(2)}
    tx = updater.wrap_optax(optax.sgd(1.0))
    state = tx.init(params)
    forward = updater.pre_forward_update(params, state)
    np.testing.assert_array_equal(forward["w"], [[4, 0], [0, 0]])
    grads = {"w": jnp.full((2, 2), 0.5), "b": jnp.ones(2)}
    updates, state = tx.update(grads, state, params)
    # A: 0.5 + 0.5 * 4; B alone: 0.5 + 0.5 * 3 / (1/4); the others wait.
    np.testing.assert_allclose(updates["w"], [[-2.5, -6.5], [0, 0]])
    np.testing.assert_allclose(updates["b"], [-1, -1])
    params = updater.post_gradient_update(optax.apply_updates(params, updates), state)
    np.testing.assert_allclose(params["w"], [[1.5, -3.5], [2, 1]])
    _, state = jax.jit(tx.update)(grads, state, params)
    forward = updater.pre_forward_update(params, state)
    np.testing.assert_array_equal(forward["w"], [[0, -3.5], [0, 0]])


def test_top_kast_starts_moments_of_what_newly_trains_at_zero():
    updater = snfs_topkast.TopKAST(sparsity_distribution_fn=uniform(0.75))
    params = {"w": jnp.array([[4.0, 3.0], [2.0, 1.0]])}
    state = updater.init_state(params)._replace(
        inner_state=optax.TraceState({"w": jnp.ones((2, 2))})
    )
    state = updater.update_state(state, {"w": jnp.array([[4.0, 1.0], [2.0, 3.0]])}, None)
    np.testing.assert_array_equal(state.inner_state.trace["w"], [[1, 0], [0, 0]])
    assert state.backward_masks["w"].tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="backward_ratio"):
        snfs_topkast.TopKAST(backward_ratio=0.5)


def test_snip_by_hand():
    params = {
        "a": jnp.array([[1.0, 2.0], [3.0, 4.0]]),
        "b": jnp.full((1, 2), 0.1),
        "c": jnp.ones(2),
    }
    grads = {"a": jnp.array([[9.0, -2.0], [1.0, 0.0]]), "b": jnp.ones((1, 2)), "c": jnp.ones(2)}
    masks = {
        "a": jnp.array([[1, 1], [0, 0]], jnp.uint8),
        "b": jnp.array([[1, 0]], jnp.uint8),
        "c": None,
    }
    found = jax.jit(sparsity.snip_masks)(params, grads, masks)
    # |w g| = 9 4 3 0 and 0.1 0.1: three in all, of which one must be in b.
    assert found["a"].tolist() == [[1, 1], [0, 0]]
    assert found["b"].tolist() == [[1, 0]]
    assert found["c"] is None


def test_snip_keeps_the_total_and_a_weight_in_every_layer(params):
    masks = make("static", sparsity=0.98).init_state(params).masks
    found = sparsity.snip_masks(params, random_like(params, 1), masks)
    before, after = (np.array([int(m.sum()) for m in jax.tree.leaves(m)]) for m in (masks, found))
    assert before.sum() == after.sum()
    assert (after >= 1).all()
    assert sparsity.snip_masks({"b": jnp.ones(2)}, {"b": jnp.ones(2)}, {"b": None}) == {"b": None}


def test_finding_moments():
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    adam = optax.inject_hyperparams(optax.adam)(0.1).init(params)
    assert optimizer_state.find_moments(adam, params, "nu") is adam.inner_state[0].nu
    assert optimizer_state.find_moments(adam, params) is adam.inner_state[0].mu
    assert optimizer_state.find_moments(optax.sgd(0.1).init(params), params) is None
    momentum = optax.sgd(0.1, momentum=0.9).init(params)
    assert optimizer_state.find_moments(momentum, params) is momentum[0].trace
    assert optimizer_state.find_moments(momentum, params, "nu") is None
