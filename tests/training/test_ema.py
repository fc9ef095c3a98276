"""The running average of the weights, by hand, while masks change under it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from trainer import Trainer

from dst_jax.runtime.devices import Devices
from dst_jax.training import ema

DECAY = 0.8


@pytest.mark.parametrize("timing", ["replace", "after"])
def test_it_is_the_recurrence_and_a_weight_grown_again_starts_from_0(timing, cache_dir):
    config = runs.small_config(
        model__name="mlp",
        model__width=24,
        train__ema=DECAY,
        sparsity__update_freq="2",
        sparsity__update_end_step="100%",
        sparsity__drop_fraction=0.5,
        sparsity__algorithm="set",
        sparsity__update_timing=timing,
    )
    trainer = Trainer(config, Devices("jit", jax.devices()[:1]), cache_dir)
    before = jax.tree.map(np.asarray, trainer.first())
    by_hand = {path: np.float64(leaf) for path, leaf in _leaves(before.params)}
    gone, back = 0, 0
    dropped: dict = {path: np.zeros(leaf.shape, bool) for path, leaf in _leaves(before.params)}
    for now, after in enumerate(trainer.states(16)):
        weights, masks = dict(_leaves(after.params)), dict(_leaves(after.sparse.masks))
        old = dict(_leaves(before.sparse.masks))
        average = dict(_leaves(after.ema["params"]))
        rate = 1 - min(DECAY, (1 + now) / (10 + now))
        for path, mean in by_hand.items():
            new = np.float64(weights[path])
            if trainer.is_update(now) and timing == "replace":  # no optimizer step
                new = np.float64(dict(_leaves(before.params))[path])
            # A weight that this update drops is taken in by its last value and then set to 0.
            mean = mean + rate * (new - mean)
            if path in masks:
                mean = mean * masks[path]
                assert not average[path][masks[path] == 0].any()  # exactly
                grown = (masks[path] == 1) & (old[path] == 0)
                assert not average[path][grown].any()  # starts from 0 with the weight
                gone += int(((masks[path] == 0) & (old[path] == 1)).sum())
                back += int((grown & dropped[path]).sum())
                dropped[path] |= (masks[path] == 0) & (old[path] == 1)
            by_hand[path] = mean
            np.testing.assert_allclose(average[path], mean, rtol=2e-5, atol=2e-6)
        before = after
    assert gone > 1_000
    assert back > 100  # dropped and grown again


def _leaves(tree):
    return jax.tree.leaves_with_path(tree)


def test_statistics_of_batchnorm_are_averaged_and_the_decay_starts_low():
    params, masks = {"kernel": jnp.ones(3)}, {"kernel": jnp.array([1, 0, 1], jnp.uint8)}
    average = ema.init(0.99, params, {"mean": jnp.zeros(2)}, masks)
    np.testing.assert_array_equal(average["params"]["kernel"], [1, 0, 1])
    current = ema.init(0.99, {"kernel": jnp.full(3, 5.0)}, {"mean": jnp.ones(2)}, masks)
    average = ema.update(0.99, average, current, jnp.int32(0))
    np.testing.assert_allclose(average["params"]["kernel"], [0.1 + 4.5, 0, 0.1 + 4.5])
    np.testing.assert_allclose(average["batch_stats"]["mean"], 0.9)
    late = ema.update(0.99, average, current, jnp.int32(10**6))
    np.testing.assert_allclose(late["batch_stats"]["mean"], 0.99 * 0.9 + 0.01, rtol=1e-6)


def test_off_there_is_none():
    nothing = ema.init(0.0, {"kernel": jnp.ones(3)}, {}, {"kernel": None})
    assert nothing == ema.update(0.0, {}, {}, jnp.int32(3)) == ema.apply_mask({}, {}) == {}
