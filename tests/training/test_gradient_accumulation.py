"""Several micro-batches per step against the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from trainer import Trainer, assert_same_masks, relative_errors

from dst_jax.runtime.devices import Devices
from dst_jax.training import gradient_accumulation


def test_without_batchnorm_a_step_is_that_of_the_whole_batch(cache_dir):
    options = {"model__name": "mlp", "model__width": 24, "sparsity__update_freq": "2"}
    options |= {"train__mixup": 0.8, "train__label_smoothing": 0.1}
    row = Devices("jit", jax.devices()[:4])
    *_, whole = Trainer(runs.small_config(**options), row, cache_dir).states(5)
    *_, parts = Trainer(
        runs.small_config(train__grad_accum_steps=4, **options), row, cache_dir
    ).states(5)
    assert_same_masks(whole, parts)
    assert max(relative_errors(whole.params, parts.params).values()) < 2e-6
    assert float(parts.metrics.loss) == pytest.approx(float(whole.metrics.loss), rel=1e-6)
    assert int(parts.metrics.correct) == int(whole.metrics.correct)
    assert int(parts.metrics.examples) == 5 * 32


def test_statistics_pass_from_one_part_to_the_next_and_each_has_its_own_key():
    x = jnp.arange(12.0)

    def gradients_of(batch, stats, key):
        kept = jax.random.bernoulli(key, 0.5, batch.shape)
        return batch.mean(), jnp.sum(batch > 5), 0.9 * stats + 0.1 * batch.mean(), kept.mean()

    key = jax.random.key(0)
    loss, correct, stats, kept = jax.jit(
        lambda x: gradient_accumulation.accumulate(gradients_of, x, jnp.float32(0), key, 3)
    )(x)
    parts = np.arange(12.0).reshape(4, 3).T  # every third row
    expected = 0.0
    for part in parts:
        expected = 0.9 * expected + 0.1 * part.mean()
    assert float(loss) == pytest.approx(5.5)
    assert int(correct) == 6
    assert float(stats) == pytest.approx(expected)
    draws = [jax.random.bernoulli(jax.random.fold_in(key, i), 0.5, (4,)) for i in range(3)]
    assert float(kept) == pytest.approx(np.mean(draws))
    once = gradient_accumulation.accumulate(gradients_of, x, jnp.float32(0), key, 1)
    assert float(once[3]) == jax.random.bernoulli(key, 0.5, (12,)).mean()
