"""JaxPruner's extensions: AC/DC, pruning by Adam's Fisher information, gradual n:m pruning.

Variations of the pruners in `pruners`; how masks of a pattern are chosen is in `mask_calculator`.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dst_jax.sparsity import (
    base_updater,
    mask_calculator,
    mask_trees,
    optimizer_state,
    sparsity_schedules,
    sparsity_types,
)
from dst_jax.sparsity.algorithms import pruners
from dst_jax.sparsity.param_paths import PyTree


@dataclasses.dataclass
class ACDC(pruners.MagnitudePruning):
    """Alternates sparse and dense phases (Peste et al. 2021), sparse in the end.

    A sparse phase keeps the largest `|w|` of each layer; in a dense phase all weights train, those
    that were pruned from zero on, with moments of zero.

    Attributes:
      init_dense_steps_end: first step of the first sparse phase.
      final_sparse_steps_start: from this step on the network stays sparse.
      cycle_sparse_steps: length of a sparse phase. If both lengths are 0, the schedule's
        `update_start_step`, `update_end_step` and `update_freq` take the place of all four: both
        phases are `update_freq` steps long.
      cycle_dense_steps: length of a dense phase.
      reset_optimizer: whether a dense phase starts with all moments at zero, as published.
    """

    is_sparse_gradients: bool = True
    init_dense_steps_end: int = 0
    final_sparse_steps_start: int = 0
    cycle_sparse_steps: int = 0
    cycle_dense_steps: int = 0
    reset_optimizer: bool = True

    updates_at_multiples: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        phases = (
            self.init_dense_steps_end,
            self.final_sparse_steps_start,
            self.cycle_sparse_steps,
            self.cycle_dense_steps,
        )
        periodic = self.scheduler
        if not any(phases[2:]) and isinstance(periodic, sparsity_schedules.AlternatingSchedule):
            return  # a copy by `dataclasses.replace` brings the schedule that was made below
        if not any(phases[2:]) and isinstance(periodic, sparsity_schedules.OneShotSchedule):
            phases = (periodic.target_step, periodic.target_step, 1, 1)
        if not any(phases[2:]) and isinstance(periodic, sparsity_schedules.PeriodicSchedule):
            if periodic.update_end_step is None:
                raise ValueError(
                    "update_end_step: found none; expected the last phase's first step"
                )
            freq = periodic.update_freq
            phases = (periodic.update_start_step, periodic.update_end_step, freq, freq)
        self.scheduler = sparsity_schedules.AlternatingSchedule(*phases)

    def _reset_moments(
        self,
        before: base_updater.SparseState,
        chosen: base_updater.SparseState,
        reinit_masks: PyTree,
        params: PyTree,
        is_update: Any = True,
    ) -> base_updater.SparseState:
        """Sets moments to zero at the start of a phase."""
        masks = (self._unpacked(s.masks, params) for s in (before, chosen))
        becomes_dense = jnp.logical_not(self.scheduler.is_sparse_at(before.count))
        everything = becomes_dense & self.reset_optimizer

        def reset(old: Any, new: Any, param: Any) -> jax.Array:
            if old is None:
                return jnp.broadcast_to(everything, param.shape)
            return ((old & new) == 0) | everything

        resets = mask_trees.map_masks(reset, *masks, params)
        first = self._initial_moments(chosen, params, reinit_masks)
        inner_state = optimizer_state.reset_moments(chosen.inner_state, resets, is_update, first)
        return chosen._replace(inner_state=inner_state)


@dataclasses.dataclass
class AdamBasedFisherPruning(base_updater.BaseUpdater):
    """Prunes by w^2 v, v being Adam's second moment, a diagonal of the Fisher information.

    After Singh & Alistarh 2020, with the running mean of squared gradients that Adam keeps anyway.

    Attributes:
      reset_adam: whether an update sets all of the optimizer's moments to zero.
    """

    reset_adam: bool = False

    needs_moments: ClassVar[str] = "nu"

    def calculate_scores(
        self, params: PyTree, sparse_state: Any = None, grads: PyTree = None, **kwargs: Any
    ) -> PyTree:
        """Returns w^2 v.

        Raises:
          ValueError: if the optimizer keeps no second moments.
        """
        del grads, kwargs
        inner_state = getattr(sparse_state, "inner_state", None)
        second = optimizer_state.find_moments(inner_state, params, "nu")
        if second is None:
            raise ValueError("adam_fisher: found no Adam state; expected an optimizer like Adam")
        return jax.tree.map(lambda p, v: p**2 * v, params, second)

    def _reset_moments(
        self,
        before: base_updater.SparseState,
        chosen: base_updater.SparseState,
        reinit_masks: PyTree,
        params: PyTree,
        is_update: Any = True,
    ) -> base_updater.SparseState:
        del before
        if not self.reset_adam:
            return chosen
        ones = jax.tree.map(jnp.ones_like, params)
        first = self._initial_moments(chosen, params, reinit_masks)
        inner_state = optimizer_state.reset_moments(chosen.inner_state, ones, is_update, first)
        return chosen._replace(inner_state=inner_state)


def iterative_nm_topk_mask_calculator(
    scores: PyTree, sparsity: Any, sparsity_type: sparsity_types.NByM
) -> jax.Array:
    """Keeps the n:m pattern of the highest scores, and as many others as the sparsity allows.

    Args:
      scores: [...]; the length of the pattern's axis must be a multiple of m.
      sparsity: share to remove, may be traced; 0 keeps everything.
      sparsity_type: the pattern that the masks approach.

    Returns:
      uint8 mask [...].
    """
    pattern = mask_calculator.topk_n_by_m_mask_calculator(scores, 1.0, sparsity_type)
    raised = jnp.where(pattern != 0, jnp.inf, jnp.asarray(scores))
    return mask_calculator.topk_mask_calculator(raised, sparsity)


@dataclasses.dataclass
class IterativeNMPruning(pruners.MagnitudePruning):
    """Magnitude pruning that approaches an n:m pattern as the schedule's sparsity rises.

    The pattern is whole once the sparsity is 1 - n/m. Without an n:m `sparsity_type` this is
    magnitude pruning.
    """

    patterns: ClassVar[tuple[type, ...]] = (sparsity_types.NByM,)
    needs_pattern: ClassVar[type | None] = sparsity_types.NByM
    approaches_pattern: ClassVar[bool] = True

    def __post_init__(self):
        if self.topk_fn is None and isinstance(self.sparsity_type, sparsity_types.NByM):
            self.topk_fn = functools.partial(
                iterative_nm_topk_mask_calculator, sparsity_type=self.sparsity_type
            )
        super().__post_init__()
