"""Counts of arithmetic: per layer, and per inference with given densities.

Counting follows Evci et al. 2020 (appendix on FLOPs): convolutions and linear layers only, two
operations a multiply-add, sparse layers at the share of their active weights. Nothing is executed;
the module is traced for its shapes. Called where a run's `model.json` is written, and by notebooks.
What a whole training costs is in `training_cost`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.errors import UserError
from dst_jax.models.convolution import Conv
from dst_jax.models.deit import DotProductAttention


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one convolution, linear layer or attention costs for one image.

    Attributes:
      path: path of the layer's weights among the parameters, such as "layer1_0/conv1/kernel"; of an
        attention, which has none, the module's path.
      shape: shape of the weights, whose last axis is the outputs; () of an attention.
      macs: multiply-adds of the dense layer, without bias.
      outputs: number of output values that get a bias and a ReLU; 0 of an attention.
    """

    path: str
    shape: tuple[int, ...]
    macs: int
    outputs: int


def layer_costs(module: nn.Module, image_shape: tuple[int, ...]) -> list[LayerCost]:
    """Lists the layers that a module calls, in the order of the calls.

    Args:
      module: any linen model of images; counted are Flax's Conv and Dense, this package's Conv and,
        as a layer without weights, its DotProductAttention.
      image_shape: [H, W, C] of one image, or [T, H, W, C] of one clip.

    Returns:
      One entry per call; a layer that is called twice appears twice.
    """
    costs: list[LayerCost] = []

    def note_cost(next_call, args, kwargs, context):
        result = next_call(*args, **kwargs)
        if isinstance(context.module, Conv | nn.Conv | nn.Dense):
            shape: tuple[int, ...] = context.module.get_variable("params", "kernel").shape
            outputs = math.prod(result.shape[1:])
            path = "/".join((*context.module.path, "kernel"))
            costs.append(LayerCost(path, shape, outputs * math.prod(shape[:-1]), outputs))
        elif isinstance(context.module, DotProductAttention):
            queries, keys = args[0].shape[1], args[1].shape[1]
            macs = 2 * queries * keys * math.prod(args[0].shape[2:])  # scores, and their use
            costs.append(LayerCost("/".join(context.module.path), (), macs, 0))
        return result

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(note_cost):
        jax.eval_shape(module.init, jax.random.key(0), images)
    return costs


def inference_flops(
    costs: Iterable[LayerCost], densities: Mapping[str, float | None] | None = None
) -> float:
    """Operations of one forward pass for one image.

    A layer with n multiply-adds and m outputs costs 2 n density + m: n multiplications, n - m
    additions, m additions of the bias (BatchNorm folds into one) and m for the ReLU, which the
    classifier, the last layer, lacks. BatchNorm, pooling, residual sums and softmax are left out.

    Args:
      costs: from `layer_costs`.
      densities: path of the weights -> share of active weights, in [0, 1]; layers that are absent
        or None are dense.

    Returns:
      Number of floating-point operations; not an integer where n times density is not.

    Raises:
      UserError: if `densities` names a layer that `costs` lacks.
    """
    costs, densities = list(costs), densities or {}
    paths = {cost.path for cost in costs}
    for path in densities:
        if path not in paths and densities[path] is not None:
            raise UserError("densities", path, "the path of a layer with known cost")
    total = 0.0
    for index, cost in enumerate(costs):
        density = densities.get(cost.path)
        total += 2 * cost.macs * (1 if density is None else density)
        total += cost.outputs if index < len(costs) - 1 else 0
    return total
