"""Forward passes against an independent implementation in PyTorch, given the same weights."""

import functools

import jax
import numpy as np
import pytest

from dst_jax import models

pytest.importorskip("torch", reason="PyTorch, with which the networks are compared, is absent")

import torch

from tests.models import pytorch_networks


def random_variables(module, image_shape):
    """Weights from the initialisation, and norms that are no identities: each layer counts."""
    generator = np.random.default_rng(1)
    draw = {
        "scale": lambda shape: generator.uniform(0.5, 1.5, shape),
        "bias": lambda shape: 0.1 * generator.standard_normal(shape),
        "mean": lambda shape: 0.1 * generator.standard_normal(shape),
        "var": lambda shape: generator.uniform(0.5, 1.5, shape),
    }

    def change(path, leaf):
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return draw[name](leaf.shape).astype(np.float32) if name in draw else leaf

    return jax.tree_util.tree_map_with_path(change, models.init(module, 0, image_shape))


def largest_difference(name, theirs, size, num_classes, batch=2, **options):
    """Largest difference of logits, over their largest magnitude."""
    module = models.create(name, num_classes, **options)
    variables = random_variables(module, (size, size, 3))
    images = np.random.default_rng(0).standard_normal((batch, size, size, 3)).astype(np.float32)
    ours = np.asarray(jax.jit(module.apply)(variables, images))
    with torch.no_grad():
        expected = theirs(variables, images)
    assert ours.shape == expected.shape == (batch, num_classes)
    assert np.std(expected) > 0
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


SMALL = {
    "resnet50": (
        {"width": 8, "depth": 2},
        functools.partial(pytorch_networks.resnet50, blocks=(2, 2, 2, 2)),
        48,
    ),
    "efficientnet_b0": (
        {"width": 8, "depth": 2},
        functools.partial(pytorch_networks.efficientnet_b0, depth=2),
        48,
    ),
    "deit_base": (
        {"width": 128, "depth": 2},
        functools.partial(pytorch_networks.deit, blocks=2),
        48,
    ),
}
FULL = {
    "resnet50": pytorch_networks.resnet50,
    "efficientnet_b0": pytorch_networks.efficientnet_b0,
    "deit_base": pytorch_networks.deit,
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_gives_the_same_logits(name):
    options, theirs, size = SMALL[name]
    assert largest_difference(name, theirs, size, 7, **options) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("name", FULL)
def test_the_published_network_gives_the_same_logits_at_224_pixels(name, record_property):
    difference = largest_difference(name, FULL[name], 224, 1000, batch=1)
    record_property("largest_difference", difference)
    print(f"{name}: largest difference {difference:.2e} of the largest logit")
    assert difference < 1e-5
