"""Blocks of weights where some are cut off at the edge of a layer, so that counts stay exact.

Blocks that hold equally many weights exchange places among themselves alone: the number of active
weights of a layer is then the same after every drop and growth. Called by the sparse trainers; a
layer of equal blocks needs none of this.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.sparsity import mask_calculator, topk
from dst_jax.sparsity.sparsity_types import Block, SparsityType

Shape = tuple[int, ...]


def is_uneven(pattern: SparsityType, shape: Shape) -> bool:
    """Whether the pattern is of blocks and cuts some of them off in a layer of this shape."""
    if not isinstance(pattern, Block):
        return False
    sides = zip(_matrix(shape), pattern.block_shape, strict=True)
    return any(length % side for length, side in sides)


def _matrix(shape: Shape) -> tuple[int, int]:
    return (1, math.prod(shape)) if len(shape) < 2 else (shape[0], shape[1])


def _sizes(pattern: Block, shape: Shape) -> np.ndarray:
    """Returns how many weights each block holds, int [rows, columns]."""
    counts = []
    for length, side in zip(_matrix(shape), pattern.block_shape, strict=True):
        starts = np.arange(0, length, side)
        counts.append(np.minimum(side, length - starts))
    return np.outer(*counts) * (math.prod(shape[2:]) if len(shape) > 2 else 1)


def _classes(pattern: Block, shape: Shape) -> dict[int, np.ndarray]:
    """Returns number of weights -> flat indices of the blocks that hold as many, largest first."""
    sizes = _sizes(pattern, shape).ravel()
    return {int(n): np.flatnonzero(sizes == n) for n in sorted(set(sizes.tolist()))[::-1]}


def _pooled(pattern: Block, scores: jax.Array) -> jax.Array:
    matrix = scores.reshape(1, -1) if scores.ndim < 2 else scores
    height, width = pattern.block_shape
    return mask_calculator._pool_2d(matrix, height, width, pattern.use_avg_pooling).ravel()


def _spread(pattern: Block, blocks: jax.Array, shape: Shape) -> jax.Array:
    """Returns the mask [shape] of a mask of blocks, flat."""
    (rows, columns), (height, width) = _matrix(shape), pattern.block_shape
    grid = blocks.reshape(-(-rows // height), -(-columns // width))
    mask = jnp.repeat(jnp.repeat(grid, height, axis=0), width, axis=1)[:rows, :columns]
    mask = mask.reshape(mask.shape + (1,) * max(len(shape) - 2, 0))
    full = shape if len(shape) > 1 else (rows, columns)
    return jnp.broadcast_to(mask, full).reshape(shape)


def _shares(classes: dict[int, np.ndarray], wanted: int) -> list[int]:
    """Returns how many blocks of each class come closest to a number of weights, in proportion."""
    total = sum(size * len(blocks) for size, blocks in classes.items())
    exact = [len(blocks) * wanted / total for blocks in classes.values()]
    options = [
        sorted({min(max(math.floor(e) + step, 0), len(blocks)) for step in (-1, 0, 1, 2)})
        for e, blocks in zip(exact, classes.values(), strict=True)
    ]

    def distance(counts: Any) -> tuple[float, float]:
        active = sum(size * n for size, n in zip(classes, counts, strict=True))
        uneven = sum(abs(n - e) for n, e in zip(counts, exact, strict=True))
        return abs(active - wanted), uneven

    return list(min((c for c in itertools.product(*options) if any(c)), key=distance))


def random_mask(pattern: Block, scores: jax.Array, sparsity: float) -> jax.Array:
    """Returns a mask of whole blocks, as close to a sparsity as they come.

    Args:
      pattern: the blocks.
      scores: [...]; the highest of each class of blocks are active.
      sparsity: share of the weights to remove.

    Returns:
      uint8 [...].
    """
    shape = scores.shape
    classes = _classes(pattern, shape)
    wanted = mask_calculator.number_active(math.prod(shape), sparsity)
    pooled, blocks = _pooled(pattern, scores), jnp.zeros(_sizes(pattern, shape).size, jnp.uint8)
    chosen = topk.topk_masks([pooled[i] for i in classes.values()], _shares(classes, wanted))
    for index, mask in zip(classes.values(), chosen, strict=True):
        blocks = blocks.at[index].set(mask)
    return _spread(pattern, blocks, shape)


def drop_and_grow(
    pattern: Block, old: jax.Array, drop: jax.Array, grow: jax.Array, kept_share: Any, tie_key: Any
) -> tuple[jax.Array, jax.Array]:
    """Drops and grows whole blocks of one layer.

    Args:
      pattern: the blocks.
      old: uint8 [...], constant in every block.
      drop: scores [...]; the blocks with the lowest means are dropped.
      grow: scores [...].
      kept_share: share of the active weights that stay, in [0, 1]; may be traced.
      tie_key: see `topk.drop_and_grow`.

    Returns:
      What was kept and the new mask, uint8 [...] each.
    """
    shape, classes = old.shape, _classes(pattern, old.shape)
    index = list(classes.values())
    olds, drops, grows = (
        [_pooled(pattern, scores)[i] for i in index] for scores in (old, drop, grow)
    )
    olds = [mask.astype(jnp.uint8) for mask in olds]
    active = jnp.array([mask.sum(dtype=jnp.int32) for mask in olds], jnp.int32)
    n_kept = jnp.round(active.astype(jnp.float32) * kept_share).astype(jnp.int32)
    found = topk.drop_and_grow(olds, drops, grows, n_kept, active, tie_key=tie_key)
    masks = []
    for chosen in found:
        blocks = jnp.zeros(_sizes(pattern, shape).size, jnp.uint8)
        for i, mask in zip(index, chosen, strict=True):
            blocks = blocks.at[i].set(mask)
        masks.append(_spread(pattern, blocks, shape))
    return masks[0], masks[1]
