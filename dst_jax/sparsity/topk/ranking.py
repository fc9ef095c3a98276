"""Exact top-k of many layers at once, without sorting: what every mask is made with.

All layers are packed into rows of one array, so that one small program with one loop serves a
whole network. `mask_calculator` builds JaxPruner's per-layer functions on it; the updaters rank
whole trees with it. Pure, jit-able, the same masks on one device or many (arrays that are sharded
are gathered for the ranking).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.sparsity.topk import thresholds

MASK_DTYPE = "uint8"

# A row of entries lies in sublanes x lanes: counting along the sublanes first is what XLA:CPU
# vectorises (ten times faster than along a row of 2048) and how a TPU lays out a tile.
_SUBLANES, _LANES = 16, 128
_ROW = _SUBLANES * _LANES


@dataclasses.dataclass(frozen=True)
class _Packing:
    """How arrays of these shapes lie in rows [R, 1024]; static, hence hashable.

    Attributes:
      shapes: the shapes of the layers.
      joint: whether all layers form one group (one ranking) or each its own.
    """

    shapes: tuple[tuple[int, ...], ...]
    joint: bool

    @functools.cached_property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    @functools.cached_property
    def rows(self) -> list[int]:
        return [-(-size // _ROW) for size in self.sizes]

    @property
    def groups(self) -> int:
        return 1 if self.joint else len(self.shapes)

    def group_of_row(self) -> np.ndarray:
        return np.repeat(np.zeros_like(self.rows) if self.joint else range(self.groups), self.rows)

    @property
    def starts(self) -> list[int]:
        """The row where each layer starts."""
        return np.cumsum([0, *self.rows])[:-1].tolist()

    def is_real(self) -> jax.Array:
        """Returns which entries are not padding, bool [R, 16, 128]."""
        ends = [
            np.clip(size - np.arange(rows) * _ROW, 0, _ROW)
            for size, rows in zip(self.sizes, self.rows, strict=True)
        ]
        last = jnp.asarray(np.concatenate(ends), jnp.int32)
        index = jnp.arange(_ROW, dtype=jnp.int32).reshape(1, _SUBLANES, _LANES)
        return index < last[:, None, None]

    def pack(self, arrays: Sequence[jax.Array]) -> jax.Array:
        padded = [
            jnp.pad(jnp.ravel(array), (0, rows * _ROW - size))
            for array, rows, size in zip(arrays, self.rows, self.sizes, strict=True)
        ]
        return jnp.concatenate(padded).reshape(-1, _SUBLANES, _LANES)

    def unpack(self, packed: jax.Array) -> list[jax.Array]:
        return [
            packed[start : start + rows].reshape(-1)[:size].reshape(shape)
            for start, rows, size, shape in zip(
                self.starts, self.rows, self.sizes, self.shapes, strict=True
            )
        ]


def _mix(x: jax.Array) -> jax.Array:
    """Scrambles uint32 one-to-one (the finaliser of MurmurHash3)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _tie_ranks(shape: tuple[int, ...], tie_key: jax.Array | None) -> jax.Array:
    """Returns a different uint32 for every entry: falling with the index, or in random order."""
    index = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    if tie_key is None:
        return ~index
    salt = jax.random.bits(tie_key, (2,), jnp.uint32)
    return _mix(_mix(index ^ salt[0]) + salt[1])


def _keys(packing: _Packing, scores: Sequence[jax.Array]) -> jax.Array:
    """Returns the packed ranking keys of scores, at least 1."""
    if all(jnp.issubdtype(score.dtype, jnp.floating) for score in scores):
        keys = thresholds.ranking_key(packing.pack([score.astype(jnp.float32) for score in scores]))
    else:
        keys = packing.pack([thresholds.ranking_key(score) for score in scores])
    # Key 0 means excluded. No float has it; the two lowest integers become a tie.
    return jnp.maximum(keys, 1)


def _search(
    packing: _Packing, keys: jax.Array, allowed: jax.Array, k: jax.Array, tie_key: jax.Array | None
) -> jax.Array:
    """Marks each group's k highest keys, bool [R, 16, 128]; `k` is int32 [groups]."""
    group = packing.group_of_row()

    def count(chosen: jax.Array) -> jax.Array:
        # Without the barrier XLA merges the two sums into one that it does not vectorise.
        of_lane = jax.lax.optimization_barrier(jnp.sum(chosen, axis=1, dtype=jnp.int32))
        of_row = jnp.sum(of_lane, axis=1)
        return jax.ops.segment_sum(of_row, group, packing.groups, indices_are_sorted=True)

    def spread(of_group: jax.Array) -> jax.Array:
        return of_group[group][:, None, None]

    keys = jnp.where(allowed, keys, 0)
    available = count(allowed)
    k = jnp.clip(k, 0, available)
    # A group that gets nothing searches for one entry, which is taken from it at the end.
    wanted = jnp.maximum(k, 1)
    threshold = spread(thresholds.search(lambda t: count(keys >= spread(t)), available, wanted))
    above = keys > threshold
    equal = (keys == threshold) & allowed
    # Ties are ranked by a second key that is different everywhere, so the count is always exact.
    ranks = _tie_ranks(keys.shape, tie_key)
    rank = thresholds.search(
        lambda t: count(equal & (ranks >= spread(t))), count(equal), wanted - count(above)
    )
    return (above | (equal & (ranks >= spread(rank)))) & spread(k > 0)


