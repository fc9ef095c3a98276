"""Masks from scores: one exact top-k without sorting, and the structured patterns built on it.

Everything that ranks weights goes through `exact_topk`: updaters, drop and grow, global pruning.
All functions are pure, work inside jit on one or many devices and give the same mask everywhere.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.sparsity import sparsity_types

MASK_DTYPE = "uint8"
TopKFnType = Callable[..., jax.Array]

# Above this size float32 can no longer hold every count.
_FLOAT32_EXACT = 2**24


def ranking_key(scores: jax.Array) -> jax.Array:
    """Maps scores to uint32 so that a larger score has a larger key.

    Floats are ranked in float32 (float16 and bfloat16 convert exactly) with -0 equal to 0 and NaN
    equal to -inf; integers up to 32 bits are ranked exactly.

    Args:
      scores: [...] of any real dtype.

    Returns:
      uint32 keys [...].
    """
    if scores.dtype == jnp.uint32:
        return scores
    sign = jnp.uint32(0x80000000)
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        return jax.lax.bitcast_convert_type(scores.astype(jnp.int32), jnp.uint32) ^ sign
    # Integer tests, not float ones: accelerators may flush denormals to zero in comparisons.
    bits = jax.lax.bitcast_convert_type(scores.astype(jnp.float32), jnp.uint32)
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    bits = jnp.where(is_nan, jnp.uint32(0xFF800000), bits)
    bits = jnp.where(bits == sign, jnp.uint32(0), bits)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _flat_index(shape: tuple[int, ...], offset: int) -> jax.Array:
    """Returns every position's row-major index plus `offset`, as uint32 [shape].

    Built per dimension because a reshape would gather arrays that are sharded over devices.
    """
    index = jnp.full(shape, offset, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        index = index + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        stride *= shape[axis]
    return index


def _mix(x: jax.Array) -> jax.Array:
    """Scrambles uint32 one-to-one (the finaliser of MurmurHash3)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _threshold(count_from: Callable[[jax.Array], jax.Array], start: jax.Array, k: jax.Array):
    """Finds the largest uint32 t with count_from(t) >= k, bit by bit from the top.

    Stops early when exactly k are left. `start` is count_from(0); if that is not above k the
    answer is 0 at once.
    """

    def body(state):
        bit, threshold, count = state
        candidate = threshold | (jnp.uint32(1) << bit.astype(jnp.uint32))
        n = count_from(candidate)
        enough = n >= k
        return bit - 1, jnp.where(enough, candidate, threshold), jnp.where(enough, n, count)

    def unfinished(state):
        bit, _, count = state
        return (bit >= 0) & (count > k)

    return jax.lax.while_loop(unfinished, body, (jnp.int32(31), jnp.uint32(0), start))[1]


def _count(masks: Sequence[jax.Array]) -> jax.Array:
    return sum((jnp.sum(mask, dtype=jnp.int32) for mask in masks), jnp.int32(0))


@jax.jit
def _select(
    scores: Sequence[jax.Array],
    k: jax.Array,
    candidates: Sequence[jax.Array] | None,
    tie_key: jax.Array | None,
) -> list[jax.Array]:
    """The k highest of all arrays together; see `exact_topk`."""
    keys = [ranking_key(s) for s in scores]
    total = jnp.int32(sum(key.size for key in keys))
    if candidates is not None:
        allowed = [jnp.asarray(c) != 0 for c in candidates]
        # Key 0 means excluded. No float has it; the lowest two integers become a tie.
        keys = [jnp.where(a, jnp.maximum(q, 1), 0) for a, q in zip(allowed, keys, strict=True)]
        total = _count(allowed)
    k = jnp.clip(k, 0, total)
    wanted = jnp.maximum(k, 1)
    threshold = _threshold(
        lambda t: _count([key >= t for key in keys]), jnp.int32(sum(q.size for q in keys)), wanted
    )
    above = [key > threshold for key in keys]
    equal = [key == threshold for key in keys]
    # Ties are ranked by a second key that is distinct everywhere, so the count is always exact.
    offsets = np.cumsum([0, *(key.size for key in keys)])[:-1].tolist()
    ranks = [_flat_index(key.shape, offset) for key, offset in zip(keys, offsets, strict=True)]
    if tie_key is None:
        ranks = [~rank for rank in ranks]
    else:
        salt = jax.random.bits(tie_key, (2,), jnp.uint32)
        ranks = [_mix(_mix(rank ^ salt[0]) + salt[1]) for rank in ranks]
    missing = wanted - _count(above)
    rank_threshold = _threshold(
        lambda t: _count([e & (r >= t) for e, r in zip(equal, ranks, strict=True)]),
        _count(equal),
        missing,
    )
    return [
        ((a | (e & (r >= rank_threshold))) & (k > 0)).astype(MASK_DTYPE)
        for a, e, r in zip(above, equal, ranks, strict=True)
    ]


def exact_topk(
    scores: Any, k: Any, *, candidates: Any = None, tie_key: jax.Array | None = None
) -> Any:
    """Marks exactly the k highest scores, whatever ties there are.

    A bitwise threshold search: at most 32 counting passes over the scores and, only when scores
    tie at the threshold, 32 more over the tie-breaking ranks. No sort, `k` may be traced, and
    arrays sharded over devices stay where they are. NaN ranks lowest.

    Args:
      scores: an array [...], or a sequence of arrays that are ranked together (global pruning).
      k: how many to mark, Python or traced integer; clipped to what is available.
      candidates: masks of the scores' shapes; only positions that are not 0 may be chosen.
      tie_key: a PRNG key draws among equal scores at random; None takes the lowest row-major
        index first (earlier arrays first), as a stable sort would.

    Returns:
      A uint8 mask [...] with min(k, candidates) ones, or a list of masks.

    Raises:
      ValueError: for more than 2**31 - 1 scores.
    """
    if not isinstance(scores, (list, tuple)):
        chosen = None if candidates is None else [candidates]
        return exact_topk([scores], k, candidates=chosen, tie_key=tie_key)[0]
    scores = [jnp.asarray(s) for s in scores]
    size = sum(s.size for s in scores)
    if size >= 2**31:
        raise ValueError(f"scores: found {size} of them; expected fewer than 2**31 to rank at once")
    if candidates is None and isinstance(k, int) and k >= size:
        return [jnp.ones(s.shape, MASK_DTYPE) for s in scores]
    chosen = None if candidates is None else list(candidates)
    return _select(scores, jnp.asarray(k, jnp.int32), chosen, tie_key)


def number_active(size: int, sparsity: Any) -> Any:
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
      sparsity: 0 keeps everything; any other value is ignored, n and m decide.
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
    mask = (ranks >= m - n) | (jnp.asarray(sparsity) == 0)
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
