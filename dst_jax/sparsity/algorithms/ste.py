"""Straight-through pruning: dense weights are kept and trained, the forward pass sees masked ones.

The gradient of the masked weight is applied to the dense one as it is (Bengio et al. 2013). Masks
are recomputed before every forward pass, so the state holds none.
"""

import dataclasses
from typing import Any

import jax

from dst_jax.sparsity import base_updater
from dst_jax.sparsity.algorithms import pruners


@dataclasses.dataclass
class SteMixin:
    """Turns a pruner into its straight-through variant."""

    def pre_forward_update(self, params: Any, opt_state: base_updater.SparseState) -> Any:
        """Returns the params masked by fresh masks: what the forward pass should use."""
        updater: Any = self
        sparsities = updater.scheduler.get_sparsity_at_step(
            opt_state.target_sparsities, opt_state.count
        )
        scores = updater.calculate_scores(params, sparse_state=opt_state)
        masks = updater.create_masks(scores, sparsities)
        return updater.apply_masks(params, masks, is_packed=False)

    def get_initial_masks(self, params: Any, target_sparsities: Any) -> Any:
        """Returns a tree of None: no masks are kept."""
        del target_sparsities
        return jax.tree.map(lambda p: None, params)

    def _choose_masks(
        self, sparse_state: base_updater.SparseState, params: Any, grads: Any, **kwargs: Any
    ) -> tuple[base_updater.SparseState, Any]:
        del params, grads, kwargs
        return sparse_state, None

    def post_gradient_update(self, params: Any, sparse_state: base_updater.SparseState) -> Any:
        """Returns the params themselves: the dense weights live on."""
        del sparse_state
        return params


@dataclasses.dataclass
class SteMagnitudePruning(SteMixin, pruners.MagnitudePruning):
    """The forward pass uses the largest magnitudes; all weights keep training."""


@dataclasses.dataclass
class SteRandomPruning(SteMixin, pruners.RandomPruning):
    """The forward pass uses random weights, drawn anew at every step."""