@functools.partial(jax.jit, static_argnames="packing")
def _select(
    packing: _Packing,
    scores: Sequence[jax.Array],
    k: jax.Array,
    candidates: Sequence[jax.Array] | None,
    tie_key: jax.Array | None,
) -> list[jax.Array]:
    """See `topk_masks`; `k` is int32 [groups]."""
    allowed = packing.is_real()
    if candidates is not None:
        allowed = allowed & packing.pack([candidate != 0 for candidate in candidates])
    chosen = _search(packing, _keys(packing, scores), allowed, k, tie_key)
    return packing.unpack(chosen.astype(MASK_DTYPE))


@functools.partial(jax.jit, static_argnames="packing")
def _exchange(
    packing: _Packing,
    masks: Sequence[jax.Array],
    drop_scores: Sequence[jax.Array],
    grow_scores: Sequence[jax.Array],
    n_kept: jax.Array,
    n_new: jax.Array,
    tie_key: jax.Array | None,
) -> tuple[list[jax.Array], list[jax.Array]]:
    """See `drop_and_grow`; counts are int32 [layers]. Packs and unpacks once for both searches."""
    real, old = packing.is_real(), packing.pack(masks) != 0
    drop, grow = _keys(packing, drop_scores), _keys(packing, grow_scores)
    kept = _search(packing, drop, real & old, n_kept, None)
    grown = _search(packing, grow, real & ~kept, n_new - n_kept, tie_key)
    kept_masks, new_masks = (mask.astype(MASK_DTYPE) for mask in (kept, kept | grown))
    return packing.unpack(kept_masks), packing.unpack(new_masks)


def _packing_of(scores: Sequence[Any], joint: bool) -> _Packing:
    packing = _Packing(tuple(tuple(score.shape) for score in scores), joint)
    if sum(packing.rows) * _ROW >= 2**31:
        raise ValueError("scores: found 2**31 or more; expected fewer to rank at once")
    return packing


def topk_masks(
    scores: Sequence[Any],
    k: Any,
    *,
    candidates: Sequence[Any] | None = None,
    tie_key: jax.Array | None = None,
    joint: bool = False,
) -> list[jax.Array]:
    """Marks exactly the k highest scores of every layer, whatever ties there are.

    A threshold search of a few counting passes over all layers together and, only when scores tie
    at a threshold, some more over ranks that break the ties.

    Args:
      scores: one array [...] a layer. NaN ranks lowest.
      k: how many to mark in each layer, integers [layers], Python or traced; clipped to what is
        available. With `joint`, one integer.
      candidates: one mask a layer, of the scores' shape; only where it is not 0 may be chosen.
      tie_key: a PRNG key draws among equal scores at random. None takes the lowest row-major index
        first (in earlier layers first), as a stable sort would.
      joint: rank all layers together (global pruning).

    Returns:
      One uint8 mask a layer, with min(k, candidates) ones.

    Raises:
      ValueError: for 2**31 scores or more.
    """
    if not scores:
        return []
    arrays = [jnp.asarray(score) for score in scores]
    packing = _packing_of(arrays, joint)
    counts = jnp.asarray(k, jnp.int32).reshape(packing.groups)
    allowed = None if candidates is None else [jnp.asarray(mask) for mask in candidates]
    return _select(packing, arrays, counts, allowed, tie_key)


def drop_and_grow(
    masks: Sequence[Any],
    drop_scores: Sequence[Any],
    grow_scores: Sequence[Any],
    n_kept: Any,
    n_new: Any,
    *,
    tie_key: jax.Array | None = None,
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Keeps the active weights with the highest drop scores, then adds the highest of the others.

    Args:
      masks: 0/1 [...] a layer, what is active now.
      drop_scores: [...] a layer; ties stay at the lower index.
      grow_scores: [...] a layer; all that is not kept may be grown.
      n_kept: integers [layers], how many stay; Python or traced.
      n_new: integers [layers], how many are active afterwards.
      tie_key: breaks ties among growth scores at random; None takes the lower index.

    Returns:
      What was kept and the new masks, uint8 [...] a layer each.
    """
    if not masks:
        return [], []
    packing = _packing_of(masks, joint=False)
    counts = (jnp.asarray(n, jnp.int32).reshape(packing.groups) for n in (n_kept, n_new))
    arrays = ([jnp.asarray(a) for a in layers] for layers in (masks, drop_scores, grow_scores))
    return _exchange(packing, *arrays, *counts, tie_key)


def exact_topk(
    scores: Any, k: Any, *, candidates: Any = None, tie_key: jax.Array | None = None
) -> jax.Array:
    """Marks exactly the k highest of one array; see `topk_masks`."""
    allowed = None if candidates is None else [candidates]
    return topk_masks([scores], k, candidates=allowed, tie_key=tie_key)[0]
