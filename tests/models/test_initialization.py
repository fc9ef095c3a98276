"""Host initialisation against Flax's own: structure, statistics, and what a leaf depends on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dst_jax import models
from dst_jax.errors import UserError
from dst_jax.models import initializers
from dst_jax.models.convolution import Conv
from tests.models.small import small


@pytest.mark.parametrize("name", models.MODELS)
def test_same_structure_as_flax_and_same_constants(name):
    module, image_shape = small(name)
    ours = models.init(module, 3, image_shape)
    images = jnp.zeros((1, *image_shape))
    theirs = jax.eval_shape(module.init, jax.random.key(0), images)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(ours))
    described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (ours, theirs))
    assert described[0] == described[1]

    @jax.jit
    def constants():  # biases, BatchNorm scales and statistics; the random leaves are not computed
        leaves = jax.tree.leaves(module.init(jax.random.key(0), images))
        return [leaf for leaf in leaves if leaf.ndim == 1]

    mine = [leaf for leaf in jax.tree.leaves(ours) if leaf.ndim == 1]
    jax.tree.map(np.testing.assert_array_equal, mine, constants())


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("shape", [(3, 3, 64, 128), (512, 100)])
def test_host_draws_follow_the_law_of_jax(mode, distribution, shape):
    law = initializers.VarianceScaling(2.0, mode, distribution)
    ours = law.sample(np.random.default_rng(0), shape).ravel()
    theirs = np.asarray(law(jax.random.key(0), shape)).ravel()
    assert ours.dtype == np.float32
    deviation = theirs.std()
    assert abs(ours.mean()) < 4 * deviation / np.sqrt(ours.size)
    quantiles = np.linspace(0, 1, 21)[1:-1]
    np.testing.assert_allclose(
        np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.06 * deviation
    )
    if distribution == "uniform":
        assert np.abs(ours).max() <= np.sqrt(3) * deviation * 1.01


def test_published_deviations():
    params = models.init(models.create("resnet34", 100), 0, (32, 32, 3))["params"]
    convolution = params["layer3_3"]["conv2"]["kernel"]
    assert convolution.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.01)  # He, fan_out
    classifier = params["classifier"]["kernel"]
    assert np.abs(classifier).max() == pytest.approx(1 / np.sqrt(512), rel=0.01)


def test_published_deviations_of_the_other_families():
    params = models.init(models.create("deit_small", 100), 0, (224, 224, 3))["params"]
    assert params["blocks_3"]["mlp"]["fc1"]["kernel"].std() == pytest.approx(0.02, rel=0.01)
    assert params["pos_embed"].std() == pytest.approx(0.02, rel=0.01)
    patches = params["patch_embed"]["kernel"]
    assert np.abs(patches).max() == pytest.approx(1 / np.sqrt(16 * 16 * 3), rel=0.01)
    params = models.init(models.create("efficientnet_b0", 100), 0, (64, 64, 3))["params"]
    depthwise = params["blocks_12"]["depthwise_conv"]["kernel"]
    assert depthwise.std() == pytest.approx(np.sqrt(2 / 25), rel=0.02)
    assert np.abs(params["classifier"]["kernel"]).max() == pytest.approx(1 / 10, rel=0.01)
    params = models.init(models.create("vgg16", 10), 0, (32, 32, 3))["params"]
    assert np.abs(params["conv5_3"]["kernel"]).max() == pytest.approx(
        1 / np.sqrt(9 * 512), rel=0.01
    )


def test_a_leaf_depends_on_seed_path_and_shape_only():
    first = models.init(models.create("resnet20", 10, width=4), 5, (8, 8, 3))["params"]
    again = models.init(models.create("resnet20", 10, width=4), 5, (16, 16, 3))["params"]
    jax.tree.map(np.testing.assert_array_equal, first, again)
    more_classes = models.init(models.create("resnet20", 20, width=4), 5, (8, 8, 3))["params"]
    kernel = first["layer1_0"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, more_classes["layer1_0"]["conv1"]["kernel"])
    assert not np.array_equal(kernel, first["layer1_1"]["conv1"]["kernel"])
    other = models.init(models.create("resnet20", 10, width=4), 6, (8, 8, 3))["params"]
    assert not np.array_equal(kernel, other["layer1_0"]["conv1"]["kernel"])


@pytest.mark.parametrize("seed", [-1, 2**64 - 1, 2**70])
def test_any_integer_is_a_seed(seed):
    variables = models.init(models.create("mlp", 2, hidden=(4,)), seed, (2, 2, 1))
    assert np.isfinite(variables["params"]["fc1"]["kernel"]).all()


def test_values_never_change():
    params = models.init(models.create("mlp", 2, hidden=(2,)), 0, (1, 1, 2))["params"]
    pinned = [[0.09388679, 0.87081116], [0.7427898, 0.2919518]]
    np.testing.assert_allclose(params["fc1"]["kernel"], pinned, rtol=1e-6)


class Foreign(nn.Module):
    """A module with an initialiser of JAX's own, and a parameter that no attribute explains."""

    hidden_parameter: bool

    @nn.compact
    def __call__(self, x):
        x = Conv(4, (3, 3), kernel_init=nn.initializers.orthogonal())(x)
        if self.hidden_parameter:
            x = x + self.param("offset", nn.initializers.zeros, (4,)).reshape(1, 1, 1, 4)
        return x


def test_foreign_initialisers_work_and_unknown_ones_are_named():
    variables = models.init(Foreign(False), 0, (4, 4, 3))
    kernel = variables["params"]["Conv_0"]["kernel"].reshape(27, 4)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-5)
    traced = jax.jit(lambda: models.init(Foreign(False), 0, (4, 4, 3)))()
    jax.tree.map(np.testing.assert_array_equal, variables, traced)
    with pytest.raises(UserError, match="params/offset: found a leaf whose initialiser is not"):
        models.init(Foreign(True), 0, (4, 4, 3))
