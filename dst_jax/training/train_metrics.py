"""What a training step adds up for the next line of the log.

Part of `step.TrainState`, so that a restart loses none of it. Filled by `step`, read by `log`.
"""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TrainMetrics:
    """Sums since the last log line; part of the state, so that a restart loses none of them.

    Attributes:
      steps: batches summed.
      loss: sum over them of the mean loss.
      correct: training images classified correctly, in training mode.
      examples: training images seen.
      gradient_norm: sum over batches of the norm of the gradient of the active weights.
      num_activated: weights that mask updates activated, summed over updates.
      updates: mask updates.
      num_grown: weights that mask updates grew, those just dropped included; 0 where the algorithm
        does not say (`SET.count_grown`).
      num_recent: weights that the update before activated, summed over updates.
      num_surviving: those of them that were still active after the next update.
      gradient_active: sum over updates of the norm of the dense gradient of the maskable weights
        that were active.
      gradient_inactive: the same of those that were not.
      bad_step: the first step whose loss or gradient was not finite, or -1.
    """

    steps: jax.Array
    loss: jax.Array
    correct: jax.Array
    examples: jax.Array
    gradient_norm: jax.Array
    num_activated: jax.Array
    updates: jax.Array
    num_grown: jax.Array
    num_recent: jax.Array
    num_surviving: jax.Array
    gradient_active: jax.Array
    gradient_inactive: jax.Array
    bad_step: jax.Array

    @classmethod
    def empty(cls) -> "TrainMetrics":
        """Nothing summed yet."""
        zero, none = jnp.int32(0), jnp.float32(0)
        return cls(
            steps=zero,
            loss=none,
            correct=zero,
            examples=zero,
            gradient_norm=none,
            num_activated=zero,
            updates=zero,
            num_grown=zero,
            num_recent=zero,
            num_surviving=zero,
            gradient_active=none,
            gradient_inactive=none,
            bad_step=jnp.int32(-1),
        )
