"""Exact top-k on the host: what `ranking` does for NumPy arrays, with the same masks bit for bit.

Scores become the same uint32 keys. A sample brackets the k-th largest; one pass over a layer marks
what lies above the bracket and takes out the few keys inside it; `np.partition` settles those.
Called by `ranking`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dst_jax.sparsity import host_arrays

_SIGN = np.uint32(0x80000000)
_INFINITY = np.uint32(0x7F800000)
_SAMPLES = 1 << 13


class _Bracket(NamedTuple):
    """Keys between which, both included, the k-th largest is sought."""

    low: np.uint32
    high: np.uint32


_EVERYTHING = _Bracket(np.uint32(0), np.uint32(0xFFFFFFFF))


class _Scan(NamedTuple):
    """What one pass over a layer finds.

    Attributes:
      above: bool [N], whether a candidate's key is above the bracket.
      n_above: how many are.
      inside: int64 [M], positions of the candidates inside the bracket, rising.
      keys: uint32 [M], their keys.
    """

    above: np.ndarray
    n_above: int
    inside: np.ndarray
    keys: np.ndarray


def ranking_key(scores: np.ndarray | host_arrays.Magnitude) -> np.ndarray:
    """Maps scores to uint32 in their order, as `ranking.ranking_key` does, but at least 1.

    Args:
      scores: float or integer [...]; NaN ranks lowest, -0 equals 0.

    Returns:
      uint32 keys [...].
    """
    if isinstance(scores, host_arrays.Magnitude):
        scores = np.asarray(scores)
    if scores.dtype == np.uint32:
        return np.maximum(scores, 1)
    if scores.dtype.kind in "biu":
        return np.maximum(scores.astype(np.int32).view(np.uint32) ^ _SIGN, 1)
    bits = np.ascontiguousarray(scores, np.float32).reshape(scores.shape).view(np.uint32)
    bits = np.where((bits & ~_SIGN) > _INFINITY, np.uint32(0xFF800000), bits)
    bits = np.where(bits == _SIGN, np.uint32(0), bits)
    return np.where(bits >= _SIGN, ~bits, bits | _SIGN)


def _key_of_chunk(scores: np.ndarray | host_arrays.Magnitude, out: np.ndarray) -> np.ndarray:
    """Returns `ranking_key(scores)` of scores [N], in `out` where it is simple.

    It is if they are float32, not negative and numbers: then their bits are in order.
    """
    is_magnitude = isinstance(scores, host_arrays.Magnitude)
    floats: Any = scores.signed if isinstance(scores, host_arrays.Magnitude) else scores
    if floats.dtype != np.float32 or not floats.size:
        return ranking_key(scores)
    bits, keys = floats.view(np.uint32), out[: floats.size]
    np.bitwise_or(bits, _SIGN, out=keys)
    largest = keys if is_magnitude else bits  # whose own sign counts
    if largest.max() > (_SIGN | _INFINITY if is_magnitude else _INFINITY):
        return ranking_key(scores)
    return keys


class _Layer:
    """One layer's scores, flat, and which of them may be chosen."""

    def __init__(self, scores: np.ndarray | host_arrays.Magnitude, candidates: Any, excluded: Any):
        self.shape, self.size = scores.shape, scores.size
        self.scores = scores.reshape(-1)
        self._candidates = None if candidates is None else np.asarray(candidates).reshape(-1)
        self._excluded = None if excluded is None else np.asarray(excluded).reshape(-1)

    def _is_allowed(self, part: slice, out: np.ndarray | None = None) -> np.ndarray | None:
        """Returns bool [len(part)], or None for all."""
        if self._candidates is not None:
            return np.not_equal(self._candidates[part], 0, out=out)
        return None if self._excluded is None else np.equal(self._excluded[part], 0, out=out)

    def sample(self, stride: int) -> np.ndarray:
        """Returns the keys of the candidates among every `stride`-th entry."""
        part = slice(None, None, stride)
        keys, allowed = ranking_key(self.scores[part]), self._is_allowed(part)
        return keys if allowed is None else keys[allowed]

    def scan(self, bracket: _Bracket) -> _Scan:
        """Reads all scores once."""
        above, n_above = np.empty(self.size, bool), 0
        positions, found = [np.empty(0, np.int64)], [np.empty(0, np.uint32)]
        # The same few arrays for all chunks: new ones would cost more than the arithmetic.
        length = min(host_arrays.CHUNK, self.size)
        key_space = np.empty(length, np.uint32)
        inside_space, allowed_space = np.empty(length, bool), np.empty(length, bool)
        for part in host_arrays.chunks(self.size):
            length = part.stop - part.start
            keys = _key_of_chunk(self.scores[part], key_space)
            out, inside = above[part], inside_space[:length]
            np.greater(keys, bracket.high, out=out)
            np.greater_equal(keys, bracket.low, out=inside)
            allowed = self._is_allowed(part, allowed_space[:length])
            if allowed is not None:
                np.logical_and(out, allowed, out=out)
                np.logical_and(inside, allowed, out=inside)
            np.not_equal(inside, out, out=inside)
            n_above += np.count_nonzero(out)
            index = np.flatnonzero(inside)
            positions.append(index + part.start)
            found.append(keys[index])
        return _Scan(above, n_above, np.concatenate(positions), np.concatenate(found))


