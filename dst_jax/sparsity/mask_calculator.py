"""Masks of one layer from scores and a sparsity: unstructured, n:m, blocks, channels.

JaxPruner's functions, on top of the exact top-k in `topk`; that one ranks whole trees at once
and is what the updaters call. Pure, and work inside jit.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.sparsity import sparsity_types
from dst_jax.sparsity.topk import MASK_DTYPE, exact_topk, ranking_key

TopKFnType = Callable[..., jax.Array]

# Above this size float32 can no longer hold every count.
_FLOAT32_EXACT = 2**24


@overload
def number_active(size: int, sparsity: float) -> int: ...
@overload
def number_active(size: int, sparsity: jax.Array) -> jax.Array: ...
def number_active(size: int, sparsity: float | jax.Array) -> int | jax.Array:
    """Returns how many of `size` weights stay active, at least 1 (if there is one).

    round_half_even(size * (1 - sparsity)) in float32, as JaxPruner has it; for more than 2**24
    weights and a Python sparsity in float64, where float32 would be off by several weights.

    Args:
      size: number of weights.
      sparsity: Python float or traced scalar, in [0, 1].

    Returns:
      A Python integer for a Python sparsity, else a traced int32.
    """
    lowest = min(1, size)
    if not isinstance(sparsity, (int, float, np.number, np.ndarray)):
        kept = jnp.round(jnp.float32(size) * (1 - jnp.asarray(sparsity, jnp.float32)))
        count = jnp.where(sparsity == 0, size, kept.astype(jnp.int32))
        return jnp.clip(count, lowest, size)
    if sparsity == 0:
        return size
    if size > _FLOAT32_EXACT:
        return min(max(round(size * (1.0 - float(sparsity))), lowest), size)
    kept32 = np.round(np.float32(size) * (np.float32(1) - np.float32(sparsity)))
    return min(max(int(kept32), lowest), size)


def topk_mask_calculator(scores: Any, sparsity: Any) -> jax.Array:
    """Keeps the highest scores of a layer; ties go to the lower row-major index.

    Args:
      scores: [...]; nested lists are accepted.
      sparsity: share to remove, Python float or traced scalar; 0 keeps everything.

    Returns:
      uint8 mask [...] with `number_active(size, sparsity)` ones.
    """
    scores = jnp.asarray(scores)
    return exact_topk(scores, number_active(scores.size, sparsity))


_topk_mask_calculator_internal = topk_mask_calculator


def topk_n_by_m_mask_calculator(
    scores: Any, sparsity: Any, sparsity_type: sparsity_types.NByM
) -> jax.Array:
    """Keeps the n highest of every m consecutive scores along an axis.

    Args:
      scores: [...]; the length of the axis must be a multiple of m.
      sparsity: 0 keeps everything; any other value, None included, is ignored: n and m decide.
      sparsity_type: n, m and the axis.

    Returns:
      uint8 mask [...]; among equal scores the higher index is kept (JaxPruner's rule).

    Raises:
      ValueError: if n > m or m does not divide the length of the axis.
    """
    n, m, axis = sparsity_type
    if n > m:
        raise ValueError(f"N({n}) must be <= M({m}) in N({n}):M({m}) structured sparsity.")
    scores = jnp.moveaxis(jnp.asarray(scores), axis, -1)
    if scores.shape[-1] % m:
        raise ValueError(
            f"{n}:{m} sparsity: found {scores.shape[-1]} scores along axis {axis}; expected a "
            f"multiple of {m}"
        )
    groups = ranking_key(scores).reshape(*scores.shape[:-1], -1, m)
    ranks = jnp.argsort(jnp.argsort(groups, axis=-1, stable=True), axis=-1)
    mask = ranks >= m - n
    if sparsity is not None:
        mask = mask | (jnp.asarray(sparsity) == 0)
    return jnp.moveaxis(mask.reshape(scores.shape), -1, axis).astype(MASK_DTYPE)


def _pool_2d(
    scores: jax.Array, block_height: int, block_width: int, use_avg_pooling: bool
) -> jax.Array:
    """Pools dims 0 and 1 by the block and all later dims entirely; edge blocks may be smaller."""
    height, width = scores.shape[:2]
    rows, columns = -(-height // block_height), -(-width // block_width)
    padding = [(0, rows * block_height - height), (0, columns * block_width - width)]
    padding += [(0, 0)] * (scores.ndim - 2)
    grid = (rows, block_height, columns, block_width, math.prod(scores.shape[2:]))
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if not use_avg_pooling:
        padded = jnp.pad(scores, padding, constant_values=-jnp.inf)
        return padded.reshape(grid).max(axis=(1, 3, 4))
    entries = np.pad(np.ones(scores.shape, np.float32), padding).reshape(grid).sum(axis=(1, 3, 4))
    return jnp.pad(scores, padding).reshape(grid).sum(axis=(1, 3, 4)) / entries


def topk_block_mask_calculator(
    scores: Any, sparsity: Any, block_height: int, block_width: int, use_avg_pooling: bool
) -> jax.Array:
    """Keeps the highest blocks of dims 0 and 1; all later dims belong to the block.

    Args:
      scores: [H, W, ...], or [W] which counts as [1, W].
      sparsity: share of blocks to remove.
      block_height: entries of a block along dim 0.
      block_width: entries of a block along dim 1.
      use_avg_pooling: a block's score is the mean of its entries, else the maximum.

    Returns:
      uint8 mask of the scores' shape; blocks at the edge are cut off.
    """
    scores = jnp.asarray(scores)
    matrix = scores.reshape(1, -1) if scores.ndim < 2 else scores
    pooled = _pool_2d(matrix, block_height, block_width, use_avg_pooling)
    blocks = topk_mask_calculator(pooled, sparsity)
    mask = jnp.repeat(jnp.repeat(blocks, block_height, axis=0), block_width, axis=1)
    mask = mask[: matrix.shape[0], : matrix.shape[1]]
    mask = mask.reshape(mask.shape + (1,) * (matrix.ndim - 2))
    return jnp.broadcast_to(mask, matrix.shape).reshape(scores.shape)


def topk_channel_mask_calculator(
    scores: Any, sparsity: Any, sparsity_type: sparsity_types.Channel
) -> jax.Array:
    """Keeps the channels with the highest summed scores.

    Args:
      scores: [...].
      sparsity: share of channels to remove.
      sparsity_type: the axis of the channels.

    Returns:
      uint8 mask of the scores' shape, constant along all other axes.
    """
    scores = jnp.asarray(scores)
    axis = sparsity_type.axis % scores.ndim
    others = tuple(a for a in range(scores.ndim) if a != axis)
    channels = topk_mask_calculator(jnp.sum(scores, axis=others, keepdims=True), sparsity)
    return jnp.broadcast_to(channels, scores.shape)


def get_topk_fn(sparsity_type: Any) -> TopKFnType:
    """Returns the function (scores, sparsity) -> mask of a sparsity type.

    Args:
      sparsity_type: an instance of a type in `sparsity_types`, or the class `Unstructured`.

    Raises:
      ValueError: for anything else.
    """
    if sparsity_type is sparsity_types.Unstructured or isinstance(
        sparsity_type, sparsity_types.Unstructured
    ):
        return topk_mask_calculator
    if isinstance(sparsity_type, sparsity_types.Block):
        height, width = sparsity_type.block_shape
        return functools.partial(
            topk_block_mask_calculator,
            block_height=height,
            block_width=width,
            use_avg_pooling=sparsity_type.use_avg_pooling,
        )
    if isinstance(sparsity_type, sparsity_types.NByM):
        return functools.partial(topk_n_by_m_mask_calculator, sparsity_type=sparsity_type)
    if isinstance(sparsity_type, sparsity_types.Channel):
        return functools.partial(topk_channel_mask_calculator, sparsity_type=sparsity_type)
    raise ValueError(f"Not a supported sparsity type: {sparsity_type}")
