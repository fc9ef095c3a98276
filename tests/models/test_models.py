"""Every model of the registry: shapes, dtypes, published counts, names, and errors."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from dst_jax import models
from dst_jax.errors import UserError

# Options that make each model small enough to run, and an image shape that suits it.
SMALL = {
    "mlp": ({"hidden": (8, 6)}, (6, 5, 2)),
    "resnet20": ({"width": 4}, (8, 8, 3)),
    "resnet34": ({"width": 4}, (8, 8, 3)),
    "resnet50": ({"width": 4}, (32, 32, 3)),
}
# (classes, image shape) -> (parameters, maskable weights, maskable layers)
PUBLISHED = {
    "mlp": (10, (28, 28, 1), 266_610, 266_200, 3),  # LeNet-300-100
    "resnet20": (10, (32, 32, 3), 269_722, 268_336, 20),  # "0.27M", He et al. 2016, table 6
    "resnet34": (100, (32, 32, 3), 21_328_292, 21_311_168, 37),
    "resnet50": (1000, (224, 224, 3), 25_557_032, 25_502_912, 54),  # torchvision's count
}


def small(name, **extra):
    options, image_shape = SMALL[name]
    return models.create(name, 10, **{**options, **extra}), image_shape


def apply_training(module, variables, images):
    return module.apply(variables, images, train=True, mutable=["batch_stats"])


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_float32_logits_parameters_and_statistics(name, dtype):
    module, image_shape = small(name, dtype=dtype)
    images = jnp.zeros((2, *image_shape))
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    logits, statistics = jax.eval_shape(
        lambda v, x: apply_training(module, v, x), variables, images
    )
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    assert jax.eval_shape(module.apply, variables, images).shape == (2, 10)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((variables, statistics)))


@pytest.mark.parametrize("name", models.MODELS)
def test_published_counts(name):
    classes, image_shape, parameters, maskable, layers = PUBLISHED[name]
    module = models.create(name, classes)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *image_shape)))
    leaves = traverse_util.flatten_dict(shapes["params"], sep="/")
    kernels = {path: leaf for path, leaf in leaves.items() if leaf.ndim > 1}
    assert sum(leaf.size for leaf in leaves.values()) == parameters
    assert sum(leaf.size for leaf in kernels.values()) == maskable
    assert len(kernels) == layers
    assert all(path.endswith("/kernel") for path in kernels)
    assert kernels["classifier/kernel"].shape[-1] == classes


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_training_gives_finite_gradients_and_new_statistics(name):
    module, image_shape = small(name)
    module = module.clone(stage_sizes=(1, 1))  # each kind of block, quick to compile
    variables = models.init(module, 0, image_shape)
    images = jax.random.normal(jax.random.key(0), (4, *image_shape))

    @jax.jit
    def gradient(variables):
        def loss(params):
            logits, new = apply_training(module, {**variables, "params": params}, images)
            return -jax.nn.log_softmax(logits)[:, 0].mean(), new

        return jax.grad(loss, has_aux=True)(variables["params"])

    grads, new = gradient(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads) if leaf.ndim > 1)
    before, after = (tree["batch_stats"]["bn1"]["mean"] for tree in (variables, new))
    assert np.abs(after - before).max() > 0


def test_layer_names_of_resnet34():
    module = models.create("resnet34", 100)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert sorted(shapes)[:4] == ["bn1", "classifier", "conv1", "layer1_0"]
    assert [sum(f"layer{stage}_" in key for key in shapes) for stage in (1, 2, 3, 4)] == [
        3,
        4,
        6,
        3,
    ]
    assert shapes["layer3_3"]["conv2"]["kernel"].shape == (3, 3, 256, 256)
    assert sorted(shapes["layer2_0"]) == [
        "bn1",
        "bn2",
        "conv1",
        "conv2",
        "shortcut_bn",
        "shortcut_conv",
    ]
    assert sorted(shapes["layer2_1"]) == ["bn1", "bn2", "conv1", "conv2"]


def test_resnet50_has_its_stride_in_the_3x3():
    module, image_shape = small("resnet50")
    _, state = jax.eval_shape(
        lambda: module.init_with_output(
            jax.random.key(0), jnp.zeros((1, *image_shape)), capture_intermediates=True
        )
    )
    block = state["intermediates"]["layer2_0"]
    heights = [block[name]["__call__"][0].shape[1] for name in ("conv1", "conv2", "conv3")]
    assert heights == [8, 4, 4]


@pytest.mark.parametrize("name", ["resnet20", "resnet34", "resnet50"])
def test_zero_init_residual_makes_every_block_a_shortcut(name):
    module, image_shape = small(name, zero_init_residual=True)
    params = models.init(module, 0, image_shape)["params"]
    last = "bn3" if name == "resnet50" else "bn2"
    for key, block in params.items():
        if key.startswith("layer"):
            assert (block[last]["scale"] == 0).all()
            assert (block["bn1"]["scale"] == 1).all()


def test_batch_norm_options_reach_the_layers():
    module, image_shape = small("resnet20", bn_momentum=0.0, bn_epsilon=1e6)
    module = module.clone(stage_sizes=(1,))
    variables = models.init(module, 0, image_shape)
    images = jax.random.normal(jax.random.key(0), (4, *image_shape))
    logits, new = apply_training(module, variables, images)
    assert np.abs(logits).max() < 1e-2  # an enormous epsilon divides everything away
    first = variables["params"]["conv1"]["kernel"]
    features = jax.lax.conv_general_dilated(
        images, first, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = features.mean(axis=(0, 1, 2))  # without momentum: this batch's own mean
    np.testing.assert_allclose(new["batch_stats"]["bn1"]["mean"], expected, atol=1e-6)


def test_unknown_name_and_option_say_what_is_known():
    with pytest.raises(UserError, match=r"model\.name: found resnet21; expected one of mlp, resn"):
        models.create("resnet21", 10)
    with pytest.raises(UserError, match=r"found depth; expected options of mlp: hidden, width"):
        models.create("mlp", 10, depth=3)


def test_importing_the_registry_imports_no_framework():
    script = (
        "import sys, dst_jax.models; assert not {'jax', 'flax', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
