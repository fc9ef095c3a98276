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
from tests.models.small import FAMILIES, quick, shapes_of, small

# (classes, image shape) -> (parameters, maskable weights, maskable layers)
PUBLISHED = {
    "mlp": (10, (28, 28, 1), 266_610, 266_200, 3),  # LeNet-300-100
    "vgg16": (10, (32, 32, 3), 15_255_626, 15_239_872, 16),  # SNIP's and GraNet's network
    "resnet20": (10, (32, 32, 3), 269_722, 268_336, 20),  # "0.27M", He et al. 2016, table 6
    "resnet18": (10, (32, 32, 3), 11_173_962, 11_164_352, 21),
    "resnet34": (100, (32, 32, 3), 21_328_292, 21_311_168, 37),
    # Of ImageNet: torchvision's counts.
    "resnet18_imagenet": (1000, (224, 224, 3), 11_689_512, 11_678_912, 21),
    "resnet34_imagenet": (1000, (224, 224, 3), 21_797_672, 21_779_648, 37),
    "resnet50": (1000, (224, 224, 3), 25_557_032, 25_502_912, 54),
    "vgg16_imagenet": (1000, (224, 224, 3), 138_365_992, 138_344_128, 16),  # its vgg16_bn
    "wide_resnet22_2": (10, (32, 32, 3), 1_079_642, 1_076_912, 23),
    "efficientnet_b0": (1000, (224, 224, 3), 5_288_548, 5_053_312, 65),
    # timm's counts.
    "deit_small": (1000, (224, 224, 3), 22_050_664, 21_912_576, 50),
    "deit_base": (1000, (224, 224, 3), 86_567_656, 86_292_480, 50),
    # PyTorchVideo's model zoo: 32.45 M and 28.04 M.
    "resnet3d50": (400, (8, 224, 224, 3), 32_454_096, 32_400_576, 54),
    "i3d_r50": (400, (8, 224, 224, 3), 28_043_472, 27_989_952, 54),
}


def apply_training(module, variables, images):
    rngs = {"dropout": jax.random.key(1)}
    return module.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_float32_logits_parameters_and_statistics(name, dtype):
    module, image_shape = small(name, dtype=dtype)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
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
    leaves = shapes_of(module, image_shape)
    rule = models.maskable(name)
    kernels = {path: leaf for path, leaf in leaves.items() if rule(path.split("/"), leaf)}
    assert sum(leaf.size for leaf in leaves.values()) == parameters
    assert sum(leaf.size for leaf in kernels.values()) == maskable
    assert len(kernels) == layers
    assert kernels["classifier/kernel"].shape[-1] == classes


@pytest.mark.parametrize(
    ("depth", "widen", "millions"), [(40, 1, 0.6), (40, 2, 2.2), (22, 8, 17.2), (28, 10, 36.5)]
)
def test_counts_of_wide_resnets(depth, widen, millions):
    """Zagoruyko and Komodakis 2016, tables 4 and 5, on CIFAR-10; 22-2 is of the same formula."""
    module = models.create("wide_resnet22_2", 10).clone(stage_size=(depth - 4) // 6, widen=widen)
    count = sum(leaf.size for leaf in shapes_of(module, (32, 32, 3)).values())
    assert round(count / 1e6, 1) == millions


def test_count_of_a_distilled_deit():
    module = models.create("deit_base", 1000, distilled=True)
    leaves = shapes_of(module, (224, 224, 3))
    assert sum(leaf.size for leaf in leaves.values()) == 87_338_192  # timm's count


def test_which_leaves_stay_dense():
    def dense(name, exclude=""):
        leaves = shapes_of(*small(name))
        rule = models.maskable(name, exclude)
        return {
            path
            for path, leaf in leaves.items()
            if leaf.ndim > 1 and not rule(path.split("/"), leaf)
        }

    assert dense("resnet50") == dense("vgg16") == dense("i3d_r50") == set()
    assert dense("resnet20", "^conv1/") == {"conv1/kernel"}
    assert dense("deit_base") == {"cls_token", "pos_embed"}
    depthwise = {f"blocks_{index}/depthwise_conv/kernel" for index in range(7)}
    assert dense("efficientnet_b0") == {"stem_conv/kernel", *depthwise}
    assert dense("efficientnet_b0", "/se_") > dense("efficientnet_b0")


@pytest.mark.parametrize("name", FAMILIES)
def test_training_and_evaluation(name):
    """One compiled program per family: gradients, statistics, dropout, what is deterministic."""
    module, image_shape = quick(name)
    variables = models.init(module, 0, image_shape)
    images = jax.random.normal(jax.random.key(0), (4, *image_shape))

    @jax.jit
    def everything(variables):
        def loss(params):
            logits, new = apply_training(module, {**variables, "params": params}, images)
            return -jax.nn.log_softmax(logits)[:, 0].mean(), (logits, new)

        grads, (logits, new) = jax.grad(loss, has_aux=True)(variables["params"])
        twice = [module.apply(variables, images) for _ in range(2)]
        return grads, logits, new, twice

    grads, logits, new, (first, second) = everything(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    rule = models.maskable(name)
    for path, leaf in traverse_util.flatten_dict(grads).items():
        if rule(path, leaf):
            assert np.abs(leaf).max() > 0, path
    np.testing.assert_array_equal(first, second)
    # Initial logits of normal images are of the order of 1: neither dead nor exploding.
    assert 1e-3 < np.std(np.asarray(logits)) < 5
    pairs = zip(*map(jax.tree.leaves, (variables.get("batch_stats", {}), new)), strict=True)
    assert all(np.abs(after - before).max() > 0 for before, after in pairs)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wide_resnet22_2", {"dropout": 0.5}),
        ("efficientnet_b0", {"dropout": 0.5, "drop_path": 0.0}),
        ("efficientnet_b0", {"dropout": 0.0, "drop_path": 0.5}),
        ("deit_small", {"drop_path": 0.5}),
        ("resnet3d50", {"dropout": 0.5}),
    ],
)
def test_dropout_and_stochastic_depth_draw_from_the_given_key(name, options):
    module, image_shape = quick(name, **options)
    none = module.clone(**dict.fromkeys(options, 0.0))
    variables = models.init(module, 0, image_shape)
    images = jax.random.normal(jax.random.key(0), (8, *image_shape))

    @jax.jit
    def logits(key):
        settings = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
        return [model.apply(variables, images, **settings)[0] for model in (module, none)]

    one, same, other = (logits(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[0], same[0])
    assert np.abs(one[0] - other[0]).max() > 0
    np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(
    ("name", "options", "image_shape"),
    [
        ("efficientnet_b0", {}, (64, 64, 3)),
        ("efficientnet_b0", {"stem": "small"}, (64, 64, 3)),
        ("efficientnet_b0", {"stem": "small"}, (32, 32, 3)),
        ("deit_small", {}, (64, 64, 3)),
        ("deit_small", {"stem": "small"}, (32, 32, 3)),
        ("resnet50", {"stem": "small"}, (64, 64, 3)),
        ("vgg16", {}, (64, 64, 3)),
        ("vgg16", {}, (8, 8, 3)),
        ("i3d_r50", {}, (1, 32, 32, 3)),
        ("resnet3d50", {}, (4, 64, 64, 3)),
    ],
)
def test_other_sizes_of_images(name, options, image_shape):
    module = models.create(name, 5, **options)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    logits, _ = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x), images)
    assert logits.shape == (2, 5)


