"""Exact selection: the k highest scores of many layers at once, without sorting.

`ranking` is what the updaters and `mask_calculator` call; it searches with `thresholds`.
Nothing here knows an algorithm or a schedule.
"""

from dst_jax.sparsity.topk.ranking import MASK_DTYPE, drop_and_grow, exact_topk, topk_masks
from dst_jax.sparsity.topk.thresholds import ranking_key

__all__ = ["MASK_DTYPE", "drop_and_grow", "exact_topk", "ranking_key", "topk_masks"]