def _bracket_of(layers: Sequence[_Layer], k: int) -> _Bracket:
    """Returns where the k-th largest key of all candidates very probably lies, from a sample."""
    stride = sum(layer.size for layer in layers) // _SAMPLES
    if stride < 4:
        return _EVERYTHING
    stride |= 1  # an even one would meet only some of the channels
    sample = np.sort(np.concatenate([layer.sample(stride) for layer in layers]))
    place = sample.size - k / stride
    share = min(max(place / max(sample.size, 1), 0.0), 1.0)
    margin = 4 * math.sqrt(sample.size * share * (1 - share)) + 4
    first, last = math.floor(place - margin), max(math.ceil(place + margin), 0)
    return _Bracket(
        sample[first] if first >= 0 else _EVERYTHING.low,
        sample[last] if last < sample.size else _EVERYTHING.high,
    )


def _kth_largest(keys: np.ndarray, k: int, bracket: _Bracket) -> np.uint32:
    """Returns the k-th largest of keys inside a bracket, 1 <= k <= N.

    The ends are looked at first: ties (gradients of dead units) are there, often they are all of
    the bracket, and `np.partition` takes fifty times longer where one value prevails.
    """
    if np.count_nonzero(keys == bracket.high) >= k:
        return bracket.high
    larger = keys[keys > bracket.low]
    if larger.size < k:
        return bracket.low
    return np.partition(larger, larger.size - k)[larger.size - k]


def _mix(x: np.ndarray) -> np.ndarray:
    """The scrambling of `ranking`, on uint32."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def _tie_ranks(packed: np.ndarray, salt: np.ndarray | None) -> np.ndarray:
    """Returns the ranks of `ranking._tie_ranks` for some indices of the packed array."""
    index = packed.astype(np.uint32)
    return ~index if salt is None else _mix(_mix(index ^ salt[0]) + salt[1])


def _choose(
    layers: Sequence[_Layer], k: int, starts: Sequence[int], salt: np.ndarray | None
) -> list[np.ndarray]:
    """Marks the k highest keys of some layers together, bool [N] each; see `select`."""
    if k <= 0:
        return [np.zeros(layer.size, bool) for layer in layers]

    def scan_all(bracket: _Bracket) -> list[_Scan]:
        scores = [layer.scores for layer in layers]
        return host_arrays.each(lambda _, layer: layer.scan(bracket), scores, layers)

    bracket = _bracket_of(layers, k)
    scans = scan_all(bracket)
    missing = k - sum(scan.n_above for scan in scans)
    n_inside = sum(scan.keys.size for scan in scans)
    if not 0 < missing <= n_inside:  # misled by the sample, or fewer than k may be chosen
        bracket = _EVERYTHING
        scans = scan_all(bracket)
        n_inside = sum(scan.keys.size for scan in scans)
        missing = min(k, n_inside)
    chosen = [scan.above for scan in scans]
    if n_inside == 0:
        return chosen
    keys = scans[0].keys if len(scans) == 1 else np.concatenate([scan.keys for scan in scans])
    threshold = _kth_largest(keys, missing, bracket)
    tied = [scan.inside[scan.keys == threshold] for scan in scans]
    ranks = [_tie_ranks(t + start, salt) for t, start in zip(tied, starts, strict=True)]
    surplus = np.count_nonzero(keys >= threshold) - missing
    lowest = np.partition(np.concatenate(ranks), surplus)[surplus]
    for mask, scan, tie, rank in zip(chosen, scans, tied, ranks, strict=True):
        mask[scan.inside[scan.keys > threshold]] = True
        mask[tie[rank >= lowest]] = True
    return chosen


def select(
    scores: Sequence[np.ndarray],
    counts: Sequence[int],
    salt: np.ndarray | None,
    starts: Sequence[int],
    *,
    joint: bool,
    candidates: Sequence[Any] | None = None,
    excluded: Sequence[Any] | None = None,
) -> list[np.ndarray]:
    """Marks the highest scores of every layer, or of all layers together.

    Args:
      scores: [...] a layer.
      counts: how many to mark in each layer; with `joint`, one number.
      salt: uint32 [2] to break ties at random, or None for the lowest index.
      starts: the index in `ranking`'s packed array at which each layer starts; ties depend on it.
      joint: rank all layers together.
      candidates: one mask a layer, outside which nothing may be chosen.
      excluded: one mask a layer, inside which nothing may be chosen.

    Returns:
      One uint8 mask [...] a layer.
    """
    nothing = [None] * len(scores)
    layers = [
        _Layer(*row) for row in zip(scores, candidates or nothing, excluded or nothing, strict=True)
    ]
    if joint:
        chosen = _choose(layers, counts[0], starts, salt)
    else:
        chosen = host_arrays.each(
            lambda _, layer, k, start: _choose([layer], k, [start], salt)[0],
            *(scores, layers, counts, starts),
        )
    return [
        mask.view(np.uint8).reshape(layer.shape) for mask, layer in zip(chosen, layers, strict=True)
    ]
