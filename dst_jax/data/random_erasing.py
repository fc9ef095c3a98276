"""Random erasing of normalised images (Zhong et al. 2020), as a pure JAX function.

Called by `train_augmentation`.
"""

import math

import jax
import jax.numpy as jnp

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
    erased = inside(image.shape[0], image.shape[1], top, left, height, width)
    noise = jax.random.normal(filling, image.shape, image.dtype)
    return jnp.where(erased[..., None], noise, image)


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


def inside(
    height: int, width: int, top: jax.Array, left: jax.Array, h: jax.Array, w: jax.Array
) -> jax.Array:
    """Bool [height, width], True inside a rectangle."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    return (rows >= top) & (rows < top + h) & (columns >= left) & (columns < left + w)
