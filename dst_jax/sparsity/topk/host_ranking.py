"""Exact top-k on the host: what `ranking` does for NumPy arrays, with the same masks bit for bit.

A sample brackets the k-th largest. One pass over a layer marks what lies above the bracket and
takes out the few scores inside it, whose uint32 keys `np.partition` ranks.
Called by `ranking`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dst_jax.sparsity import host_arrays

_SIGN = np.uint32(0x80000000)
_INFINITY = np.uint32(0x7F800000)
# Entries of a sample, and how many standard deviations from its quantile the bracket's ends are: at
# three a bracket in 370 is missed, and its layer read twice; wider ones cost every layer more.
_SAMPLES, _DEVIATIONS = 1 << 14, 3


class _Bracket(NamedTuple):
    """Values (see `_Layer.values`) between which, both included, the k-th largest is sought.

    None stands for no bound: then not even NaN is below it.
    """

    low: Any = None
    high: Any = None


class _Scan(NamedTuple):
    """What one pass over a layer finds, besides the candidates that it marks above the bracket.

    Attributes:
      n_above: how many it marked.
      inside: int64 [M], positions of the candidates inside the bracket, rising.
      keys: uint32 [M], their keys.
    """

    n_above: int
    inside: np.ndarray
    keys: np.ndarray


def ranking_key(scores: np.ndarray | host_arrays.Magnitude) -> np.ndarray:
    """Maps scores to uint32 in their order, as `thresholds.ranking_key` does, but at least 1.

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


class _Layer:
    """One layer's scores, flat, which of them may be chosen, and where the choice is marked."""

    def __init__(
        self,
        scores: np.ndarray | host_arrays.Magnitude,
        candidates: Any,
        excluded: Any,
        chosen: np.ndarray,
    ):
        self.size = scores.size
        self.scores = scores.reshape(-1)
        self.chosen = chosen.reshape(-1)
        self._candidates = None if candidates is None else np.asarray(candidates).reshape(-1)
        self._excluded = None if excluded is None else np.asarray(excluded).reshape(-1)

    def _is_allowed(self, part: slice, out: np.ndarray | None = None) -> np.ndarray | None:
        """Returns bool [len(part)], or None for all."""
        if self._candidates is not None:
            return np.not_equal(self._candidates[part], 0, out=out)
        return None if self._excluded is None else np.equal(self._excluded[part], 0, out=out)

    def values(self, part: slice, out: np.ndarray | None = None) -> np.ndarray:
        """Returns scores as numbers that compare as they rank, at best without a conversion.

        That is float32 as it is (no comparison is true of NaN, which ranks lowest), else the key.

        Args:
          part: which scores.
          out: float32 [len(part)], where absolute values may be written.
        """
        scores: Any = self.scores[part]
        if scores.dtype != np.float32:
            return ranking_key(scores)
        if isinstance(scores, host_arrays.Magnitude):
            return np.abs(scores.signed, out=out)
        return scores

    def sample(self, stride: int) -> np.ndarray:
        """Returns the values of the candidates among every `stride`-th entry; NaN as -inf."""
        part = slice(None, None, stride)
        values, allowed = self.values(part), self._is_allowed(part)
        values = values if allowed is None else values[allowed]
        if values.dtype != np.float32:
            return values
        return np.fmax(values, np.float32(-np.inf))

    def scan(self, bracket: _Bracket) -> _Scan:
        """Reads all scores once, and marks those above the bracket."""
        n_above = 0
        positions, found = [np.empty(0, np.int64)], [np.empty(0, np.uint32)]
        # The same few arrays for all chunks: new ones would cost more than the arithmetic.
        length = min(host_arrays.CHUNK, self.size)
        value_space = np.empty(length, np.float32)
        inside_space, allowed_space = np.empty(length, bool), np.empty(length, bool)
        for part in host_arrays.chunks(self.size):
            length = part.stop - part.start
            above, inside = self.chosen[part], inside_space[:length]
            allowed = self._is_allowed(part, allowed_space[:length])
            if bracket == _Bracket():
                above[:] = False
                inside = np.ones(length, bool) if allowed is None else allowed
            else:
                values = self.values(part, value_space[:length])
                if bracket.high is None:
                    above[:] = False
                else:
                    np.greater(values, bracket.high, out=above)
                if bracket.low is None:
                    inside[:] = True
                else:
                    np.greater_equal(values, bracket.low, out=inside)
                if allowed is not None:
                    np.logical_and(above, allowed, out=above)
                    np.logical_and(inside, allowed, out=inside)
                np.not_equal(inside, above, out=inside)
                n_above += int(np.count_nonzero(above))
            index = np.flatnonzero(inside)
            index += part.start
            positions.append(index)
            found.append(ranking_key(self.scores[index]))
        return _Scan(n_above, np.concatenate(positions), np.concatenate(found))


