"""Straight-through pruning: dense weights are kept and trained, the forward pass sees masked ones.

The gradient of the masked weight is applied to the dense one as it is (Bengio et al. 2013). Masks
are recomputed before every forward pass, so the state holds none.
"""

import dataclasses
from typing import Any, ClassVar

import jax

from dst_jax.sparsity import base_updater
from dst_jax.sparsity.algorithms import pruners
from dst_jax.sparsity.param_paths import PyTree


@dataclasses.dataclass
class SteMixin:
    """Turns a pruner into its straight-through variant.

    The schedule's start and end say how the sparsity rises; between them it rises with every step,
    so `update_freq` plays no part.
    """

    changes_masks: ClassVar[bool] = False
    keeps_dense_weights: ClassVar[bool] = True
    dense_gradients: ClassVar[str] = "always"

    def is_mask_update(self, step: Any) -> bool:
        """Returns False: the state holds no masks, so there is nothing to update."""
        del step
        return False

    def pre_forward_update(self, params: PyTree, opt_state: base_updater.SparseState) -> PyTree:
        """Returns the params masked by fresh masks: what the forward pass should use."""
        updater: Any = self
        masks = self.forward_masks(params, opt_state)
        return updater.apply_masks(params, masks, is_packed=False)

    def forward_masks(self, params: PyTree, sparse_state: base_updater.SparseState) -> PyTree:
        """Returns fresh masks: a function of params, step (`count`) and seed."""
        updater: Any = self
        sparsities = updater.scheduler.get_sparsity_at_step(
            sparse_state.target_sparsities, sparse_state.count
        )
        scores = updater.calculate_scores(params, sparse_state=sparse_state)
        return updater.create_masks(scores, sparsities)

    def get_initial_masks(self, params: PyTree, target_sparsities: PyTree) -> PyTree:
        """Returns a tree of None: no masks are kept."""
        del target_sparsities
        return jax.tree.map(lambda p: None, params)

    def _choose_masks(
        self, sparse_state: base_updater.SparseState, params: PyTree, grads: PyTree, **kwargs: Any
    ) -> tuple[base_updater.SparseState, Any]:
        del params, grads, kwargs
        return sparse_state, None

    def post_gradient_update(
        self, params: PyTree, sparse_state: base_updater.SparseState
    ) -> PyTree:
        """Returns the params unchanged: all weights are kept."""
        del sparse_state
        return params


@dataclasses.dataclass
class SteMagnitudePruning(SteMixin, pruners.MagnitudePruning):
    """The forward pass uses the largest magnitudes; all weights keep training."""


@dataclasses.dataclass
class SteRandomPruning(SteMixin, pruners.RandomPruning):
    """The forward pass uses random weights, drawn anew at every step."""
