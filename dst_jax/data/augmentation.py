"""Augmentation and normalisation as pure JAX functions; they run inside the compiled step.

One key an example (`random_keys`), so that the number of devices changes nothing. Crops
are gathers of rows and columns with the flip folded into the column index: no scatter, no padding
copy, and no loop over examples. Called by `train_augmentation`.
"""

import jax
import jax.numpy as jnp

from dst_jax.data.datasets import Dataset
from dst_jax.errors import UserError

ON_HOST = ("resized_crop_flip", "clip_crop_flip")
AUGMENTATIONS = ("none", "crop", "crop_flip", "reflect_crop_flip", *ON_HOST)
"""Names of the augmentations of training images.

`crop`: pad 4 pixels with zeros (before normalisation, as torchvision's RandomCrop does) and crop
back at random. `crop_flip`: then mirror with probability 1/2. `reflect_crop_flip`: the same, padded
by reflection. `resized_crop_flip`: a random part of the image, resized (Szegedy et al. 2015), then
mirrored with probability 1/2. `clip_crop_flip`, for videos: a random square of the stored frames,
one for the clip, mirrored with probability 1/2. Those of `ON_HOST` are made in the host's stream.
"""

_PADDING = 4


def check_kind(dataset: Dataset, name: str) -> None:
    """Raises UserError unless the augmentation is for what the dataset holds, images or clips."""
    for_clips = ("none", "clip_crop_flip")
    if dataset.clip and name not in for_clips:
        raise UserError(
            "config.data.augment",
            name,
            f"{' or '.join(for_clips)} for the videos of {dataset.name}",
        )
    if name == "clip_crop_flip" and not dataset.clip:
        raise UserError("config.data.augment", name, f"{dataset.augment}, or another for images")


def augment(images: jax.Array, keys: jax.Array, name: str) -> jax.Array:
    """Augments a batch on the device.

    Args:
      images: uint8 [B, H, W, C].
      keys: keys [B], one per example.
      name: one of `AUGMENTATIONS`; `none` and those of `ON_HOST` leave the images as they are.

    Returns:
      uint8 [B, H, W, C].
    """
    if name in ("none", *ON_HOST):
        return images
    offsets, flips = crop_parameters(keys)
    if name == "crop":
        flips = jnp.zeros_like(flips)
    return crop(images, offsets, flips, reflect=name == "reflect_crop_flip")


def crop_parameters(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws (offsets int32 [B, 2] in 0..8: rows and columns, flips bool [B]) from keys [B]."""

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        crop_key, flip_key = jax.random.split(key)
        offsets = jax.random.randint(crop_key, (2,), 0, 2 * _PADDING + 1)
        return offsets, jax.random.bernoulli(flip_key)

    return jax.vmap(draw)(keys)


def crop(images: jax.Array, offsets: jax.Array, flips: jax.Array, *, reflect: bool) -> jax.Array:
    """Pads by 4, crops to the old size at `offsets`, then mirrors left-right where `flips` is set.

    Args:
      images: uint8 [B, H, W, C].
      offsets: int32 [B, 2], first row and column of the crop in the padded image, 0..8.
      flips: bool [B].
      reflect: pad by reflection without repeating the border (NumPy's `reflect`), not with zeros.

    Returns:
      uint8 [B, H, W, C].
    """
    batch, height, width, _ = images.shape
    columns = jnp.arange(width)[None]
    columns = jnp.where(flips[:, None], width - 1 - columns, columns) + offsets[:, 1:] - _PADDING
    rows = jnp.arange(height)[None] + offsets[:, :1] - _PADDING
    if reflect:
        # -1 is 1 and `size` is `size - 2`.
        nearest_rows = height - 1 - jnp.abs(height - 1 - jnp.abs(rows))
        nearest_columns = width - 1 - jnp.abs(width - 1 - jnp.abs(columns))
    else:
        nearest_rows = jnp.clip(rows, 0, height - 1)
        nearest_columns = jnp.clip(columns, 0, width - 1)
    index = (
        jnp.arange(batch)[:, None, None],
        nearest_rows[:, :, None],
        nearest_columns[:, None, :],
    )
    # With `mode="fill"` XLA would check the bounds itself, and take twice the time on a CPU.
    cropped = images.at[index].get(mode="promise_in_bounds")
    if reflect:
        return cropped
    inside = (rows == nearest_rows)[:, :, None] & (columns == nearest_columns)[:, None, :]
    return jnp.where(inside[..., None], cropped, jnp.uint8(0))


def normalise(
    images: jax.Array, dataset: Dataset, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Brings images to zero mean and unit variance over the training set.

    Args:
      images: [B, ..., H, W, 3], images or clips, 0..255, uint8 or float32.
      dataset: gives the mean and standard deviation of each channel.
      dtype: of the result; the arithmetic is float32.

    Returns:
      `dtype` of the same shape, (images / 255 - mean) / std.
    """
    channels = (1,) * (images.ndim - 1) + (-1,)
    mean = jnp.asarray(dataset.mean, jnp.float32).reshape(channels)
    std = jnp.asarray(dataset.std, jnp.float32).reshape(channels)
    return ((images.astype(jnp.float32) / 255 - mean) / std).astype(dtype)
