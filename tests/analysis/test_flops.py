"""FLOPs against the counts that Evci et al. 2020 published and against counting by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import traverse_util

from dst_jax import models
from dst_jax.analysis.flops import LayerCost, inference_flops, layer_costs
from dst_jax.errors import UserError
from dst_jax.sparsity import sparsity_distributions


@pytest.fixture(scope="module")
def resnet50():
    return layer_costs(models.create("resnet50", 1000), (224, 224, 3))


def densities_of(costs, sparsity, distribution, exclude=()):
    shapes = {c.path: jax.ShapeDtypeStruct(c.shape, jnp.float32) for c in costs}
    tree = traverse_util.unflatten_dict(shapes, sep="/")
    keep = lambda path, leaf: path not in exclude  # noqa: E731
    sparsities = distribution(tree, sparsity, keep)
    return {
        path: None if value is None else 1 - value
        for path, value in traverse_util.flatten_dict(sparsities, sep="/").items()
    }


def ratio(costs, densities):
    return inference_flops(costs, densities) / inference_flops(costs)


def test_dense_resnet50(resnet50):
    assert len(resnet50) == 54
    assert resnet50[0] == LayerCost("conv1/kernel", (7, 7, 3, 64), 118_013_952, 802_816)
    assert resnet50[-1] == LayerCost("classifier/kernel", (2048, 1000), 2_048_000, 1000)
    assert sum(cost.macs for cost in resnet50) == 4_089_184_256
    assert inference_flops(resnet50) == pytest.approx(8.1895e9, rel=1e-5)


@pytest.mark.parametrize(
    ("sparsity", "expected"),
    [
        (0.1, 0.9695),
        (0.3, 0.8492),
        (0.5, 0.7146),
        (0.8, 0.4146),  # published: 0.42
        (0.9, 0.2429),  # published: 0.24
        (0.95, 0.1229),  # published: 0.12
        (0.965, 0.0864),  # published: 0.09
    ],
)
def test_resnet50_with_erk_densities(resnet50, sparsity, expected):
    densities = densities_of(resnet50, sparsity, sparsity_distributions.erk)
    assert ratio(resnet50, densities) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(
    ("sparsity", "expected"),
    [(0.8, 0.2241), (0.9, 0.1272), (0.95, 0.0787), (0.965, 0.0641)],
)
def test_resnet50_with_uniform_densities_and_a_dense_first_layer(resnet50, sparsity, expected):
    first = (("conv1", "kernel"),)
    densities = densities_of(resnet50, sparsity, sparsity_distributions.uniform, first)
    assert densities["conv1/kernel"] is None
    assert ratio(resnet50, densities) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_kernel_of_every_model_is_counted_once(name):
    module = models.create(name, 10)
    params = models.init(module, 0, (32, 32, 3))["params"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = {"/".join(k.key for k in path): x.shape for path, x in leaves if x.ndim > 1}
    costs = layer_costs(module, (32, 32, 3))
    assert {cost.path: cost.shape for cost in costs} == kernels
    assert len(costs) == len(kernels)


def test_a_small_network_counted_by_hand():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3), strides=2, name="plain")(x)  # [6, 6, 2] -> [3, 3, 4]
            x = nn.Conv(4, (1, 1), feature_group_count=4, name="depthwise")(x)
            return nn.Dense(5, name="classifier")(x.reshape(1, -1))

    costs = layer_costs(Net(), (6, 6, 2))
    assert costs == [
        LayerCost("plain/kernel", (3, 3, 2, 4), 36 * 18, 36),
        LayerCost("depthwise/kernel", (1, 1, 1, 4), 36, 36),
        LayerCost("classifier/kernel", (36, 5), 180, 5),
    ]
    assert inference_flops(costs) == 2 * (648 + 36 + 180) + 36 + 36
    assert inference_flops(costs, {"plain/kernel": 0.5, "depthwise/kernel": None}) == (
        2 * (324 + 36 + 180) + 36 + 36
    )
    with pytest.raises(UserError, match="densities: found other/kernel"):
        inference_flops(costs, {"other/kernel": 0.5})
