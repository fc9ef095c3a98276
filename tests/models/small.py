"""The models of the registry at a size that runs in a test, and their parameters' shapes."""

import jax
import jax.numpy as jnp
from flax import traverse_util

from dst_jax import models

# Options that make each model small enough to run, and an image shape that suits it.
SMALL = {
    "mlp": ({"hidden": (8, 6)}, (6, 5, 2)),
    "vgg16": ({"width": 4, "depth": 1}, (32, 32, 3)),
    "vgg16_imagenet": ({"width": 4, "depth": 1}, (32, 32, 3)),
    "resnet20": ({"width": 4, "depth": 1}, (8, 8, 3)),
    "resnet18": ({"width": 4, "depth": 1}, (8, 8, 3)),
    "resnet34": ({"width": 4, "depth": 1}, (8, 8, 3)),
    "resnet18_imagenet": ({"width": 4, "depth": 1}, (32, 32, 3)),
    "resnet34_imagenet": ({"width": 4, "depth": 1}, (32, 32, 3)),
    "resnet50": ({"width": 4, "depth": 1}, (32, 32, 3)),
    "wide_resnet22_2": ({"width": 4, "depth": 1}, (8, 8, 3)),
    "efficientnet_b0": ({"width": 8, "depth": 1}, (32, 32, 3)),
    "deit_small": ({"width": 16, "depth": 2}, (32, 32, 3)),
    "deit_base": ({"width": 128, "depth": 1}, (32, 32, 3)),
    "resnet3d50": ({"width": 4, "depth": 1}, (4, 16, 16, 3)),
    "i3d_r50": ({"width": 4, "depth": 2}, (4, 16, 16, 3)),
}
# One model of each family, or of each kind of block.
FAMILIES = (
    "mlp",
    "vgg16",
    "resnet20",
    "resnet50",
    "wide_resnet22_2",
    "efficientnet_b0",
    "deit_small",
    "resnet3d50",
)


def small(name, **extra):
    """The small module of a name, and its image shape."""
    options, image_shape = SMALL[name]
    return models.create(name, 10, **{**options, **extra}), image_shape


def quick(name, **extra):
    """The small module, cut down to each kind of block: compiling takes the time of the tests."""
    module, image_shape = small(name, **extra)
    if name == "efficientnet_b0":
        module = module.clone(stages=(module.stages[0], module.stages[2]._replace(blocks=2)))
    if name.startswith(("resnet", "i3d")):
        module = module.clone(stage_sizes=(1, 1))
    if name in ("resnet3d50", "i3d_r50"):  # published: all gradients inside the blocks are 0 first
        module = module.clone(zero_init_residual=False)
    if name == "resnet3d50":
        module = module.clone(block_frames=((1,), (3,)))
    return module, image_shape


def shapes_of(module, image_shape):
    """Path of a parameter -> its shape."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    return traverse_util.flatten_dict(shapes["params"], sep="/")
