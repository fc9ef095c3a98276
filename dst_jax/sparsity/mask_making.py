"""What every updater does with masks: make them from scores, store them, apply them.

The part of `base_updater.BaseUpdater` that has neither a schedule nor an optimizer in it.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from dst_jax.sparsity import (
    mask_calculator,
    mask_trees,
    pattern_fit,
    sparsity_distributions,
    sparsity_types,
)
from dst_jax.sparsity.param_paths import PyTree


class MaskMaking:
    """Makes, stores and applies masks; the attributes are fields of `BaseUpdater`."""

    sparsity_type: sparsity_types.SparsityType
    sparsity_distribution_fn: Callable[..., Any] | None
    use_packed_masks: bool
    topk_fn: mask_calculator.TopKFnType | None

    def apply_masks(self, params: PyTree, masks: PyTree, is_packed: bool | None = False) -> PyTree:
        """Multiplies a tree by its masks.

        Args:
          params: a tree of arrays (params or gradients).
          masks: a tree of masks and None, or None.
          is_packed: whether the masks are bit-packed; None means `use_packed_masks`.
        """
        if masks is None:
            return params
        packed = self.use_packed_masks if is_packed is None else is_packed
        return mask_trees.apply_masks(params, masks, packed)

    def get_initial_masks(self, params: PyTree, target_sparsities: PyTree) -> PyTree:
        """Returns the masks to start from: all ones, None where the target is None."""

        def ones(target: Any, param: Any) -> Any:
            return None if target is None else jnp.ones(param.shape, mask_calculator.MASK_DTYPE)

        return mask_trees.map_masks(ones, target_sparsities, params)

    def create_masks(self, scores: PyTree, sparsities: PyTree) -> PyTree:
        """Returns masks that keep the highest scores; None where the sparsity is None."""
        if self._is_unstructured():
            counts = mask_trees.map_masks(
                lambda s, score: (
                    None if s is None else mask_calculator.number_active(score.size, s)
                ),
                sparsities,
                scores,
            )
            return mask_trees.topk_tree(scores, counts)

        def create(sparsity: Any, score: Any) -> Any:
            return None if sparsity is None else self.topk_fn(score, sparsity)  # type: ignore[misc]

        return mask_trees.map_masks(create, sparsities, scores)

    def _distribution(self) -> sparsity_distributions.Distribution:
        return sparsity_distributions.Distribution.of(self.sparsity_distribution_fn)

    def _is_unstructured(self) -> bool:
        """Whether each weight is ranked on its own, by the ordinary rule."""
        return self.topk_fn is mask_calculator.topk_mask_calculator

    def _store(self, masks: PyTree) -> PyTree:
        """Returns masks as the state holds them: None wherever there is none."""
        masks = mask_trees.map_masks(lambda mask: mask, masks)
        return mask_trees.pack_masks(masks) if self.use_packed_masks else masks

    def _unpacked(self, masks: PyTree, params: PyTree) -> Any:
        """Returns masks of the state as 0/1 in the params' shapes."""
        return mask_trees.unpack_masks(masks, params) if self.use_packed_masks else masks

    def _sparsities(self, params: PyTree) -> PyTree:
        """Returns the target sparsities, None also for layers that cannot hold the pattern."""
        targets = self.sparsity_distribution_fn(params)  # type: ignore[misc]
        if isinstance(self.sparsity_type, sparsity_types.Unstructured):
            return targets
        return pattern_fit.fitting(self.sparsity_type, targets, params)
