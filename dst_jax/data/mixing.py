"""Random erasing, mixup and CutMix of normalised batches, as pure JAX functions.

Mixing pairs neighbours: the images at places 2i and 2i + 1 of the global batch, whose order is
random anyway. No pair lies on two devices, so nothing is sent between them, and any number of them
gives the same batch. Called by `chain`.
"""

import math

import jax
import jax.numpy as jnp

from dst_jax.errors import UserError

_AREAS = (0.02, 1 / 3)  # of the erased rectangle, as a share of the image
_LARGEST_RATIO = 1 / 0.3  # of its height to its width, or the other way round
_ATTEMPTS = 10


def erase(image: jax.Array, key: jax.Array, probability: float) -> jax.Array:
    """Random erasing (Zhong et al. 2020): a rectangle of noise, with a probability.

    As timm's mode `pixel`, which DeiT takes: standard normal noise, a new number for every channel
    of every pixel, in the normalised image; area uniform in 2 % to 1/3 of it, ratio of the sides
    log-uniform in 0.3 to 1/0.3, the place uniform. The first of ten draws that fits is taken.

    Args:
      image: float [H, W, C], normalised.
      key: the image's own.
      probability: 0 to 1.

    Returns:
      float [H, W, C].
    """
    deciding, placing, filling = jax.random.split(key, 3)
    top, left, height, width = rectangle(placing, image.shape[0], image.shape[1])
    height = jnp.where(jax.random.bernoulli(deciding, probability), height, 0)
    inside = _rectangle(image.shape[0], image.shape[1], top, left, height, width)
    noise = jax.random.normal(filling, image.shape, image.dtype)
    return jnp.where(inside[..., None], noise, image)


def rectangle(
    key: jax.Array, height: int, width: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Draws (top, left, height, width), int32, of the rectangle to erase; height 0 for none."""
    sizing, shaping, placing = jax.random.split(key, 3)
    area = jax.random.uniform(sizing, (_ATTEMPTS,), minval=_AREAS[0], maxval=_AREAS[1])
    area = area * height * width
    limit = math.log(_LARGEST_RATIO)
    ratio = jnp.exp(jax.random.uniform(shaping, (_ATTEMPTS,), minval=-limit, maxval=limit))
    heights = jnp.round(jnp.sqrt(area * ratio)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(area / ratio)).astype(jnp.int32)
    fits = (heights < height) & (widths < width)
    first = jnp.argmax(fits)
    h, w = jnp.where(fits[first], heights[first], 0), jnp.minimum(widths[first], width)
    free = jnp.stack([height - h, width - w]) + 1
    corner = jnp.floor(jax.random.uniform(placing, (2,)) * free).astype(jnp.int32)
    corner = jnp.minimum(corner, free - 1)  # a float32 just below 1 may round up
    return corner[0], corner[1], h, w


def _rectangle(
    height: int, width: int, top: jax.Array, left: jax.Array, h: jax.Array, w: jax.Array
) -> jax.Array:
    """True inside, bool [height, width]."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    return (rows >= top) & (rows < top + h) & (columns >= left) & (columns < left + w)


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
      mixup: parameter of the Beta law of mixup's lambda; 0: no mixup.
      cutmix: the same for CutMix.
      probability: of a batch to be mixed.
      cutmix_share: of the mixed batches, where both are on.

    Returns:
      {"image": like images, "label": int32 [B], "other": int32 [B], label of the neighbour,
      "share": float32 [B], what the label counts; the neighbour's counts the rest}.

    Raises:
      UserError: B is odd.
    """
    if len(images) % 2:
        raise UserError(
            "config.train.batch_size",
            f"{len(images)} images on a device",
            "an even number with mixup or cutmix, which mix pairs",
        )
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
        inside = _rectangle(height, width, *box)
        inside = inside.reshape((1,) * (images.ndim - 3) + (height, width, 1))
        result = jnp.where(inside, others, result)
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
