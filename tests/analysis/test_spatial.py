"""Kernel maps against loops, stripes against chance, dead units against networks drawn by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import models
from dst_jax.analysis import dead_units, spatial
from dst_jax.models.convolution import Conv

RANDOM = np.random.default_rng(0)


def test_kernel_map_is_a_loop():
    kernel = RANDOM.normal(size=(3, 2, 4, 5))
    mask = RANDOM.random(kernel.shape) < 0.4
    found = spatial.kernel_map(kernel, mask)
    for output in range(5):
        for source in range(4):
            weights = [
                kernel[y, x, source, output]
                for y in range(3)
                for x in range(2)
                if mask[y, x, source, output]
            ]
            assert found.nonzero[output, source] == len(weights)
            assert found.magnitude[output, source] == pytest.approx(sum(map(abs, weights)))
    assert (spatial.kernel_map(kernel).nonzero == 6).all()
    assert spatial.kernel_map(kernel[0, 0]).nonzero.shape == (5, 4)


def test_fans_and_dead_channels():
    mask = np.zeros((1, 1, 3, 2))
    mask[0, 0, 0, 1] = mask[0, 0, 2, 1] = 1
    fan_in, fan_out = spatial.fans(mask)
    assert fan_in.tolist() == [0, 2]
    assert fan_out.tolist() == [1, 0, 1]
    assert spatial.dead_channels(mask) == (1, 1)


def test_stripes_are_0_by_chance_and_1_for_whole_channels():
    scores = []
    for _ in range(400):
        mask = np.zeros(12 * 9, int)
        mask[RANDOM.choice(mask.size, 40, replace=False)] = 1
        scores.append(spatial.stripe_scores(mask.reshape(3, 3, 1, 12))[0])
    # The mean of 400 scores whose standard deviation is known from them.
    assert abs(np.mean(scores)) < 4 * np.std(scores) / np.sqrt(len(scores))
    striped = np.zeros((3, 3, 8, 6))
    striped[..., :2] = 1
    outputs, inputs = spatial.stripe_scores(striped)
    assert outputs == pytest.approx(1)
    assert inputs < 0  # every input has the same fan-out: more equal than by chance
    assert spatial.stripe_scores(np.ones((3, 3, 4, 4))) == (None, None)
    assert spatial.stripe_scores(np.zeros((3, 3, 4, 4))) == (None, None)


class Chain(nn.Module):
    """Two convolutions and a classifier, with a shortcut around the second convolution."""

    shortcut: bool = False

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(Conv(4, (3, 3), name="a")(images)))
        y = Conv(4, (1, 1), name="b")(x)
        x = nn.relu(y + x if self.shortcut else y)
        return nn.Dense(3, name="c")(x.mean((1, 2)))


def masks_of(params, **edges):
    """All zeros but the named edges, as `a=[(input, output), ...]`."""
    masks = {}
    for name, pairs in edges.items():
        mask = np.zeros(params[name]["kernel"].shape, np.uint8)
        for source, output in pairs:
            mask[..., source, output].flat[0] = 1
        masks[f"{name}/kernel"] = mask
    return masks


@pytest.mark.parametrize("shortcut", [False, True])
def test_path_dead_by_hand(shortcut):
    module = Chain(shortcut)
    params = module.init(jax.random.key(0), jnp.ones((1, 6, 6, 3)))["params"]
    masks = masks_of(
        params,
        a=[(0, 0), (1, 1), (2, 2)],  # a3 is not reached
        b=[(0, 0), (1, 1), (3, 2), (0, 3)],  # b2 hangs on a3; a2 feeds nothing
        c=[(0, 0), (1, 0), (2, 1)],  # b3 feeds nothing; class 2 hangs on nothing
    )
    found = dead_units.path_dead(module, masks, params, (6, 6, 3))
    dead = {name: np.flatnonzero(layer.outputs).tolist() for name, layer in found.items()}
    if shortcut:  # a2 reaches c through it, and so does what b2 would have carried
        assert dead == {"a/kernel": [3], "b/kernel": [2, 3], "c/kernel": [2]}
        effective = {"a/kernel": 3, "b/kernel": 2, "c/kernel": 3}
    else:
        assert dead == {"a/kernel": [2, 3], "b/kernel": [2, 3], "c/kernel": [1, 2]}
        effective = {"a/kernel": 2, "b/kernel": 2, "c/kernel": 2}
    assert {name: layer.effective for name, layer in found.items()} == effective
    assert found["b/kernel"].active == 4


def test_in_a_dense_network_nothing_is_dead():
    module = models.create("resnet20", 10, width=4)
    params = models.init(module, 0, (32, 32, 3))["params"]
    found = dead_units.path_dead(module, {}, params, (32, 32, 3))
    assert len(found) == 20
    assert not any(layer.outputs.any() for layer in found.values())
    assert all(layer.effective == layer.active for layer in found.values())


def test_a_network_with_layer_normalisation_is_not_judged():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            return nn.Dense(3)(nn.LayerNorm()(images.mean((1, 2))))

    params = Net().init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))["params"]
    assert dead_units.path_dead(Net(), {}, params, (4, 4, 3)) is None
