"""MEST, GraNet and gradual pruning: hand-worked updates, exact counts, what a config may say."""

import functools
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dst_jax import sparsity
from dst_jax.sparsity import sparsity_distributions, sparsity_schedules
from dst_jax.sparsity.algorithms import mest_granet
from tests.sparsity.conftest import random_like

WEIGHTS = jnp.array([[0.9, 0.5, -0.1], [0.4, 0.2, 0.0], [-0.8, 0.0, 0.0]])
MASK = jnp.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], jnp.uint8)
GRADS = jnp.array([[0.1, 0.1, 3.0], [0.1, 0.3, 2.0], [0.1, 0.4, -1.0]])


def uniform(target):
    return functools.partial(sparsity_distributions.uniform, sparsity=target)


def make(name, target=0.5, **options):
    return sparsity.create_updater_from_config(
        {
            "algorithm": name,
            "dist_type": "erk",
            "sparsity": target,
            "update_freq": 3,
            "update_start_step": 1,
            "update_end_step": 25,
            "drop_fraction": 0.3,
            "rng_seed": 5,
            **options,
        }
    )


def one_update(updater, step, mask=MASK, weights=WEIGHTS):
    trace = optax.TraceState({"w": jnp.ones((3, 3))})
    state = sparsity.SparseState({"w": mask}, trace, count=jnp.int32(step))
    params, state = updater.update_params_and_state(state, {"w": weights}, {"w": GRADS})
    return np.asarray(params["w"]), state.masks["w"].tolist(), state.inner_state.trace["w"].tolist()


def test_mest_by_hand():
    """3x3, target 4 active, soft bound a half: prune 6 to 4, grow 2; later 1; at the end 0."""
    updater = mest_granet.MESTGradient(
        scheduler=sparsity_schedules.PeriodicSchedule(10, 0, 40),
        sparsity_distribution_fn=uniform(5 / 9),
        soft_bound=0.5,
    )
    # Of 0.9 0.5 0.1 0.4 0.2 0.8 four stay; the largest gradients are at (0, 2) and (1, 2).
    weights, mask, trace = one_update(updater, 20)
    assert mask == [[1, 1, 1], [1, 0, 1], [1, 0, 0]]
    np.testing.assert_allclose(weights, [[0.9, 0.5, -0.1], [0.4, 0, 0], [-0.8, 0, 0]])
    assert trace == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    # From three quarters of the way on half the bound: one weight.
    assert one_update(updater, 30)[1] == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    # The last update grows nothing.
    weights, mask, _ = one_update(updater, 40)
    assert mask == [[1, 1, 0], [1, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(weights, [[0.9, 0.5, 0], [0.4, 0, 0], [-0.8, 0, 0]])


def test_mest_with_a_hard_bound_by_hand():
    """Target 6 active, bound a third: prune to 4, grow to 6; at the end nothing changes."""
    updater = mest_granet.MESTGradient(
        scheduler=sparsity_schedules.PeriodicSchedule(10, 0, 40),
        sparsity_distribution_fn=uniform(1 / 3),
        soft_bound=1 / 3,
        memory_bound="hard",
    )
    assert one_update(updater, 0)[1] == [[1, 1, 1], [1, 0, 1], [1, 0, 0]]
    assert one_update(updater, 30)[1] == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]  # (0, 2) comes back
    assert one_update(updater, 40)[1] == MASK.tolist()


def test_mest_can_score_with_gradients():
    updater = mest_granet.MESTGradient(
        scheduler=sparsity_schedules.PeriodicSchedule(10, 0, 40),
        sparsity_distribution_fn=uniform(5 / 9),
        gradient_weight=1.0,
    )
    # |w| + |g|: 1.0 0.6 3.1 0.5 0.5 0.9; four stay, at the end none grows.
    assert one_update(updater, 40)[1] == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]


