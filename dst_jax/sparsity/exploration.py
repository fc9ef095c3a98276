"""Exploration of sparse training: the share of weights active at least once (ITOP rates).

Definitions after Liu et al. 2021 (In-Time Over-Parameterization). NumPy masks in, shares out.
Called by training loops for their log, and after training.
"""

from collections.abc import Sequence

import numpy as np


def rates(masks: Sequence[np.ndarray], union: Sequence[np.ndarray]) -> dict[str, float]:
    """The ITOP rates: the share of the maskable weights that have been active so far.

    Dense layers count as explored, which raises the first rate at low sparsity; the second rate
    leaves them out.

    Args:
      masks: 0/1, one a maskable layer: what is active now.
      union: 0/1, the same layers: what has been active, now included.

    Returns:
      {"explored": over all maskable layers, "explored_sparse": over those with an inactive
      weight}; a rate over nothing is left out.
    """
    sizes = [mask.size for mask in masks]
    seen = [int(layer.sum(dtype=np.int64)) for layer in union]
    sparse = [int(mask.sum(dtype=np.int64)) < mask.size for mask in masks]
    found = {}
    if sizes:
        found["explored"] = sum(seen) / sum(sizes)
    if any(sparse):
        counted = [
            layer
            for layer, chosen in zip(zip(seen, sizes, strict=True), sparse, strict=True)
            if chosen
        ]
        found["explored_sparse"] = sum(n for n, _ in counted) / sum(size for _, size in counted)
    return found
