"""Drop and grow with a number of active weights that changes: MEST, GraNet, gradual pruning.

All run on `sparse_trainers.SET`, the engine, and only say how many weights are active after which
update. `_r` methods grow at random, `_g` methods where the gradient is largest.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.sparsity import mask_trees, sparsity_distributions
from dst_jax.sparsity.algorithms import sparse_trainers
from dst_jax.sparsity.param_paths import PyTree


def update_steps(updater: Any, end: int | None = None) -> tuple[int, int, int]:
    """Returns (first step with an update, last one, steps between updates).

    Args:
      updater: its scheduler must have updates that end.
      end: consider no update after this step.

    Raises:
      ValueError: if there is none.
    """
    scheduler = updater.scheduler
    if (step := getattr(scheduler, "target_step", None)) is not None:
        return step, step, 1
    start = getattr(scheduler, "update_start_step", None)
    last = getattr(scheduler, "update_end_step", None)
    if start is None or last is None:
        raise ValueError(
            f"update_end_step: found a schedule without updates or without an end; "
            f"{type(updater).__name__} needs both update_start_step and update_end_step"
        )
    freq, last = scheduler.update_freq, last if end is None else min(last, end)
    first, last = -(-start // freq) * freq, last // freq * freq
    if first > last:
        raise ValueError(
            f"update_freq: found no multiple of {freq} from step {start} to "
            f"step {last if end is None else end}; {type(updater).__name__} needs an update there"
        )
    return first, last, freq


@dataclasses.dataclass
class _Mest:
    """The budget of MEST (Yuan et al. 2021), over whichever growth follows it in the bases.

    Attributes:
      soft_bound: how far the budget is exceeded, or undercut, as a share of each layer's target:
        in full before three quarters of the way to the last update, by half after that, and not
        at all from the last update on.
      memory_bound: 'soft' (EM&S): an update prunes to the target, then grows beyond it by the soft
        bound; until the last update new weights come on top. 'hard' (EM): an update prunes below
        the target by the soft bound, then grows to the target.
      gradient_weight: lambda of the drop score, `|w| + lambda |gradient|`.
    """

    soft_bound: float = 0.1
    memory_bound: str = "soft"
    gradient_weight: float = 0.0

    drops_a_fraction: ClassVar[bool] = False
    changes_density: ClassVar[bool] = True
    patterns: ClassVar[tuple[type, ...]] = ()  # its counts are of single weights

    def __post_init__(self):
        super().__post_init__()  # type: ignore[misc]
        sparse_trainers.check_choice("memory_bound", self.memory_bound, ("soft", "hard"))
        if not 0 <= self.soft_bound <= 1:
            raise ValueError(f"soft_bound: found {self.soft_bound}; expected 0 to 1")

    def _targets(self, params: PyTree, masks: PyTree = None) -> Any:
        """Returns the tree of the numbers of active weights at the end, exact Python integers."""
        updater: Any = self
        return updater._distribution().counts(params, masks)

    def density_progress(self, latest: np.ndarray) -> np.ndarray:
        """Returns 0, 0.5 and 1 in the three stages of the soft bound; 1 with a hard bound."""
        if self.memory_bound == "hard":
            return np.ones(latest.shape)
        _, end, _ = update_steps(self)
        return 1 - np.where(4 * latest < 3 * end, 1.0, np.where(latest < end, 0.5, 0.0))

    def _extra(self, target: int, size: int, factor: float) -> int:
        room = size - target if self.memory_bound == "soft" else target - 1
        # The tiny addition: 0.1 * 30 must not become 2.
        return max(min(int(factor * self.soft_bound * target + 1e-9), room), 0)

    def get_initial_masks(self, params: PyTree, target_sparsities: PyTree) -> PyTree:
        """Returns random masks; with a soft bound they start beyond the target."""
        updater: Any = self
        update_steps(updater)
        counts = self._targets(params)
        if self.memory_bound == "soft":
            counts = mask_trees.map_masks(
                lambda n, p: None if n is None else n + self._extra(n, p.size, 1.0), counts, params
            )
        del target_sparsities
        return updater._random_masks(params, counts)

    def _get_drop_scores(self, sparse_state: Any, params: PyTree, grads: PyTree) -> Any:
        updater: Any = super()
        scores = updater._get_drop_scores(sparse_state, params, grads)
        if not self.gradient_weight:
            return scores
        return mask_trees.map_masks(lambda s, g: s + self.gradient_weight * abs(g), scores, grads)

    def _layer_counts(
        self, n_active: Any, drop_fraction: Any, sparse_state: Any = None, params: PyTree = None
    ) -> tuple[Any, Any]:
        """Returns the counts of the engine; the drop fraction plays no part."""
        del drop_fraction
        targets = self._targets(params, sparse_state.masks)
        treedef: Any = jax.tree.structure(targets)
        layers = mask_trees.map_masks(lambda n, p: None if n is None else p.size, targets, params)
        pairs = list(zip(treedef.flatten_up_to(targets), jax.tree.leaves(layers), strict=True))
        target = jnp.array([n for n, _ in pairs], jnp.int32)
        table = np.array(
            [[self._extra(n, size, f) for n, size in pairs] for f in (1.0, 0.5, 0.0)], np.int32
        )
        _, last, _ = update_steps(self)
        step = jnp.asarray(sparse_state.count)
        stage = (4 * step >= 3 * last).astype(jnp.int32) + (step >= last)
        extra = jnp.asarray(table)[stage]
        if self.memory_bound == "soft":
            return jnp.minimum(n_active, target), target + extra
        return jnp.minimum(n_active, target - extra), target


@dataclasses.dataclass
class MESTRandom(_Mest, sparse_trainers.SET):
    """MEST with random growth, by default with the soft memory bound (EM&S)."""


@dataclasses.dataclass
class MESTGradient(_Mest, sparse_trainers.RigL):
    """MEST that grows where the gradient is largest."""


@dataclasses.dataclass
class _Gradual:
    """Global magnitude pruning from an initial density to the target, before each drop-and-grow.

    The updates until `prune_end_step` are numbered j = 1..J, and after the j-th exactly
    round(d(j) * N) of all N maskable weights are active, d(j) = d_f + (d_i - d_f) (1 - j/J)^3 (Zhu
    & Gupta 2017). The smallest `|w|` of the whole network are pruned, without normalisation; no
    layer loses its last weight, and no inactive weight returns. Layers' densities follow from that.

    Attributes:
      initial_density: density d_i of the first masks, above the target, at most 1.
      prune_end_step: the last step that prunes; None: the last update.
    """

    initial_density: float = 0.8
    prune_end_step: int | None = None

    ranks_layers_together: ClassVar[bool] = True
    drops_a_fraction: ClassVar[bool] = False
    changes_density: ClassVar[bool] = True
    patterns: ClassVar[tuple[type, ...]] = ()  # its counts are of single weights

    def __post_init__(self):
        super().__post_init__()  # type: ignore[misc]
        sparsity = self._updater._distribution().requested
        target = 0.0 if sparsity is None else 1 - sparsity
        if not target < self.initial_density <= 1:
            raise ValueError(
                f"initial_density: found {self.initial_density}; expected more than the target "
                f"density {target:g}, at most 1"
            )

    @property
    def _updater(self) -> Any:
        return self

    def get_initial_masks(self, params: PyTree, target_sparsities: PyTree) -> PyTree:
        """Returns random masks of the initial density, over layers as the distribution has it."""
        update_steps(self, self.prune_end_step)
        del target_sparsities
        sparsity = 1 - self.initial_density
        targets = self._updater.sparsity_distribution_fn(params, sparsity=sparsity)
        counts = sparsity_distributions.active_counts(params, targets, sparsity)
        return self._updater._random_masks(params, counts)

    def _has_reinit(self) -> bool:
        return True

    def density_progress(self, latest: np.ndarray) -> np.ndarray:
        """Returns 1 - (1 - j/J)^3 after the j-th of the updates that prune."""
        start, end, freq = update_steps(self, self.prune_end_step)
        events = (end - start) // freq + 1
        event = np.clip((latest - start) // freq + 1, 0, events)
        return 1 - (1 - event / events) ** 3

    def _totals(self, sizes: list[int]) -> np.ndarray:
        """Returns the numbers of active weights after 0, 1, ... J prunings, int32 [J + 1]."""
        first, last, freq = update_steps(self, self.prune_end_step)
        total, lowest = sum(sizes), len(sizes)
        sparsity = self._updater._distribution().requested
        if sparsity is None:
            raise ValueError("sparsity: found layers of their own; expected one for all of them")
        events = (last - first) // freq + 1
        left = 1 - np.arange(events + 1) / events
        final = 1 - sparsity
        counts = np.rint(total * (final + (self.initial_density - final) * left**3))
        return np.clip(counts, lowest, total).astype(np.int32)

    def _prune(self, masks: list[Any], drop_scores: list[Any], sparse_state: Any) -> list[Any]:
        """Returns the masks after global pruning."""
        first, _, freq = update_steps(self, self.prune_end_step)
        totals = self._totals([mask.size for mask in masks])
        event = (jnp.asarray(sparse_state.count) - first) // freq + 1
        k = jnp.asarray(totals)[jnp.clip(event, 0, len(totals) - 1)]
        return mask_trees.topk_jointly(drop_scores, k, masks)


@dataclasses.dataclass
class GraNetRandom(_Gradual, sparse_trainers.SET):
    """GraNet (Liu et al. 2021) with random growth: gradual pruning, then drop and grow."""


@dataclasses.dataclass
class GraNetGradient(_Gradual, sparse_trainers.RigL):
    """GraNet as published: regenerates where the gradient is largest."""


@dataclasses.dataclass
class GradualMagnitudePruning(_Gradual, sparse_trainers.SET):
    """Prunes a dense network by global magnitude on the cubic schedule, and grows nothing.

    Unlike `MagnitudePruning` it ranks all layers together, hits the target exactly, and what is
    pruned stays pruned.
    """

    initial_density: float = 1.0

    is_sparse_at_start: ClassVar[bool] = False

    def _get_grow_scores(self, sparse_state: Any, params: PyTree, grads: PyTree) -> Any:
        del sparse_state, grads
        return params

    def count_grown(self, sparse_state: Any, params: PyTree) -> jax.Array:
        """Returns 0."""
        del sparse_state, params
        return jnp.int32(0)

    def _drop_and_grow(
        self,
        old_masks: list[Any],
        drop_scores: list[Any],
        grow_scores: list[Any],
        n_kept: Any,
        n_new: Any,
        tie_key: Any = None,
    ) -> tuple[list[Any], list[Any]]:
        del drop_scores, grow_scores, n_kept, n_new, tie_key
        return old_masks, old_masks
