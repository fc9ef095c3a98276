"""Sparsity inside a training step: SNIP's masks."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dst_jax import sparsity
from dst_jax.runtime.devices import Axis, Devices
from dst_jax.training import step

BATCH = {
    "image": jax.random.normal(jax.random.key(1), (16, 2, 2, 3)),
    "label": jnp.arange(16) % 5,
}


class Net(nn.Module):
    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Dense(20)(images.reshape(len(images), -1))
        return nn.Dense(5)(nn.relu(nn.BatchNorm(use_running_average=not train)(x)))


def recipe_of(algorithm, **options):
    updater = sparsity.create_updater_from_config(
        {
            "algorithm": algorithm,
            "dist_type": "uniform",
            "sparsity": 0.5,
            "update_freq": 2,
            "update_start_step": 1,
            "update_end_step": 8,
            "rng_seed": 1,
            **options,
        }
    )
    return step.Recipe(Net(), optax.trace(0.9), updater, lambda _: 0.1, 0.0, seed=0)


def first(recipe):
    variables = recipe.model.init(jax.random.key(0), BATCH["image"])
    return variables, step.init_state(recipe, variables)


@pytest.mark.parametrize("algorithm", ["set", "mest_g"])
def test_snip(algorithm):
    recipe = recipe_of(algorithm)
    variables, masked = first(recipe)
    dense = dataclasses.replace(masked, params=variables["params"])
    state = step.snip(dense, BATCH, recipe, Axis(1, Devices().mesh))

    def loss(params):
        logits, _ = recipe.model.apply(
            {**variables, "params": params}, BATCH["image"], train=True, mutable=["batch_stats"]
        )
        return step.mean_loss(logits, BATCH["label"], 0.0)

    grads = jax.grad(loss)(variables["params"])
    scores = {
        layer: np.abs(variables["params"][layer]["kernel"] * grads[layer]["kernel"])
        for layer in ("Dense_0", "Dense_1")
    }
    total = sum(int(m.sum()) for m in jax.tree.leaves(masked.sparse.masks))
    threshold = np.sort(np.concatenate([s.ravel() for s in scores.values()]))[-total]
    for layer, score in scores.items():
        mask = np.asarray(state.sparse.masks[layer]["kernel"])
        np.testing.assert_array_equal(mask, score >= threshold)
        np.testing.assert_array_equal(state.union[layer]["kernel"], mask)
        kernel = variables["params"][layer]["kernel"]
        np.testing.assert_array_equal(state.params[layer]["kernel"], kernel * mask)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, masked.batch_stats)
