"""ITOP rates by hand, and what a training step counts at its mask updates against set algebra."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dst_jax import sparsity
from dst_jax.runtime.devices import Axis, Devices
from dst_jax.sparsity import exploration
from dst_jax.training import metrics_log, step
from dst_jax.training.train_metrics import TrainMetrics

BATCH = {
    "image": jax.random.normal(jax.random.key(1), (16, 2, 2, 3)),
    "label": jnp.arange(16) % 5,
}


def test_rates_by_hand():
    masks = [np.array([1, 0, 0, 0], np.uint8), np.array([[1, 1]], np.uint8)]
    union = [np.array([1, 1, 0, 0], np.uint8), np.array([[1, 1]], np.uint8)]
    assert exploration.rates(masks, union) == {"explored": 4 / 6, "explored_sparse": 2 / 4}
    assert exploration.rates(masks[1:], union[1:]) == {"explored": 1.0}
    assert exploration.rates([], []) == {}


class Net(nn.Module):
    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(5)(nn.relu(nn.Dense(20)(images.reshape(len(images), -1))))


@pytest.mark.parametrize("algorithm", ["set", "rigl", "granet_g", "mest_r", "static"])
def test_a_window_counts_what_the_masks_say(algorithm):
    updater = sparsity.create_updater_from_config(
        {
            "algorithm": algorithm,
            "dist_type": "uniform",
            "sparsity": 0.5,
            "update_freq": 2,
            "update_start_step": 1,
            "update_end_step": 8,
            "drop_fraction": 0.3,
            "rng_seed": 1,
        }
    )
    recipe = step.Recipe(Net(), optax.trace(0.9), updater, lambda _: 0.1, 0.0, seed=0)
    axis = Axis(1, Devices("jit", jax.devices()[:1]).mesh)
    run = jax.jit(
        lambda state, update: step.train_step(state, BATCH, recipe, axis, update=update),
        static_argnames="update",
    )
    learn = jax.jit(lambda state: step.gradient_step(state, BATCH, recipe, axis, update=True))
    state = step.init_state(recipe, Net().init(jax.random.key(0), BATCH["image"]))

    def flat(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(bool)

    seen, newest = flat(state.sparse.masks), np.zeros(160 + 180, bool)[: len(flat(state.union))]
    fresh, newcomers, survivors, updates = 0, 0, 0, 0
    norms = np.zeros(2)
    for now in range(8):
        update = bool(updater.scheduler.is_mask_update_iter(now))
        before = flat(state.sparse.masks)
        if update:
            dense = learn(state)[1]
            grads = np.concatenate([np.ravel(dense[n]["kernel"]) for n in sorted(dense)])
            norms += [np.linalg.norm(grads[before]), np.linalg.norm(grads[~before])]
        state = run(state, update=update)
        after = flat(state.sparse.masks)
        if update:
            fresh += int((after & ~before).sum())
            newcomers += int(newest.sum())
            survivors += int((newest & after).sum())
            newest, updates = after & ~before, updates + 1
        seen |= after
    metrics = jax.tree.map(np.asarray, state.metrics)
    np.testing.assert_array_equal(flat(state.union), seen)
    np.testing.assert_array_equal(flat(state.newest), newest)
    found = (metrics.num_activated, metrics.num_recent, metrics.num_surviving, metrics.updates)
    assert found == (fresh, newcomers, survivors, updates)
    np.testing.assert_allclose(
        [metrics.gradient_active, metrics.gradient_inactive], norms, rtol=1e-5
    )
    if algorithm == "static":
        assert metrics.num_grown == 0
        return
    assert metrics.num_grown >= metrics.num_activated > 0
    line = metrics_log.of_updates(metrics, int(after.sum()))
    assert line["mask_churn"] == fresh / (after.sum() * updates)
    assert line["grown_survival"] == survivors / newcomers
    assert line["regrown_same"] == 1 - fresh / int(metrics.num_grown)


@pytest.mark.parametrize("algorithm", ["set", "rigl"])
def test_grown_weights_are_counted_with_those_just_dropped(algorithm):
    """A layer of 10 active of 20, of which an update drops 3: round(10 * 0.7) = 7 stay."""
    updater = sparsity.create_updater_from_config(
        {
            "algorithm": algorithm,
            "dist_type": "uniform",
            "sparsity": 0.5,
            "update_freq": 1,
            "update_start_step": 0,
            "update_end_step": 10,
            "drop_fraction": 0.3,
            "drop_fraction_schedule": "constant",
        }
    )
    params = {"layer": {"kernel": jnp.arange(1.0, 21.0).reshape(4, 5)}}
    state = updater.init_state(params)
    assert int(updater.count_grown(state._replace(count=jnp.int32(0)), params)) == 3


def test_nothing_is_said_without_updates():
    assert metrics_log.of_updates(TrainMetrics.empty(), 10) == {}
