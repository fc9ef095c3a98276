"""Several micro-batches per step against the whole batch, and what key each draws from."""

import dataclasses
import zlib
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runs
from trainer import Trainer, assert_same_masks, relative_errors

from dst_jax import sparsity
from dst_jax.runtime.devices import Devices
from dst_jax.training import gradient_accumulation
from dst_jax.training import step as step_lib


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


class Dropped(nn.Module):
    """Logits that are nothing but what dropout leaves of the input."""

    @nn.compact
    def __call__(self, x, train):
        scale = self.param("scale", nn.initializers.ones, ())
        return nn.Dropout(0.5, deterministic=not train)(scale * x)


def test_the_key_of_dropout_is_of_its_own_purpose_step_and_device():
    updater = sparsity.create_updater_from_config({"algorithm": "dense"})
    recipe = step_lib.Recipe(Dropped(), optax.identity(), updater, lambda step: 0.0, 0.0, seed=3)
    batch = {"image": jnp.arange(320.0).reshape(8, 40) / 40, "label": jnp.arange(8)}
    variables = Dropped().init(jax.random.key(0), batch["image"], train=False)
    state = dataclasses.replace(step_lib.init_state(recipe, variables), step=jnp.int32(7))
    for shard in (0, 2):
        axis = mock.Mock(shard=(shard, 1), mean=lambda tree: tree, sum=lambda tree: tree)
        loss = step_lib._gradients(state, batch, recipe, axis)[0]
        key = jax.random.key(3)
        for number in (np.uint32(zlib.crc32(b"train/dropout")), 7, shard):
            key = jax.random.fold_in(key, number)
        logits = Dropped().apply(variables, batch["image"], train=True, rngs={"dropout": key})
        expected = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
        assert float(loss) == pytest.approx(float(expected), rel=1e-6)


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
