"""Exact top-k on the host: what `ranking` does for NumPy arrays, with the same masks bit for bit.

Scores become the same uint32 keys, a sample brackets the k-th largest, `np.partition` finds it
there, and layers are shared among threads (NumPy lets them run together). Called by `ranking`.
"""

import concurrent.futures
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_SIGN = np.uint32(0x80000000)
_INFINITY = np.uint32(0x7F800000)
_SAMPLES = 4096


def ranking_key(scores: np.ndarray) -> np.ndarray:
    """Maps scores to uint32 in their order, as `ranking.ranking_key` does, but at least 1.

    Args:
      scores: float or integer [...]; NaN ranks lowest, -0 equals 0.

    Returns:
      uint32 keys [...]; 0 is left free for entries that may not be chosen.
    """
    if scores.dtype == np.uint32:
        return np.maximum(scores, 1)
    if scores.dtype.kind in "biu":
        return np.maximum(scores.astype(np.int32).view(np.uint32) ^ _SIGN, 1)
    bits = np.ascontiguousarray(scores, np.float32).reshape(scores.shape).view(np.uint32)
    if bits.size == 0 or bits.max() <= _INFINITY:  # no sign and no NaN: in order as they are
        return bits | _SIGN
    bits = np.where((bits & ~_SIGN) > _INFINITY, np.uint32(0xFF800000), bits)
    bits = np.where(bits == _SIGN, np.uint32(0), bits)
    return np.where(bits >= _SIGN, ~bits, bits | _SIGN)


def zero_where(array: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Returns the array with zeros where the marks are not 0.

    On 32-bit numbers by arithmetic: `np.where` takes several times longer without a pattern.
    """
    if array.dtype.itemsize != 4:
        return np.where(marks != 0, np.zeros_like(array), array)
    keep = (np.asarray(marks) == 0).astype(np.uint32)
    np.negative(keep, out=keep)  # all bits, or none
    np.bitwise_and(keep, array.view(np.uint32), out=keep)
    return keep.view(array.dtype)


def _kth_largest(keys: np.ndarray, k: int) -> np.uint32:
    """Returns the k-th largest of keys [N], 1 <= k <= N.

    Partitioning everything would do, but takes fifty times longer where one value (an excluded
    entry, the gradient of a dead unit) makes up most of the keys.
    """
    stride = keys.size // _SAMPLES
    if stride >= 8:
        sample = np.sort(keys[::stride])
        place = sample.size * (1 - k / keys.size)
        margin = 3 * math.sqrt(max(place * (1 - place / sample.size), 1)) + 2
        low = sample[max(int(place - margin), 0)]
        high = sample[min(int(place + margin), sample.size - 1)]
        above = int(np.count_nonzero(keys > high))
        between = keys[(keys >= low) & (keys <= high)]
        if above < k <= above + between.size:  # nearly always
            keys, k = between, k - above
    return np.partition(keys, keys.size - k)[keys.size - k]


def _mix(x: np.ndarray) -> np.ndarray:
    """The scrambling of `ranking`, on uint32."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def _choose(
    keys: np.ndarray, k: int, packed: Callable[[np.ndarray], np.ndarray], salt: np.ndarray | None
) -> np.ndarray:
    """Marks the k highest keys [N], bool; among equal ones the lowest index or the highest rank."""
    if k <= 0 or keys.size == 0:
        return np.zeros(keys.shape, bool)
    threshold = _kth_largest(keys, min(k, keys.size))
    if threshold == 0:  # fewer than k may be chosen
        return keys > 0
    chosen = keys >= threshold
    surplus = np.count_nonzero(chosen) - k
    if surplus > 0:
        tied = np.flatnonzero(keys == threshold)
        if salt is not None:
            ranks = _mix(_mix(packed(tied).astype(np.uint32) ^ salt[0]) + salt[1])
            tied = tied[np.argsort(~ranks)]
        chosen[tied[tied.size - surplus :]] = False
    return chosen


def select(
    scores: Sequence[np.ndarray],
    counts: Sequence[int],
    candidates: Sequence[Any] | None,
    salt: np.ndarray | None,
    starts: Sequence[int],
    *,
    joint: bool,
) -> list[np.ndarray]:
    """Marks the highest scores of every layer, or of all layers together.

    Args:
      scores: [...] a layer.
      counts: how many to mark in each layer; with `joint`, one number.
      candidates: one mask a layer, or None.
      salt: uint32 [2] to break ties at random, or None for the lowest index.
      starts: the index in `ranking`'s packed array at which each layer starts; ties depend on it.
      joint: rank all layers together.

    Returns:
      One uint8 mask [...] a layer.
    """

    def keys_of(layer: int) -> np.ndarray:
        keys = ranking_key(scores[layer])
        if candidates is not None:
            keys = zero_where(keys, np.asarray(candidates[layer]) == 0)
        return keys.reshape(-1)

    def of_layer(layer: int) -> np.ndarray:
        keys = keys_of(layer)
        chosen = _choose(keys, counts[layer], lambda index: index + starts[layer], salt)
        return chosen.view(np.uint8).reshape(scores[layer].shape)

    layers = range(len(scores))
    if not joint:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(of_layer, layers))

    ends = np.cumsum([score.size for score in scores])
    firsts = ends - [score.size for score in scores]
    shifts = np.asarray(starts) - firsts

    def packed_index(index: np.ndarray) -> np.ndarray:
        return index + shifts[np.searchsorted(ends, index, side="right")]

    chosen = _choose(np.concatenate([keys_of(i) for i in layers]), counts[0], packed_index, salt)
    pieces = np.split(chosen.view(np.uint8), ends[:-1])
    return [piece.reshape(scores[i].shape) for i, piece in enumerate(pieces)]
