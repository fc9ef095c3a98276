"""What the class of an algorithm says of itself: the one thing that the rest of a training asks.

`base_updater.BaseUpdater` inherits these; a subclass overrides what differs. Whoever asks needs no
list of names, so an algorithm that a user registers is treated like ours.
"""

from typing import ClassVar

from dst_jax.sparsity import sparsity_types


class Traits:
    """Facts about an algorithm, as class attributes.

    Attributes:
      is_dense: it has no masks at all.
      is_sparse_at_start: its first masks are sparse by a rule that others, as SNIP, may replace.
      changes_masks: the schedule's updates change masks, so a training without one is a mistake.
      drops_a_fraction: an update changes masks only if the drop fraction is above 0.
      keeps_dense_weights: the params stay dense, and `pre_forward_update` gives the network that is
        trained, evaluated and described.
      ranks_layers_together: layers share one ranking, so none has a density known in advance.
      patterns: the types of `sparsity_types` beside `Unstructured` that its masks can follow.
      needs_pattern: the one of them that it is meant for, or None.
      needs_moments: "mu" or "nu", the optimizer's moments that it reads; "" for none.
    """

    is_dense: ClassVar[bool] = False
    is_sparse_at_start: ClassVar[bool] = False
    changes_masks: ClassVar[bool] = True
    drops_a_fraction: ClassVar[bool] = False
    keeps_dense_weights: ClassVar[bool] = False
    ranks_layers_together: ClassVar[bool] = False
    patterns: ClassVar[tuple[type, ...]] = (
        sparsity_types.NByM,
        sparsity_types.Block,
        sparsity_types.Channel,
    )
    needs_pattern: ClassVar[type | None] = None
    needs_moments: ClassVar[str] = ""