def test_stems_for_small_images():
    def last_size(name, stem, layer):
        module, _ = small(name, stem=stem)
        images = jnp.zeros((1, 64, 64, 3))
        _, state = jax.eval_shape(
            lambda: module.init_with_output(jax.random.key(0), images, capture_intermediates=True)
        )
        return state["intermediates"][layer]["__call__"][0].shape[1]

    assert last_size("efficientnet_b0", "published", "head_conv") == 2
    assert last_size("efficientnet_b0", "small", "head_conv") == 4
    assert last_size("resnet50", "published", "layer4_0") == 2
    assert last_size("resnet50", "small", "layer4_0") == 8
    assert last_size("deit_small", "published", "patch_embed") == 16
    assert last_size("deit_small", "small", "patch_embed") == 256


def test_wrong_sizes_say_what_fits():
    module, _ = small("deit_small")
    with pytest.raises(UserError, match="image size: found 40 x 40; expected multiples of the"):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 40, 40, 3)))
    with pytest.raises(UserError, match=r"model\.width: found 200; expected less than 128, or a m"):
        models.create("deit_base", 10, width=200)


def test_width_and_depth_of_an_mlp():
    def widths(**options):
        return models.create("mlp", 10, **options).hidden

    assert widths() == (300, 100)
    assert widths(width=7) == (7, 7)
    assert widths(width=7, depth=3) == (7, 7, 7)
    assert widths(hidden=[5, 4]) == (5, 4)


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
    module, image_shape = models.create("resnet50", 10, width=4), (32, 32, 3)
    _, state = jax.eval_shape(
        lambda: module.init_with_output(
            jax.random.key(0), jnp.zeros((1, *image_shape)), capture_intermediates=True
        )
    )
    block = state["intermediates"]["layer2_0"]
    heights = [block[name]["__call__"][0].shape[1] for name in ("conv1", "conv2", "conv3")]
    assert heights == [8, 4, 4]


@pytest.mark.parametrize("name", ["resnet20", "resnet34", "resnet50", "resnet3d50"])
def test_zero_init_residual_makes_every_block_a_shortcut(name):
    module, image_shape = small(name, zero_init_residual=True)
    params = models.init(module, 0, image_shape)["params"]
    last = "bn3" if name in ("resnet50", "resnet3d50") else "bn2"
    for key, block in params.items():
        if key.startswith("layer"):
            assert (block[last]["scale"] == 0).all()
            assert (block["bn1"]["scale"] == 1).all()


def test_zero_init_residual_of_efficientnet_leaves_the_stages_first_blocks_alone():
    """Those have no shortcut, so a scale of 0 would let nothing through."""
    module = models.create("efficientnet_b0", 10, zero_init_residual=True)
    params = models.init(module, 0, (64, 64, 3))["params"]
    scales = {
        int(key.removeprefix("blocks_")): np.unique(block["project_bn"]["scale"]).tolist()
        for key, block in params.items()
        if key.startswith("blocks_")
    }
    # Table 1 of the paper: stages of 1, 2, 2, 3, 3, 4 and 1 blocks.
    first = (0, 1, 3, 5, 8, 11, 15)
    assert scales == {block: [1.0] if block in first else [0.0] for block in range(16)}
    published = models.init(models.create("efficientnet_b0", 10), 0, (64, 64, 3))["params"]
    assert all(
        (block["project_bn"]["scale"] == 1).all()
        for key, block in published.items()
        if "blocks" in key
    )


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
    with pytest.raises(UserError, match=r"model\.name: found resnet21; expected one of mlp, vgg1"):
        models.create("resnet21", 10)
    with pytest.raises(UserError, match=r"found stem; expected options of mlp: hidden, width, de"):
        models.create("mlp", 10, stem="small")


def test_importing_the_registry_imports_no_framework():
    script = (
        "import sys, dst_jax.models; assert not {'jax', 'flax', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
