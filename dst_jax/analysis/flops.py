"""Counts of arithmetic: per layer, per inference with given densities, and per training run.

Counting follows Evci et al. 2020 (appendix on FLOPs): convolutions and linear layers only, two
operations a multiply-add, sparse layers at the share of their active weights. Nothing is executed;
the module is traced for its shapes. Called where a run's `model.json` is written, and by notebooks.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dst_jax.errors import UserError
from dst_jax.models.convolution import Conv

_DENSE = ("dense", "no_prune")
_SPARSE_THROUGHOUT = ("static", "static_sparse", "set")
_DENSE_GRADIENT_AT_UPDATES = ("rigl",)


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one convolution or linear layer costs for one image.

    Attributes:
      path: path of the layer's weights among the parameters, such as "layer1_0/conv1/kernel".
      shape: shape of the weights; the last axis is the outputs.
      macs: multiply-adds of the dense layer, without bias.
      outputs: number of output values.
    """

    path: str
    shape: tuple[int, ...]
    macs: int
    outputs: int


def layer_costs(module: nn.Module, image_shape: tuple[int, ...]) -> list[LayerCost]:
    """Lists the layers that a module calls, in the order of the calls.

    Args:
      module: any linen model of images; layers other than Flax's Conv and Dense and this package's
        Conv are not counted.
      image_shape: height, width and channels of one image.

    Returns:
      One entry a call; a layer that is called twice appears twice.
    """
    costs: list[LayerCost] = []

    def note_cost(next_call, args, kwargs, context):
        result = next_call(*args, **kwargs)
        if isinstance(context.module, Conv | nn.Conv | nn.Dense):
            shape: tuple[int, ...] = context.module.get_variable("params", "kernel").shape
            outputs = math.prod(result.shape[1:])
            path = "/".join((*context.module.path, "kernel"))
            costs.append(LayerCost(path, shape, outputs * math.prod(shape[:-1]), outputs))
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


def training_flops_ratio(
    algorithm: str,
    flops_ratio: float,
    *,
    update_freq: int,
    update_share: float = 1.0,
    timing: Literal["replace", "after"] = "replace",
) -> float:
    """Training cost of a method over that of dense training with as many steps.

    A backward pass counts twice a forward pass: f_D and f_S being the dense and the sparse forward
    pass, a dense step costs 3 f_D, and a step with fixed mask 3 f_S. RigL needs the dense weight
    gradient when it updates the mask: with `replace`, (3 f_S N + 2 f_S + f_D) / (N + 1) a step for
    updates N steps apart (Evci et al. 2020, appendix on FLOPs); with `after`,
    3 f_S + (f_D - f_S) / N. Selecting and drawing weights is not counted.

    Args:
      algorithm: "dense", "static", "set" or "rigl", or JaxPruner's names of them.
      flops_ratio: f_S / f_D, with the densities of the masks; ignored for dense.
      update_freq: steps between mask updates, >= 1; only RigL's cost depends on it.
      update_share: share of all steps during which masks are updated, in [0, 1].
      timing: whether an update takes the place of an optimizer step or comes after one.

    Returns:
      The ratio: 1 for dense.

    Raises:
      UserError: if the method's cost is not known from these numbers, as for gradual pruning.
    """
    if algorithm in _DENSE:
        return 1.0
    if algorithm in _SPARSE_THROUGHOUT:
        return flops_ratio
    if algorithm not in _DENSE_GRADIENT_AT_UPDATES:
        known = ", ".join((*_DENSE, *_SPARSE_THROUGHOUT, *_DENSE_GRADIENT_AT_UPDATES))
        raise UserError("algorithm", algorithm, f"one whose training cost is known: {known}")
    if timing == "replace":
        updating = (3 * flops_ratio * update_freq + 2 * flops_ratio + 1) / (3 * (update_freq + 1))
    else:
        updating = flops_ratio + (1 - flops_ratio) / (3 * update_freq)
    return update_share * updating + (1 - update_share) * flops_ratio