def _bracket_of(layers: Sequence[_Layer], k: int) -> _Bracket:
    """Returns where the k-th largest of all candidates very probably lies, from a sample."""
    stride = sum(layer.size for layer in layers) // _SAMPLES
    if stride < 4:
        return _Bracket()
    stride |= 1  # an even one would meet only some of the channels
    sample = np.sort(np.concatenate([layer.sample(stride) for layer in layers]))
    place = sample.size - k / stride
    share = min(max(place / max(sample.size, 1), 0.0), 1.0)
    margin = _DEVIATIONS * math.sqrt(sample.size * share * (1 - share)) + 4
    first, last = math.floor(place - margin), max(math.ceil(place + margin), 0)
    low = sample[first] if first >= 0 else None
    if low is not None and sample.dtype == np.float32 and low == -np.inf:
        low = None  # which NaN equals
    return _Bracket(low, sample[last] if last < sample.size else None)


def _kth_largest(keys: np.ndarray, k: int) -> np.uint32:
    """Returns the k-th largest of keys inside a bracket, 1 <= k <= N.

    The ends are looked at first: ties (gradients of dead units) are there, often they are all of
    the bracket, and `np.partition` takes fifty times longer where one value prevails.
    """
    lowest, highest = keys.min(), keys.max()
    if np.count_nonzero(keys == highest) >= k:
        return highest
    larger = keys[keys > lowest]
    if larger.size < k:
        return lowest
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
) -> None:
    """Marks the k highest keys of some layers together; see `select`."""
    if k <= 0:
        for layer in layers:
            layer.chosen[:] = False
        return

    def scan_all(bracket: _Bracket) -> list[_Scan]:
        scores = [layer.scores for layer in layers]
        return host_arrays.each(lambda _, layer: layer.scan(bracket), scores, layers)

    scans = scan_all(_bracket_of(layers, k))
    missing = k - sum(scan.n_above for scan in scans)
    n_inside = sum(scan.keys.size for scan in scans)
    if not 0 < missing <= n_inside:  # misled by the sample, or fewer than k may be chosen
        scans = scan_all(_Bracket())
        n_inside = sum(scan.keys.size for scan in scans)
        missing = min(k, n_inside)
    if n_inside == 0:
        return
    keys = scans[0].keys if len(scans) == 1 else np.concatenate([scan.keys for scan in scans])
    threshold = _kth_largest(keys, missing)
    tied = [scan.inside[scan.keys == threshold] for scan in scans]
    ranks = [_tie_ranks(t + start, salt) for t, start in zip(tied, starts, strict=True)]
    surplus = int(np.count_nonzero(keys >= threshold)) - int(missing)
    lowest = np.partition(np.concatenate(ranks), surplus)[surplus]
    for layer, scan, tie, rank in zip(layers, scans, tied, ranks, strict=True):
        layer.chosen[scan.inside[scan.keys > threshold]] = True
        layer.chosen[tie[rank >= lowest]] = True


def select(
    scores: Sequence[np.ndarray],
    counts: Sequence[int],
    salt: np.ndarray | None,
    starts: Sequence[int],
    *,
    joint: bool,
    candidates: Sequence[Any] | None = None,
) -> list[np.ndarray]:
    """Marks the highest scores of every layer, or of all layers together.

    Args:
      scores: [...] a layer.
      counts: how many to mark in each layer; with `joint`, one number.
      salt: uint32 [2] to break ties at random, or None for the lowest index.
      starts: the index in `ranking`'s packed array at which each layer starts; ties depend on it.
      joint: rank all layers together.
      candidates: one mask a layer, outside which nothing may be chosen.

    Returns:
      One uint8 mask [...] a layer.
    """
    masks = [np.empty(score.shape, np.uint8) for score in scores]
    rows = zip(scores, candidates or [None] * len(scores), masks, strict=True)
    layers = [_Layer(score, allowed, None, mask.view(bool)) for score, allowed, mask in rows]
    if joint:
        _choose(layers, counts[0], starts, salt)
    else:
        host_arrays.each(
            lambda _, layer, k, start: _choose([layer], k, [start], salt),
            *(scores, layers, counts, starts),
        )
    return masks


def drop_and_grow(
    masks: Sequence[np.ndarray],
    drop_scores: Sequence[np.ndarray],
    grow_scores: Sequence[np.ndarray],
    n_kept: Sequence[int],
    n_new: Sequence[int],
    salt: np.ndarray | None,
    starts: Sequence[int],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Does what `ranking.drop_and_grow` does; both choices of a layer while its masks are in cache.

    Args:
      masks: 0/1 [...] a layer, what is active now.
      drop_scores: [...] a layer; ties stay at the lower index.
      grow_scores: [...] a layer; all that is not kept may be grown.
      n_kept: how many stay in each layer.
      n_new: how many are active afterwards in each layer.
      salt: as in `select`, of ties among growth scores.
      starts: as in `select`.

    Returns:
      What was kept and the new masks, uint8 [...] a layer each.
    """

    def of_layer(
        mask: np.ndarray, drop: Any, grow: Any, stay: int, active: int, start: int
    ) -> tuple[np.ndarray, np.ndarray]:
        kept, new = np.empty(mask.shape, np.uint8), np.empty(mask.shape, np.uint8)
        _choose([_Layer(drop, mask, None, kept.view(bool))], stay, [start], None)
        _choose([_Layer(grow, None, kept, new.view(bool))], active - stay, [start], salt)
        np.bitwise_or(new, kept, out=new)
        return kept, new

    rows = host_arrays.each(of_layer, masks, drop_scores, grow_scores, n_kept, n_new, starts)
    return [kept for kept, _ in rows], [new for _, new in rows]
