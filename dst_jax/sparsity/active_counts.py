"""Exact numbers of active weights a layer from sparsities, so that they add up to the request.

On the host in float64; only shapes are read. Called by `sparsity_distributions` and the updaters.
"""

import math
from collections.abc import Iterable
from typing import Any

import jax

from dst_jax.sparsity.param_paths import PyTree


def active_counts(params: PyTree, sparsities: PyTree, sparsity: float | None = None) -> PyTree:
    """Turns layer sparsities into exact numbers of active weights that add up.

    Each layer gets its share rounded to the nearest integer, at least 1; then single weights are
    given or taken, largest rounding remainder first, until the sum is the requested total. Dense
    layers stay dense and no layer is emptied.

    Args:
      params: a tree of arrays; only shapes are read.
      sparsities: the same tree with a Python float or None (no mask) per layer.
      sparsity: overall sparsity that the sum must meet to the nearest weight. None, or a value
        that the layers do not add up to (a custom map, say), uses the sum of the layers.

    Returns:
      The tree of Python integers, None where the sparsity is None.

    Example:
      Three layers of 5 weights at sparsity 0.5 get 3, 3 and 2 (8 = round(7.5)), not 2, 2 and 2.
    """
    treedef: Any
    targets, treedef = jax.tree.flatten(sparsities, is_leaf=lambda x: x is None)
    layers = treedef.flatten_up_to(params)
    sizes = [math.prod(p.shape) for p, s in zip(layers, targets, strict=True) if s is not None]
    exact = [
        (1.0 - s) * n for n, s in zip(sizes, (t for t in targets if t is not None), strict=True)
    ]
    total = round(math.fsum(exact))
    if sparsity is not None:
        wanted = round((1.0 - sparsity) * sum(sizes))
        # ERK rounds each layer's zeros down, so its layers miss the total by less than one weight
        # a layer; a larger gap means that these targets follow another rule.
        total = wanted if abs(wanted - total) <= len(sizes) else total
    counts = iter(_repaired(exact, sizes, total))
    return treedef.unflatten([None if t is None else next(counts) for t in targets])


def _repaired(exact: list[float], sizes: list[int], total: int) -> list[int]:
    """Rounds `exact` to integers in [1, size] that sum to `total`, where that is possible."""
    counts = [min(max(round(e), 1), n) for e, n in zip(exact, sizes, strict=True)]
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        free: Iterable[int] = (
            index
            for index, (count, size) in enumerate(zip(counts, sizes, strict=True))
            # A layer that is dense on request gives nothing; one that rounding filled may.
            if exact[index] < size and 1 <= count + step <= size
        )
        order = sorted(free, key=lambda index: step * (counts[index] - exact[index]))
        if not order:
            break
        for index in order[: abs(missing)]:
            counts[index] += step
    return counts
