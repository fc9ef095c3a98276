"""Units that lie on no path of active weights from the input to the logits.

The network itself is run on its masks in Boolean arithmetic: a unit is reached if a unit that it
is connected to is reached, and useful if a unit that it feeds is useful. Called by `weights`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.models import leaf_paths
from dst_jax.models.convolution import Conv

_NORMALISATIONS = (nn.BatchNorm, nn.GroupNorm)
_SUMS = (Conv, nn.Conv, nn.Dense)


@dataclasses.dataclass(frozen=True)
class PathDead:
    """What paths say of one layer.

    Attributes:
      outputs: bool [out], True = no path from the input reaches it, or none goes on to a logit.
      active: its active weights.
      effective: those that lie on a path from the input to a logit.
    """

    outputs: np.ndarray
    active: int
    effective: int


@jax.custom_vjp
def _boolean(x: jax.Array) -> jax.Array:
    """1 where positive, forwards and, for cotangents, backwards."""
    return (x > 0).astype(x.dtype)


_boolean.defvjp(lambda x: (_boolean(x), None), lambda _, ct: ((ct > 0).astype(ct.dtype),))


def path_dead(
    module: nn.Module, masks: Mapping[str, np.ndarray], params: Any, image_shape: tuple[int, ...]
) -> dict[str, PathDead] | None:
    """Finds the units that no path uses, layer by layer.

    Weights become their masks, biases 0, normalisations nothing, every image value 1, and the
    outputs of each layer 0 or 1, as do the gradients that come back to them. Whatever the network
    does in between (residual sums, pooling, rectifiers, gates) is run as it stands; a convolution's
    channel counts as used if it is anywhere in the image.

    Args:
      module: any linen model of images whose layers are Flax's or this package's convolutions and
        dense layers, normalised by batch or group.
      masks: path of the weights, such as "conv1/kernel" -> 0/1; layers without one are full.
      params: the model's parameters, for their shapes.
      image_shape: height, width and channels.

    Returns:
      Path of the weights -> what paths say; None for a network with LayerNorm, whose attention
      mixes signs.
    """
    flat = leaf_paths.by_path(params)
    ones = {
        path: jnp.asarray(masks[path], jnp.float32) if path in masks else jnp.ones(leaf.shape)
        for path, leaf in flat.items()
        if path.endswith("kernel")
    }
    mixes = False
    inputs: dict[str, jax.Array] = {}
    outputs: dict[str, jax.Array] = {}

    def forward(
        probes: Mapping[str, jax.Array], ones: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, Any]:
        reached: dict[str, jax.Array] = {}
        results: dict[str, jax.Array] = {}

        def step(next_call, args, kwargs, context):
            nonlocal mixes
            if context.method_name != "__call__":
                return next_call(*args, **kwargs)
            mixes |= isinstance(context.module, nn.LayerNorm)
            if isinstance(context.module, _NORMALISATIONS):
                return args[0]
            result = next_call(*args, **kwargs)
            if not isinstance(context.module, _SUMS):
                return result
            path = "/".join((*context.module.path, "kernel"))
            reached[path], results[path] = args[0], _boolean(result)
            # A layer that is called twice has one probe: a path through either call counts.
            return results[path] + probes[path] if path in probes else results[path]

        tree = jax.tree_util.tree_map_with_path(
            lambda path, leaf: ones.get(leaf_paths.text(path), jnp.zeros(leaf.shape)), params
        )
        images = jnp.ones((1, *image_shape))
        with nn.intercept_methods(step):
            logits: Any = module.apply({"params": tree}, images)
        return jnp.sum(logits), (reached, results)

    _, (inputs, outputs) = jax.eval_shape(forward, {}, ones)
    if mixes:
        return None
    zeros = {path: jnp.zeros(result.shape) for path, result in outputs.items()}
    gradient = jax.jit(jax.value_and_grad(forward, has_aux=True))
    (_, (inputs, outputs)), useful = gradient(zeros, ones)

    found = {}
    for path, result in outputs.items():
        feeds = np.asarray(useful[path] > 0).reshape(-1, result.shape[-1]).any(0)
        alive = np.asarray(result > 0).reshape(-1, result.shape[-1]).any(0) & feeds
        given = np.asarray(inputs[path]) > 0
        source = np.any(given.reshape(-1, given.shape[-1]), axis=0)
        active = np.asarray(ones[path]) != 0
        # Of a grouped convolution the input axis counts within a group; all of it is kept here.
        known = source if len(source) == active.shape[-2] else np.ones(active.shape[-2], bool)
        effective = active & known[:, None] & feeds
        found[path] = PathDead(np.logical_not(alive), int(active.sum()), int(effective.sum()))
    return found
