"""The pipeline of small datasets: all images lie on the device, shuffled and augmented there.

The host only draws the order of an epoch; everything else happens inside the compiled program.
Built by `training.build`.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax import random_keys
from dst_jax.config import checks
from dst_jax.data import augmentation
from dst_jax.data.datasets import Dataset
from dst_jax.data.train_augmentation import OFF, TrainAugmentation
from dst_jax.errors import UserError


@functools.partial(jax.jit, static_argnames="count")
def epoch_order(seed: jax.Array | int, epoch: jax.Array | int, count: int) -> jax.Array:
    """The permutation int32 [count] in which epoch `epoch` visits the examples."""
    key = jax.random.fold_in(random_keys.for_purpose(seed, "data/order"), epoch)
    return jax.random.permutation(key, count)


class ResidentPipeline:
    """Batches of a dataset that lies on the device; see `Pipeline` for the interface.

    Every epoch is a new permutation; the examples that do not fill a last batch are left out of
    that epoch.
    """

    sharded_feed = False

    def __init__(
        self,
        dataset: Dataset,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        augment: str,
        train_augmentation: TrainAugmentation = OFF,
        dtype: jax.typing.DTypeLike = jnp.float32,
        put: Callable[[Any], Any] = jax.device_put,
    ):
        """Puts the dataset on the device.

        Args:
          dataset: gives the normalisation.
          images: uint8 [N, H, W, 3].
          labels: int32 [N].
          batch_size: examples in a global batch.
          seed: seed of the run.
          augment: one of `AUGMENTATIONS` but not of `ON_HOST`.
          train_augmentation: what follows it.
          dtype: type of the images that `batch` returns.
          put: places a pytree of host arrays on the devices, a copy on each.
        """
        if augment in augmentation.ON_HOST:
            raise UserError(
                "config.data.augment",
                augment,
                "none, crop, crop_flip or reflect_crop_flip for a resident dataset",
                "Or use --config.data.input=stream",
            )
        augmentation.check_kind(dataset, augment)
        self.num_examples = len(labels)
        self.batch_size = batch_size
        self.steps_per_epoch = checks.steps_per_epoch(batch_size, self.num_examples)
        self._augment_and_normalise = functools.partial(
            train_augmentation.apply, augment=augment, dataset=dataset, dtype=dtype
        )
        self._seed, self._put = seed, put
        self._data = put({"image": np.asarray(images), "label": np.asarray(labels, np.int32)})
        self._epoch = -1
        self._order: dict[str, jax.Array] = {}

    def with_seed(self, seed: int) -> "ResidentPipeline":
        """A pipeline over the same images on the device, in the order of another seed."""
        other = copy.copy(self)
        other._seed, other._epoch, other._order = seed, -1, {}
        return other

    def steps_per_feed(self, step: int) -> int:
        """How many steps from `step` on `host_inputs(step)` serves: to the end of the epoch."""
        return self.steps_per_epoch - step % self.steps_per_epoch

    def host_inputs(self, step: int) -> dict[str, jax.Array]:
        """The dataset and the order of the epoch of `step`, on the device."""
        epoch = step // self.steps_per_epoch
        if epoch != self._epoch:
            order = np.asarray(epoch_order(self._seed, epoch, self.num_examples), np.int32)
            self._epoch, self._order = epoch, self._put({"order": order})
        return {**self._data, **self._order}

    def batch(
        self,
        feed: dict[str, jax.Array],
        step: jax.Array | int,
        shard: tuple[jax.Array | int, int] = (0, 1),
        seed: jax.Array | int | None = None,
    ) -> dict[str, jax.Array]:
        """The batch of `step`; pure, for use inside the compiled program.

        Args:
          feed: what `host_inputs` returned for this epoch.
          step: completed batches, may be traced.
          shard: (index, count), which of `count` equal parts of the global batch; index may
            be traced.
          seed: seed of the augmentation, may be traced; None: the pipeline's own.

        Returns:
          {"image": `dtype` [B / count, H, W, 3], normalised, "label": int32 [B / count]}, and what
          `TrainAugmentation.apply` adds.
        """
        index, count = shard
        rows = checks.rows_of_each(self.batch_size, count)
        positions = index * rows + jnp.arange(rows)
        start = step % self.steps_per_epoch * self.batch_size
        chosen = jnp.take(feed["order"], start + positions, mode="clip")
        images = jnp.take(feed["image"], chosen, axis=0, mode="clip")
        labels = jnp.take(feed["label"], chosen, mode="clip")
        seed = self._seed if seed is None else seed
        return self._augment_and_normalise(images, labels, step, positions, seed=seed)

    def close(self) -> None:
        """Releases the copy on the device."""
        self._data, self._order, self._epoch = {}, {}, -1
