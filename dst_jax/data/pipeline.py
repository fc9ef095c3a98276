"""What a training loop may ask of an input pipeline, whichever one it is."""

from typing import Any, Protocol

import jax


class Pipeline(Protocol):
    """Batches as a function of (seed, step): `step` is the whole state of the data.

    The host calls `host_inputs`, the compiled program calls `batch`. Order and augmentation are
    drawn for the global batch, so that the number of devices and processes changes nothing.

    Attributes:
      num_examples: examples in the training split.
      batch_size: examples in a global batch.
      steps_per_epoch: whole batches in an epoch.
      sharded_feed: True: the rows of a feed lie on the devices that work on them; False: every
        device has all of it.
    """

    num_examples: int
    batch_size: int
    steps_per_epoch: int
    sharded_feed: bool

    def steps_per_feed(self, step: int) -> int:
        """How many steps from `step` on one `host_inputs(step)` serves."""

    def host_inputs(self, step: int) -> Any:
        """A pytree of arrays, already on the devices, that serves `steps_per_feed(step)` steps."""

    def batch(
        self,
        feed: Any,
        step: jax.Array | int,
        shard: tuple[jax.Array | int, int] = (0, 1),
        seed: jax.Array | int | None = None,
    ) -> dict[str, jax.Array]:
        """The batch of `step`, or its part `shard` = (index, count); pure.

        `step` and `seed` may be traced; a seed of None is the pipeline's own.

        Returns:
          {"image": float [B / count, H, W, 3], normalised, "label": int32 [B / count]}, and what
          `TrainAugmentation.apply` adds.
        """

    def close(self) -> None:
        """Releases what the pipeline holds."""
