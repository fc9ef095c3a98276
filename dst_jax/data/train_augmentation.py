"""What becomes of a batch of training images on the device, in order; one way for all inputs.

    uint8 images, from the resident array or the stream (whose tf.data decodes and crops)
      1. `data.augment`               pad, crop, mirror              `augmentation`
      2. `data.randaugment_layers`    or `data.augmix`               `autoaugment`
      3. zero mean, unit variance                                    `augmentation`
      4. `data.erasing`               a rectangle of noise           `random_erasing`
      5. `train.mixup`, `train.cutmix`                               `mixup_cutmix`

Each is off by default, and then leaves no trace in the compiled step. All draws are functions of
(seed, purpose, step, place in the global batch), so neither a restart nor the number of devices
changes them. Called by the pipelines.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dst_jax import random_keys
from dst_jax.data import augmentation, autoaugment, mixup_cutmix, random_erasing
from dst_jax.data.datasets import Dataset
from dst_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class TrainAugmentation:
    """The options of stages 2, 4 and 5; `dst_jax.config.options` says what they mean."""

    randaugment_layers: int = 0
    randaugment_magnitude: float = 9.0
    augmix: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    cutmix_share: float = 0.5

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TrainAugmentation":
        """The options of a resolved config."""
        images, training = config["data"], config["train"]
        return cls(
            randaugment_layers=images["randaugment_layers"],
            randaugment_magnitude=images["randaugment_magnitude"],
            augmix=images["augmix"],
            erasing=images["erasing"],
            mixup=training["mixup"],
            cutmix=training["cutmix"],
            mix_probability=training["mix_probability"],
            cutmix_share=training["cutmix_share"],
        )

    def apply(
        self,
        images: jax.Array,
        labels: jax.Array,
        step: jax.Array | int,
        positions: jax.Array,
        *,
        augment: str,
        dataset: Dataset,
        dtype: jax.typing.DTypeLike,
        seed: jax.Array | int,
    ) -> dict[str, jax.Array]:
        """Makes the batch of a step from its images.

        Args:
          images: uint8 [B, H, W, 3].
          labels: int32 [B].
          step: completed batches, may be traced.
          positions: int [B], place of each image in the global batch.
          augment: stage 1, one of `AUGMENTATIONS`.
          dataset: gives the normalisation.
          dtype: type of the images that come out.
          seed: seed of the run, may be traced.

        Returns:
          {"image": `dtype` [B, H, W, 3], "label": int32 [B]}; with mixup or cutmix also "other" and
          "share", see `mixup_cutmix.mix`.
        """
        if images.ndim != 4 and (self.randaugment_layers or self.augmix or self.erasing):
            raise UserError(
                "config.data",
                f"randaugment_layers, augmix or erasing with clips of {dataset.name}",
                "mixup and cutmix only: the others are for single images",
            )

        def keys(purpose: str) -> jax.Array:
            return random_keys.for_examples(seed, step, positions, purpose)

        images = augmentation.augment(images, keys("data/augment"), augment)
        if self.randaugment_layers:
            fill = tuple(int(255 * mean) for mean in dataset.mean)
            images = jax.vmap(
                lambda image, key: autoaugment.randaugment(
                    image, key, self.randaugment_layers, self.randaugment_magnitude, fill
                )
            )(images, keys("data/randaugment"))
        if self.augmix:
            images = jax.vmap(lambda image, key: autoaugment.augmix(image, key, self.augmix))(
                images, keys("data/augmix")
            )
        if not (self.erasing or self.mixup or self.cutmix):
            return {"image": augmentation.normalise(images, dataset, dtype), "label": labels}
        images = augmentation.normalise(images, dataset, jnp.float32)
        if self.erasing:
            images = jax.vmap(lambda image, key: random_erasing.erase(image, key, self.erasing))(
                images, keys("data/erasing")
            )
        batch = {"image": images, "label": labels}
        if self.mixup or self.cutmix:
            batch = mixup_cutmix.mix(
                images,
                labels,
                jax.random.fold_in(random_keys.for_purpose(seed, "data/mix"), step),
                mixup=self.mixup,
                cutmix=self.cutmix,
                probability=self.mix_probability,
                cutmix_share=self.cutmix_share,
            )
        return {**batch, "image": batch["image"].astype(dtype)}


OFF = TrainAugmentation()
"""None of them."""
