"""The pipeline of large datasets: tf.data shuffles, decodes and crops on the host, step by step.

Each batch is a function of (seed, step): a restart opens the epoch again, skips to its step before
anything is decoded, and goes on bit by bit. Used for ImageNet; any TFDS dataset can be streamed.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.config import checks
from dst_jax.data import augmentation, prepared, tf_clips, tf_images
from dst_jax.data.datasets import Dataset
from dst_jax.data.train_augmentation import OFF, TrainAugmentation
from dst_jax.data.validation import num_held_out

# Encoded images in the shuffle buffer, 0.9 GB of ImageNet. It comes on top of TFDS's own shuffling
# when it wrote the files, and of the new order of the 1,024 files, 16 of which are read in turn.
_SHUFFLE_BUFFER = 8192


class StreamPipeline:
    """Batches streamed from the files of a prepared dataset; see `Pipeline` for the interface.

    Every process reads all records but decodes its own rows of each batch only, so the number of
    processes changes nothing. Every epoch is a new order; the examples that do not fill a last
    batch are left out of that epoch.
    """

    sharded_feed = True

    def __init__(
        self,
        dataset: Dataset,
        data_dir: os.PathLike | str | None = None,
        *,
        batch_size: int,
        seed: int,
        augment: str,
        train_augmentation: TrainAugmentation = OFF,
        validation: float = 0.0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        put: Callable[[Any], Any] = jax.device_put,
        process: tuple[int, int] | None = None,
    ):
        """Finds the dataset; nothing is read before the first `host_inputs`.

        Args:
          dataset: which; its training split is streamed.
          data_dir: TFDS directory; None: TFDS's default.
          batch_size: examples in a global batch.
          seed: seed of the run.
          augment: one of `AUGMENTATIONS`. `resized_crop_flip` and `clip_crop_flip` are made by
            tf.data; the others on the device, from images that have been resized and centrally
            cropped if their sizes differ.
          train_augmentation: what follows it, on the device.
          validation: share of the training images that is held out.
          dtype: type of the images that `batch` returns.
          put: places this process's rows of a batch on its devices.
          process: (index, count) of this process; None: as JAX says.

        Raises:
          UserError: the dataset is not prepared, a batch is larger than it, or the augmentation is
            not for its kind.
        """
        augmentation.check_kind(dataset, augment)
        self._builder = prepared.find_clean(dataset, data_dir)
        self._split = dataset.train_split
        count = prepared.check_split(self._builder, self._split)
        self.num_examples = count - num_held_out(count, validation)
        if self.num_examples < count:
            self._split += f"[:{self.num_examples}]"
        self.batch_size = batch_size
        self.steps_per_epoch = checks.steps_per_epoch(batch_size, self.num_examples)
        self._process = process or (jax.process_index(), jax.process_count())
        self._rows = checks.rows_of_each(batch_size, self._process[1])
        self._dataset, self._seed, self._augment = dataset, seed, augment
        self._augment_and_normalise = functools.partial(
            train_augmentation.apply, augment=augment, dataset=dataset, dtype=dtype
        )
        self._put = put
        self._tf: Any = None
        self._iterator: Any = None
        self._step, self._feed = -1, None

    def steps_per_feed(self, step: int) -> int:
        """How many steps from `step` on `host_inputs(step)` serves: this one."""
        del step
        return 1

    def host_inputs(self, step: int) -> Any:
        """This process's rows of the batch of `step`, placed on the devices.

        Consecutive steps are prefetched; any other step opens the stream anew at that place.

        Raises:
          UserError: the files of the dataset are damaged, or TensorFlow is missing.
        """
        if step == self._step:
            return self._feed
        if step != self._step + 1 or step % self.steps_per_epoch == 0 or self._iterator is None:
            self._tf, self._iterator = self._open(step)
        try:
            image, label = next(self._iterator)
        except (self._tf.errors.OpError, StopIteration) as error:
            raise prepared.unreadable(self._builder, error) from error
        self._step = step
        self._feed = self._put({"image": image, "label": label})
        return self._feed

    def batch(
        self,
        feed: dict[str, jax.Array],
        step: jax.Array | int,
        shard: tuple[jax.Array | int, int] = (0, 1),
        seed: jax.Array | int | None = None,
    ) -> dict[str, jax.Array]:
        """The batch of `step`, augmented and normalised; pure, for use in the compiled program.

        Args:
          feed: what `host_inputs` returned for `step`: the global batch, or only rows of `shard`.
          step: completed batches, may be traced.
          shard: (index, count), which of `count` equal parts of the global batch the rows are.
          seed: seed of the augmentation on the device; None: the pipeline's own.

        Returns:
          {"image": `dtype` [B / count, H, W, 3], normalised, "label": int32 [B / count]}, and what
          `TrainAugmentation.apply` adds.
        """
        rows = checks.rows_of_each(self.batch_size, shard[1])
        positions = shard[0] * rows + jnp.arange(rows)
        seed = self._seed if seed is None else seed
        return self._augment_and_normalise(feed["image"], feed["label"], step, positions, seed=seed)

    def close(self) -> None:
        """Stops reading."""
        self._iterator, self._feed, self._step = None, None, -1

    def _open(self, step: int) -> tuple[Any, Any]:
        """(TensorFlow, this process's rows of the batches from `step` to the end of its epoch)."""
        epoch, first = divmod(step, self.steps_per_epoch)
        size = self._dataset.image_shape[-2]
        # SeedSequence is stable across versions and mixes small seeds and epochs well.
        state = np.random.SeedSequence((self._seed, epoch)).generate_state(4, np.uint32)
        file_seed, record_seed, *crop_seed = (int(word >> 1) for word in state)
        tf, records = prepared.open_records(self._builder, self._split, file_seed)
        clip = self._dataset.clip
        stored_shape = None if clip else self._builder.info.features["image"].shape

        def decode(index: Any, record: Any) -> tuple[Any, Any]:
            seed = tf.random.experimental.stateless_fold_in(crop_seed, index)
            if clip:
                crop = self._augment == "clip_crop_flip"
                image = tf_clips.random(tf, record["image"], clip, size, seed, crop=crop)
            elif self._augment == "resized_crop_flip":
                image = tf_images.resized_crop_flip(tf, record["image"], size, seed)
            else:
                image = tf_images.decode(tf, record["image"])
                if stored_shape != self._dataset.image_shape:
                    image = tf_images.central_crop(tf, image, size)
            image = tf.ensure_shape(image, self._dataset.image_shape)
            return image, tf.cast(record["label"], tf.int32)

        records = records.shuffle(_SHUFFLE_BUFFER, record_seed, reshuffle_each_iteration=False)
        records = records.enumerate()
        records = records.take(self.steps_per_epoch * self.batch_size)
        records = records.skip(first * self.batch_size)
        if self._process[1] > 1:
            records = records.filter(
                lambda index, _: (index % self.batch_size) // self._rows == self._process[0]
            )
        batches = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(
            self._rows, drop_remainder=True
        )
        return tf, batches.prefetch(2).as_numpy_iterator()