def test_granet_by_hand():
    """3x3 in two events from 7 to 3: 4 after the first; then half of them drop and grow."""
    updater = mest_granet.GraNetGradient(
        scheduler=sparsity_schedules.PeriodicSchedule(10, 10, 20),
        sparsity_distribution_fn=uniform(2 / 3),
        initial_density=7 / 9,
        drop_fraction_fn=lambda step: 0.5,
    )
    assert updater._totals([9]).tolist() == [7, 4, 3]  # 3 + 4 / 8 = 3.5 rounds to even
    # Pruning leaves 0.9 0.5 0.4 0.8, dropping 0.9 0.8. The largest gradients outside are at (0, 2),
    # which was pruned and starts from zero, and at (1, 2).
    weights, mask, trace = one_update(updater, 10)
    assert mask == [[1, 0, 1], [0, 0, 1], [1, 0, 0]]
    np.testing.assert_allclose(weights, [[0.9, 0, 0], [0, 0, 0], [-0.8, 0, 0]])
    assert trace == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_gmp_by_hand():
    updater = mest_granet.GradualMagnitudePruning(
        scheduler=sparsity_schedules.PeriodicSchedule(10, 10, 20),
        sparsity_distribution_fn=uniform(2 / 3),
    )
    assert updater._totals([9]).tolist() == [9, 4, 3]  # 3 + 6 / 8 = 3.75
    assert one_update(updater, 10)[1] == [[1, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert one_update(updater, 20)[1] == [[1, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_pruning_is_global_but_leaves_each_layer_a_weight():
    updater = mest_granet.GradualMagnitudePruning(
        scheduler=sparsity_schedules.OneShotSchedule(0), sparsity_distribution_fn=uniform(0.5)
    )
    params = {"big": jnp.arange(1.0, 5.0).reshape(2, 2), "small": jnp.full((2, 2), 0.1)}
    state = updater.init_state(params)._replace(count=jnp.int32(0))
    _, state = updater.update_params_and_state(state, params, params)
    assert state.masks["big"].tolist() == [[0, 1], [1, 1]]
    assert state.masks["small"].tolist() == [[1, 0], [0, 0]]


def run(updater, params, steps, tx=None):
    """The masks after each step, under jit, with random gradients."""
    tx = updater.wrap_optax(tx or optax.sgd(0.1, momentum=0.9))
    state = tx.init(params)
    params = updater.post_gradient_update(params, state)

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return updater.post_gradient_update(optax.apply_updates(params, updates), state), state

    history = [state.masks]
    for t in range(steps):
        params, state = step(params, state, random_like(params, t))
        history.append(state.masks)
    return history


def counts(masks):
    return np.array([int(m.sum()) for m in jax.tree.leaves(masks)])


@pytest.mark.parametrize("name", ["mest_r", "mest_g"])
def test_mest_counts(params, name):
    """Over budget by exactly floor(rho n) a layer, and at the target after the last update."""
    updater = make(name, soft_bound=0.2)
    targets = updater._targets(params)
    target = np.array(jax.tree.leaves(targets))
    sizes = np.array([p.size for p in jax.tree.leaves(params) if p.ndim > 1])
    assert target.sum() == round(sizes.sum() / 2)
    history = run(updater, params, 26)
    full = np.minimum([int(Fraction(n, 5)) for n in target.tolist()], sizes - target)
    half = np.minimum([int(Fraction(n, 10)) for n in target.tolist()], sizes - target)
    for t, masks in enumerate(history):
        # Updates at steps 3, 6, ... 24, seen one step later; half the bound from step 18 on.
        extra = full if t <= 18 else half if t <= 24 else 0
        np.testing.assert_array_equal(counts(masks), target + extra)


@pytest.mark.parametrize("name", ["granet_r", "granet_g", "gmp"])
def test_gradual_counts(params, name):
    updater = make(name, 0.7, prune_end_step=16)
    sizes = np.array([p.size for p in jax.tree.leaves(params) if p.ndim > 1])
    total, start = sizes.sum(), 0.8 if name != "gmp" else 1.0
    history = [counts(masks) for masks in run(updater, params, 26)]
    assert history[0].sum() == round(start * total)
    assert history[-1].sum() == round(0.3 * total)
    events = [history[t + 1] for t in range(26) if updater.scheduler.is_mask_update_iter(t)]
    assert len(events) == 8
    for j, found in enumerate(events, start=1):  # pruning at 3, 6, ... 15: five events
        left = max(1 - j / 5, 0) ** 3
        assert found.sum() == round((0.3 + (start - 0.3) * left) * total)
    for before, after in itertools.pairwise(events):
        assert (after <= before).all()
    for found in events[4:]:
        np.testing.assert_array_equal(found, events[4])


def test_the_count_of_a_pruning_is_rounded_once():
    """After the first, round((0.9 + 0.1 * 8 / 27) * 48) = round(44.62); at the end round(43.2)."""
    updater = mest_granet.GraNetGradient(
        scheduler=sparsity_schedules.PeriodicSchedule(1, 1, 3),
        sparsity_distribution_fn=uniform(0.1),
        initial_density=1.0,
    )
    assert updater._totals([48]).tolist() == [48, 45, 43, 43]


def test_granet_of_the_reference():
    """GraNet's CIFAR run but for its last event, which the original leaves out."""
    updater = mest_granet.GraNetGradient(
        scheduler=sparsity_schedules.PeriodicSchedule(1000, 1000, 31_000),
        sparsity_distribution_fn=uniform(0.9),
        initial_density=0.5,
    )
    densities = updater._totals([1_000_000]) / 1e6
    for event, expected in {
        1: 0.462526, 5: 0.335991, 10: 0.224346, 20: 0.117871, 30: 0.100013, 31: 0.1
    }.items():  # fmt: skip
        assert densities[event] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["granet_r", "granet_g", "mest_g"])
def test_pruned_and_regrown_weights_start_from_zero(params, name):
    """After an update no weight is active that was neither kept nor zero."""
    updater = make(name, 0.6, drop_fraction=0.5)
    params = {"a": params["Conv_1"], "b": params["Dense_0"]}
    state = updater.init_state(params)._replace(count=jnp.int32(3))
    before = updater.post_gradient_update(params, state)
    after, new = jax.jit(updater.update_params_and_state)(state, before, random_like(params, 1))
    for layer in ("a", "b"):
        w, v = before[layer]["kernel"], after[layer]["kernel"]
        assert bool(jnp.all((v == w) | (v == 0)))
        assert not bool(jnp.any(v * (1 - new.masks[layer]["kernel"])))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("granet_g", {"sparsity": 0.1}, r"initial_density: found 0.8; .* target density 0.9, at m"),
        ("mest_r", {"soft_bound": 1.5}, "soft_bound: found 1.5"),
        ("mest_r", {"memory_bound": "loose"}, "memory_bound: found 'loose'; expected one of soft"),
        ("mest_r", {"update_start_step": None}, "update_end_step: found a schedule without"),
        ("mest_g", {"update_start_step": 25}, None),
        ("granet_r", {"update_start_step": 13, "update_end_step": 14}, "update_freq: found no mul"),
        ("set", {"adam_fresh": "big"}, "adam_fresh: found 'big'"),
        ("set", {"drop_fraction_schedule": "linear"}, "drop_fraction_schedule: found 'linear'"),
        ("set", {"drop_fraction_floor": 0.4}, "drop_fraction_floor: found 0.4 with drop_fraction"),
    ],
)
def test_mistakes(params, name, options, message):
    if message is None:
        make(name, **options).init_state(params)
        return
    with pytest.raises(ValueError, match=message):
        make(name, **options).init_state(params)


@pytest.mark.parametrize("floor", [0.0, 0.005])
def test_drop_fraction_schedules(floor):
    constant = make("set", drop_fraction_schedule="constant", drop_fraction_floor=floor)
    assert constant.drop_fraction_fn(20) == 0.3
    cosine = make(
        "set", update_end_step=62_560, drop_fraction=0.5, drop_fraction_floor=floor
    ).drop_fraction_fn
    # Liu et al. 2021 (ITOP): 0.5 to 0.005 over 62,560 steps.
    expected = {0: 0.5, 1000: 0.499688, 31_280: 0.2525, 62_000: 0.005098}
    for step, value in expected.items():
        exact = floor + (0.5 - floor) * (1 + np.cos(np.pi * step / 62_560)) / 2
        assert float(cosine(step)) == pytest.approx(exact, abs=1e-6)
        if floor:
            assert exact == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("adam_fresh", ["zero", "mean_v"])
def test_second_moments_of_new_weights(adam_fresh):
    updater = sparsity.RigL(drop_fraction_fn=lambda step: 0.5, adam_fresh=adam_fresh)
    tx = optax.inject_hyperparams(optax.adam)(0.1)
    params = {"w": WEIGHTS, "b": jnp.ones(3)}
    second = {"w": jnp.arange(9.0).reshape(3, 3) * MASK, "b": jnp.ones(3)}
    inner = tx.init(params)
    adam = inner.inner_state[0]._replace(nu=second, mu=second)
    inner = inner._replace(inner_state=(adam, *inner.inner_state[1:]))
    state = sparsity.SparseState({"w": MASK, "b": None}, inner, count=jnp.int32(0))
    state = updater.update_state(state, params, {"w": GRADS, "b": jnp.ones(3)})
    # Kept: 0.9 0.5 0.8; grown: (0, 2) and (1, 2) and (2, 2), of which (0, 2) was dropped just now.
    assert state.masks["w"].tolist() == [[1, 1, 1], [0, 0, 1], [1, 0, 1]]
    mean = (0 + 1 + 2 + 6) / 4 if adam_fresh == "mean_v" else 0.0
    expected = [[0, 1, 2], [0, 0, mean], [6, 0, mean]]
    found = state.inner_state.inner_state[0]
    np.testing.assert_allclose(found.nu["w"], expected)
    np.testing.assert_allclose(found.mu["w"], [[0, 1, 2], [0, 0, 0], [6, 0, 0]])
    np.testing.assert_array_equal(found.nu["b"], np.ones(3))
