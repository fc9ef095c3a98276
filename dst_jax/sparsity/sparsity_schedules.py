"""When masks change, and what sparsity they have at a step.

A schedule answers for Python integers with Python values (the host decides which program to run)
and for traced integers with traced values (the decision is made inside a compiled program).
Updaters own one. The fraction that SET and RigL drop at a step is in `api._drop_fraction_fn`.
"""

import dataclasses
from typing import TypeAlias

import jax
import jax.numpy as jnp

from dst_jax.sparsity.param_paths import PyTree

Step: TypeAlias = int | jax.Array
Truth: TypeAlias = bool | jax.Array
"""A Python value for a Python step, else traced."""


@dataclasses.dataclass(frozen=True)
class NoUpdateSchedule:
    """Masks never change."""

    def get_sparsity_at_step(self, target_sparsities: PyTree, step: Step) -> PyTree:
        """Returns the target sparsities: these schedules have no ramp."""
        del step
        return target_sparsities

    def is_mask_update_iter(self, step: Step) -> Truth:
        """Returns whether the masks change at `step` (completed batches)."""
        del step
        return False


@dataclasses.dataclass(frozen=True)
class OneShotSchedule(NoUpdateSchedule):
    """Masks change once, at `target_step`."""

    target_step: int

    def is_mask_update_iter(self, step: Step) -> Truth:
        """Returns whether `step` is the target step."""
        return step == self.target_step


@dataclasses.dataclass(frozen=True)
class PeriodicSchedule(NoUpdateSchedule):
    """Masks change at multiples of `update_freq` from the start to the end step, both included.

    Attributes:
      update_freq: steps between updates, at least 1.
      update_start_step: first step at which an update may happen.
      update_end_step: last such step; None never stops.

    Raises:
      ValueError: if `update_freq` is not positive.
    """

    update_freq: int
    update_start_step: int
    update_end_step: int | None = None

    def __post_init__(self):
        if self.update_freq < 1:
            raise ValueError(f"update_freq: found {self.update_freq}; expected at least 1")

    def is_mask_update_iter(self, step: Step) -> Truth:
        """Returns whether `step` is an update step; False for None."""
        if step is None:
            return False
        is_update = (step % self.update_freq == 0) & (step >= self.update_start_step)
        if self.update_end_step is not None:
            is_update = is_update & (step <= self.update_end_step)
        return is_update


@dataclasses.dataclass(frozen=True)
class AlternatingSchedule(NoUpdateSchedule):
    """Sparse and dense phases in turn, dense at first and sparse in the end (AC/DC).

    Attributes:
      init_dense_steps_end: the first step of the first sparse phase.
      final_sparse_steps_start: from this step on it is sparse.
      cycle_sparse_steps: length of a sparse phase.
      cycle_dense_steps: length of the dense phase after it.

    Raises:
      ValueError: if both lengths are 0.
    """

    init_dense_steps_end: int
    final_sparse_steps_start: int
    cycle_sparse_steps: int
    cycle_dense_steps: int

    def __post_init__(self):
        if self.cycle_sparse_steps + self.cycle_dense_steps < 1:
            raise ValueError(
                "cycle_sparse_steps, cycle_dense_steps: found 0 and 0; expected the lengths of the "
                "phases in steps"
            )

    def is_sparse_at(self, step: Step) -> Truth:
        """Returns whether `step` lies in a sparse phase."""
        place = (step - self.init_dense_steps_end) % (
            self.cycle_sparse_steps + self.cycle_dense_steps
        )
        in_cycle = (step >= self.init_dense_steps_end) & (place < self.cycle_sparse_steps)
        return (step >= self.final_sparse_steps_start) | in_cycle

    def is_mask_update_iter(self, step: Step) -> Truth:
        """Returns whether a phase starts at `step`."""
        return self.is_sparse_at(step) != self.is_sparse_at(step - 1)

    def get_sparsity_at_step(self, target_sparsities: PyTree, step: Step) -> PyTree:
        """Returns the targets in a sparse phase, else zeros."""
        is_sparse = self.is_sparse_at(step)
        return jax.tree.map(lambda target: target * is_sparse, target_sparsities)


@dataclasses.dataclass(frozen=True)
class PolynomialSchedule(PeriodicSchedule):
    """A periodic schedule whose sparsity rises from 0 to the target (Zhu & Gupta 2017).

    The sparsity at step t is `target * (1 - (1 - progress)**power)` with `progress` =
    (t + 1 - start) / (end - start), clipped to [0, 1]. The +1 is JaxPruner's.
    """

    power: int = 3

    def get_sparsity_at_step(self, target_sparsities: PyTree, step: Step) -> PyTree:
        """Returns the tree of sparsities at `step`; None leaves stay None.

        Raises:
          ValueError: if the end step is missing or lies before the start step.
        """
        start, end = self.update_start_step, self.update_end_step
        if end is None or end < start:
            raise ValueError(
                "The end_step of a polynomial schedule cannot be absent or smaller than the "
                f"start_step: found end {end}, start {start}"
            )
        progress: float | jax.Array
        if end == start:
            progress = 1.0
        elif isinstance(step, int):
            progress = min(max(step + 1 - start, 0), end - start) / (end - start)
        else:
            done = jnp.clip(step + 1 - start, 0, end - start).astype(jnp.float32)
            progress = done / jnp.float32(end - start)
        reached = 1.0 - (1.0 - progress) ** self.power
        return jax.tree.map(lambda target: target * reached, target_sparsities)
