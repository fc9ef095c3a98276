"""Mixup and CutMix of normalised batches, as pure JAX functions.

Mixing pairs neighbours: the images in rows 2i and 2i + 1 of the global batch, whose order is random
anyway. Any number of devices gives the same batch. Where each has an even number of rows, no pair
lies on two of them and nothing is sent between them; where the number is odd, `jit` sends rows and
`pmap`, whose devices see no rows but their own, refuses. Called by `train_augmentation`.
"""

import jax
import jax.numpy as jnp

from dst_jax.config import checks
from dst_jax.data import random_erasing


def mix(
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    *,
    mixup: float,
    cutmix: float,
    probability: float,
    cutmix_share: float,
) -> dict[str, jax.Array]:
    """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019), one draw for the whole batch.

    With `probability` the batch is mixed; where both are on, by CutMix with `cutmix_share`, else by
    mixup, as DeiT and timm do.

    Args:
      images: float [B, H, W, C] or [B, T, H, W, C], normalised; B even.
      labels: int32 [B].
      key: the step's own.
      mixup: alpha of the Beta distribution of mixup's lambda; 0: no mixup.
      cutmix: the same for CutMix.
      probability: of a batch to be mixed.
      cutmix_share: of the mixed batches, where both are on.

    Returns:
      {"image": like images, "label": int32 [B], "other": int32 [B], label of the neighbour,
      "share": float32 [B], what the label counts; the neighbour's counts the rest}.

    Raises:
      UserError: B is odd. Under `pmap` it is the number of images on one device.
    """
    checks.check_pairs(len(images), f"{len(images)} images on a device")
    deciding, switching, drawing, placing = jax.random.split(key, 4)
    height, width = images.shape[-3:-1]
    mixed = jax.random.bernoulli(deciding, probability)
    both = cutmix_share if mixup and cutmix else float(cutmix > 0)
    cut = jax.random.bernoulli(switching, both)
    for_mixup, for_cutmix = jax.random.split(drawing)
    blend = jnp.float32(1.0)
    if mixup:
        blend = jnp.where(mixed & ~cut, jax.random.beta(for_mixup, mixup, mixup), blend)
    others = _neighbours(images)
    weight = blend.astype(images.dtype)
    result = weight * images + (1 - weight) * others
    share = blend
    if cutmix:
        lam = jnp.where(mixed & cut, jax.random.beta(for_cutmix, cutmix, cutmix), 1.0)
        box = cutmix_box(placing, lam, height, width)
        pasted = random_erasing.inside(height, width, *box)
        pasted = pasted.reshape((1,) * (images.ndim - 3) + (height, width, 1))
        result = jnp.where(pasted, others, result)
        share = jnp.where(mixed & cut, 1 - box[2] * box[3] / (height * width), share)
    return {
        "image": result,
        "label": labels,
        "other": _neighbours(labels),
        "share": jnp.full(labels.shape, share, jnp.float32),
    }


def cutmix_box(
    key: jax.Array, lam: jax.Array, height: int, width: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """CutMix's box, int32 (top, left, height, width).

    Its sides are sqrt(1 - lam) of the image's, cut to whole pixels, around a uniform centre; what
    lies outside is cut off, so its area, not lam, says what the labels count.
    """
    part = jnp.sqrt(1 - lam)
    centre = jax.random.uniform(key, (2,))

    def side(size: int, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        half = jnp.floor(size * part).astype(jnp.int32) // 2
        middle = jnp.minimum(jnp.floor(place * size).astype(jnp.int32), size - 1)
        start = jnp.clip(middle - half, 0, size)
        return start, jnp.clip(middle + half, 0, size) - start

    top, h = side(height, centre[0])
    left, w = side(width, centre[1])
    return top, left, h, w


def _neighbours(rows: jax.Array) -> jax.Array:
    """Rows 0 and 1 exchanged, 2 and 3, and so on."""
    pairs = rows.reshape(len(rows) // 2, 2, *rows.shape[1:])
    return pairs[:, ::-1].reshape(rows.shape)
