"""What the class of an algorithm says of itself: the one thing that the rest of a training asks.

`base_updater.BaseUpdater` inherits these; a subclass overrides what differs. Whoever asks needs no
list of names, so an algorithm that a user registers is treated like ours.
"""

from typing import Any, ClassVar

import numpy as np

from dst_jax.sparsity import sparsity_types


class Traits:
    """Facts about an algorithm, as class attributes. Its options are its dataclass fields.

    Attributes:
      is_dense: it has no masks at all.
      is_sparse_at_start: its first masks are sparse by a rule that others, as SNIP, may replace.
      changes_masks: the schedule's updates change masks, so a training without one is refused.
        False: masks never change, or follow the step itself.
      updates_at_multiples: updates take place at multiples of `update_freq`, not at steps of their
        own.
      drops_a_fraction: an update changes masks only if the drop fraction is above 0.
      changes_density: the number of active weights changes in a training; see `density_progress`.
      keeps_dense_weights: the params stay dense, and `pre_forward_update` gives the network that is
        trained, evaluated and described.
      backward_ratio: how many weights train, as a multiple of the active ones.
      dense_gradients: when it uses the gradients of inactive weights: "updates" (at mask updates),
        "always" (at every step), or "" (never).
      has_distribution: a distribution (`dist_type`) gives each layer its sparsity; if not, the
        updater has a field `sparsity`.
      ranks_layers_together: layers share one ranking, so none has a density known in advance.
      patterns: the types of `sparsity_types` beside `Unstructured` that its masks can follow.
      needs_pattern: the one of them that it is meant for, or None.
      approaches_pattern: n:m masks come up to the pattern with the schedule. False: the pattern is
        whole from the first update on.
      needs_moments: "mu" or "nu", the optimizer's moments that it reads; "" for none.
    """

    is_dense: ClassVar[bool] = False
    is_sparse_at_start: ClassVar[bool] = False
    changes_masks: ClassVar[bool] = True
    updates_at_multiples: ClassVar[bool] = True
    drops_a_fraction: ClassVar[bool] = False
    changes_density: ClassVar[bool] = True
    keeps_dense_weights: ClassVar[bool] = False
    backward_ratio: float = 1.0  # a field of Top-KAST
    dense_gradients: ClassVar[str] = ""
    has_distribution: ClassVar[bool] = True
    ranks_layers_together: ClassVar[bool] = False
    patterns: ClassVar[tuple[type, ...]] = (
        sparsity_types.NByM,
        sparsity_types.Block,
        sparsity_types.Channel,
    )
    needs_pattern: ClassVar[type | None] = None
    approaches_pattern: ClassVar[bool] = False
    needs_moments: ClassVar[str] = ""

    scheduler: Any
    sparsity_type: Any

    def density_progress(self, latest: np.ndarray) -> np.ndarray:
        """Returns how far the density has come from that of the first masks to that of the last.

        Args:
          latest: int [steps], for each step the mask update before it, -1 for none; the step itself
            where `changes_masks` is False.

        Returns:
          float [steps] in [0, 1]: what the schedule says of a sparsity of 1, or all 1 if
          `changes_density` is False.
        """
        if not self.changes_density:
            return np.ones(latest.shape)
        at_step = self.scheduler.get_sparsity_at_step
        reached = np.array([at_step(1.0, int(step)) for step in latest], float)
        if isinstance(self.sparsity_type, sparsity_types.NByM) and not self.approaches_pattern:
            reached = (reached > 0).astype(float)
        return np.where(latest < 0, 0.0, reached)


def of(algorithm: Any, name: str) -> Any:
    """Returns a fact about a class, the default for one that does not say (as JaxPruner's)."""
    return getattr(algorithm, name, getattr(Traits, name))
