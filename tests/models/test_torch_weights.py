"""`models.load_torch`: names against torchvision's and timm's, logits against their networks."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from dst_jax import models
from dst_jax.errors import UserError
from dst_jax.models import safetensors_files, torch_names, torch_weights
from tests.models.small import small

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "torch_names.jsonl"
RECORDED = [json.loads(line) for line in GOLDEN.read_text().splitlines()]
# Small images: what is compared is layers and layouts, not sizes.
TORCHVISION = {
    "resnet18_imagenet": ("resnet18", 64, {}),
    "resnet34_imagenet": ("resnet34", 64, {}),
    "resnet50": ("resnet50", 64, {}),
    "vgg16_imagenet": ("vgg16_bn", 64, {}),
    "efficientnet_b0": ("efficientnet_b0", 64, {}),
}
TIMM = {
    "efficientnet_b0": ("efficientnet_b0", 64, {}),
    "deit_small": ("deit_small_patch16_224", 64, {"img_size": 64}),
    "deit_small, distilled": ("deit_small_distilled_patch16_224", 64, {"img_size": 64}),
    "deit_base": ("deit_base_patch16_224", 64, {"img_size": 64}),
}


def largest_difference(name, network, size, **options):
    """Largest absolute difference of the logits of a network and of ours with its weights."""
    modules = pytest.importorskip("tests.models.torch_modules", reason="PyTorch is absent")
    modules.with_statistics(network, size)
    variables = models.load_torch(name, network.state_dict(), **options)
    classes = len(variables["params"]["classifier"]["bias"])
    images = np.random.default_rng(0).standard_normal((2, size, size, 3)).astype(np.float32)
    expected = modules.logits(network, images)
    ours = jax.jit(models.create(name, classes, **options).apply)(variables, images)
    assert np.abs(expected).max() > 0.1
    return float(np.abs(np.asarray(ours) - expected).max())


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["theirs"])
def test_names_and_shapes_are_those_of_the_published_network(case):
    """Recorded from the package itself: `torch_names.jsonl` says which version."""
    name = case["ours"]
    module = models.create(name, 1000)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), image)
    naming = torch_weights._naming(name, module, case["tensors"])
    found = {
        torch_weights._torch_name(module, naming, path): list(
            torch_weights._torch_shape(leaf.shape, path)
        )
        for path, leaf in traverse_util.flatten_dict(shapes, sep="/").items()
    }
    assert found == case["tensors"]


def test_a_residual_network_for_small_images_with_the_names_of_its_code():
    modules = pytest.importorskip("tests.models.torch_modules", reason="PyTorch is absent")
    network = modules.ResNet(8, (2, 2, 2, 2), 7)
    assert largest_difference("resnet18", network, 32, width=8) < 1e-4
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    loaded = models.load_torch("resnet18", {"epoch": 3, "state_dict": state}, width=8)
    kernel = network.layer2[0].shortcut[0].weight.detach().numpy()
    mine = loaded["params"]["layer2_0"]["shortcut_conv"]["kernel"]
    np.testing.assert_array_equal(mine, kernel.transpose(2, 3, 1, 0))


@pytest.mark.parametrize("size", [32, 64])
def test_vgg_for_small_images(size):
    """At 64 pixels four positions go into the linear layer, in another order than PyTorch's."""
    modules = pytest.importorskip("tests.models.torch_modules", reason="PyTorch is absent")
    network = modules.VGG(4, (2, 2, 3, 3, 3), 10, positions=(size // 32) ** 2)
    assert largest_difference("vgg16", network, size, width=4) < 1e-4


@pytest.mark.parametrize("size", [32, 64, 96])
def test_positions_are_averaged_as_by_pytorch(size):
    torch = pytest.importorskip("torch", reason="PyTorch is absent")
    from dst_jax.models import vgg

    x = np.random.default_rng(0).standard_normal((2, size // 32, size // 16, 3), np.float32)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x).permute(0, 3, 1, 2), 7)
    found = vgg._resized_by_means(jnp.asarray(x), 7)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "name", ["resnet18_imagenet", *(pytest.param(n, marks=pytest.mark.full) for n in TORCHVISION)]
)
def test_torchvisions_networks_give_the_same_logits(name):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is absent")
    torch = pytest.importorskip("torch")
    theirs, size, options = TORCHVISION[name]
    torch.manual_seed(0)
    network = getattr(torchvision.models, theirs)(**options)
    difference = largest_difference(name, network, size)
    print(f"{name} against torchvision's {theirs}: {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.full
@pytest.mark.parametrize("name", TIMM)
def test_timms_networks_give_the_same_logits(name):
    timm = pytest.importorskip("timm", reason="timm is absent")
    torch = pytest.importorskip("torch")
    theirs, size, options = TIMM[name]
    torch.manual_seed(0)
    network = timm.create_model(theirs, **options)
    own, _, distilled = name.partition(", ")
    difference = largest_difference(
        own, network, size, **({"distilled": True} if distilled else {})
    )
    print(f"{name} against timm's {theirs}: {difference:.1e}")
    assert difference < 1e-4


def drawn(name, seed=0):
    """A small module of a name, its image shape and random variables, statistics as well."""
    module, image_shape = small(name)
    generator = np.random.default_rng(seed)
    shapes = jax.eval_shape(
        module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    )
    draw = lambda leaf: generator.uniform(0.01, 1, leaf.shape).astype(np.float32)  # noqa: E731
    return module, image_shape, shapes, jax.tree.map(draw, shapes)


@pytest.mark.parametrize("name", torch_names.NAMES)
def test_there_and_back_gives_the_same_bits(name, tmp_path):
    """Our EfficientNet adds another constant to the variance: the file says which."""
    module, _, shapes, variables = drawn(name)
    state, metadata = torch_weights.to_torch(name, module, variables)
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_files.encoded(state, metadata))
    tensors, said = safetensors_files.read(path)
    flat = torch_weights.convert(name, module, shapes, tensors, said, "here")
    expected = traverse_util.flatten_dict(variables, sep="/")
    assert flat.keys() == expected.keys()
    for leaf, value in expected.items():
        np.testing.assert_array_equal(flat[leaf], value, err_msg=leaf)
    assert name.startswith("deit") or float(said["bn_epsilon"]) == module.bn_epsilon


def test_another_epsilon_goes_into_the_scales():
    module, image_shape, shapes, variables = drawn("efficientnet_b0")
    state, _ = torch_weights.to_torch("efficientnet_b0", module, variables)
    convert = lambda said: torch_weights.convert(  # noqa: E731
        "efficientnet_b0", module, shapes, state, said, "here"
    )
    theirs = traverse_util.unflatten_dict(convert({}), sep="/")  # PyTorch's 1e-5
    images = np.random.default_rng(1).standard_normal((2, *image_shape)).astype(np.float32)
    apply = jax.jit(module.apply)
    expected = jax.jit(module.clone(bn_epsilon=1e-5).apply)(variables, images)
    np.testing.assert_allclose(apply(theirs, images), expected, rtol=1e-4)
    assert np.abs(apply(variables, images) - expected).max() > 1e-3 * np.abs(expected).max()
    np.testing.assert_array_equal(  # statistics stay what they were
        theirs["batch_stats"]["stem_bn"]["var"], variables["batch_stats"]["stem_bn"]["var"]
    )


def torch_state(name="resnet18"):
    module, _, _, variables = drawn(name)
    return torch_weights.to_torch(name, module, variables)[0]


OPTIONS = {"width": 4, "depth": 1}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda s: s.pop("conv1.weight"),
            r"state dict: found no conv1.weight; expected .*3x3 stem",
        ),
        (
            lambda s: [s.pop(f"layer1.0.bn{i}.running_var") for i in (1, 2)] and s.pop("fc.bias"),
            "no fc.bias, layer1.0.bn1.running_var, layer1.0.bn2.running_var;",
        ),
        (lambda s: s.update({"extra.weight": np.zeros(3)}), "besides it extra.weight; expected"),
        (
            lambda s: s.update({"conv1.weight": np.zeros((4, 3, 7, 7))}),
            r"conv1.weight: found shape \[4, 3, 7, 7\]; expected \[4, 3, 3, 3\], for params/conv1/"
            r"kernel. torchvision's resnet18 is resnet18_imagenet here",
        ),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(change, text):
    state = torch_state()
    change(state)
    with pytest.raises(UserError, match=text) as error:
        models.load_torch("resnet18", state, **OPTIONS)
    assert "\n" not in str(error.value)


def test_other_networks_and_other_sources_are_refused():
    with pytest.raises(UserError, match="load_torch: found resnet20; expected one of resnet18, re"):
        models.load_torch("resnet20", {})
    with pytest.raises(UserError, match="found list; expected a state dict, or the path of"):
        models.load_torch("resnet18", [1])
