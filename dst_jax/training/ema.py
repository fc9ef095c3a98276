"""The running average of the weights (`train.ema`), masked as the weights are. Called by `step`.

Polyak averaging with TensorFlow's start, as EfficientNet trains: after the step from t to t + 1 the
decay is min(ema, (1 + t) / (10 + t)), so that the first weights are soon forgotten. BatchNorm's
running statistics are averaged alike, since they belong to the weights. The average of an inactive
weight is exactly 0; of one that is grown, or grown again, it starts from 0 with the weight itself.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dst_jax import sparsity

Tree = Any


def init(decay: float, params: Tree, batch_stats: Tree, masks: Tree) -> Tree:
    """The average of one network: {"params": masked, "batch_stats": ...}; {} with a decay of 0."""
    if not decay:
        return {}
    return apply_mask({"params": params, "batch_stats": batch_stats}, masks)


def update(decay: float, average: Tree, current: Tree, step: jax.Array) -> Tree:
    """Takes in the network of a step.

    Args:
      decay: the largest decay, below 1; 0: none.
      average: from `init` or `update`.
      current: the new network, from `init` with the masks of `average`.
      step: int32 [], completed batches before it.
    """
    if not decay:
        return {}
    count = step.astype(jnp.float32)
    taken = 1 - jnp.minimum(decay, (1 + count) / (10 + count))
    return optax.incremental_update(current, average, taken)


def apply_mask(average: Tree, masks: Tree) -> Tree:
    """Sets what the masks have dropped to 0; NumPy arrays stay such."""
    if not average:
        return {}
    params = sparsity.mask_trees.map_masks(
        lambda mask, weight: weight if mask is None else weight * mask, masks, average["params"]
    )
    return {**average, "params": params}
