"""Forward-mode differentiation and vectorisation through every model of the registry.

The oracle of a tangent is the reverse mode: the product of the gradient with the same direction.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import lowering_checks, stablehlo
from dst_jax import models
from tests.models.small import quick


def loss_of(name):
    """(loss in training of the parameters, parameters) of a small network."""
    module, image_shape = quick(name)
    variables = models.init(module, 0, image_shape)
    images = jax.random.normal(jax.random.key(0), (2, *image_shape))
    statistics = {"batch_stats": variables["batch_stats"]} if "batch_stats" in variables else {}

    def loss(params):
        logits, _ = module.apply(
            {"params": params, **statistics},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        return -jax.nn.log_softmax(logits)[:, 0].mean()

    return loss, variables["params"]


def direction_like(params):
    generator = np.random.default_rng(5)
    return jax.tree.map(
        lambda leaf: generator.standard_normal(leaf.shape).astype(np.float32), params
    )


@pytest.mark.parametrize("name", models.MODELS)
def test_forward_mode_agrees_with_reverse_mode(name):
    loss, params = loss_of(name)
    direction = direction_like(params)

    @jax.jit
    def both(params, direction):
        value, tangent = jax.jvp(loss, (params,), (direction,))
        other, gradient = jax.value_and_grad(loss)(params)
        return value, tangent, other, jax.tree.map(jnp.multiply, gradient, direction)

    value, tangent, other, products = both(params, direction)
    np.testing.assert_allclose(value, other, rtol=1e-5)
    terms = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(products)]).astype("f8")
    # Terms of either sign cancel, so that rounding is measured by their size.
    assert abs(tangent) > 1e-3
    np.testing.assert_allclose(tangent, terms.sum(), atol=1e-4 * np.linalg.norm(terms))


def test_forward_mode_agrees_with_a_finite_difference():
    loss, params = loss_of("resnet20")
    direction = direction_like(params)
    tangent = jax.jit(lambda: jax.jvp(loss, (params,), (direction,))[1])()

    def moved(step):
        return loss(jax.tree.map(lambda leaf, part: leaf + step * part, params, direction))

    high, low = jax.jit(lambda: (moved(1e-3), moved(-1e-3)))()
    np.testing.assert_allclose((high - low) / 2e-3, tangent, rtol=2e-2)


@pytest.mark.parametrize("platform", stablehlo.PLATFORMS)
@pytest.mark.parametrize("name", ["vgg16", "efficientnet_b0", "i3d_r50"])
def test_forward_mode_lowers_for_accelerators(name, platform):
    loss, params = loss_of(name)
    program = jax.jit(lambda params: jax.jvp(loss, (params,), (params,)))
    facts = stablehlo.Facts.of(stablehlo.lower(program, (params,), platform))
    assert facts.not_inlined == 0
    assert lowering_checks.complaints(facts, lowering_checks.Expected()) == []


def test_vmap_over_two_networks():
    loss, params = loss_of("resnet20")
    other = jax.tree.map(lambda leaf, part: leaf + 0.1 * part, params, direction_like(params))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    losses, gradients = jax.jit(jax.vmap(jax.value_and_grad(loss)))(stacked)
    alone = jax.jit(jax.value_and_grad(loss))
    for index, each in enumerate((params, other)):
        value, gradient = alone(each)
        np.testing.assert_allclose(losses[index], value, rtol=1e-5)
        for mine, theirs in zip(*map(jax.tree.leaves, (gradients, gradient)), strict=True):
            largest = np.abs(theirs).max()
            np.testing.assert_allclose(mine[index], theirs, rtol=1e-3, atol=1e-3 * largest)
