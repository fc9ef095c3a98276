"""Digital corruptions of colour: brightness, contrast and saturation.

Called through the registry only. JPEG, pixelation and the elastic transform have files of their own.
"""

import jax
import jax.numpy as jnp

from dst_jax.corruptions.base import Constants, Corruption, Draws, columns, no_draw


def _brightness(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Adds to V of HSV: hue and saturation stay, so each channel keeps its share of the maximum."""
    del draws
    image = image.astype(jnp.float32)
    value = image.max(axis=-1, keepdims=True)
    brighter = jnp.minimum(value + 255.0 * constants["added"], 255.0)
    # A black pixel has no saturation and turns grey.
    share = jnp.where(value > 0, image / jnp.maximum(value, 1.0), 1.0)
    return brighter * share


def _contrast(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    del draws
    image = image.astype(jnp.float32)
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (image - mean) * constants["gain"] + mean


BRIGHTNESS = Corruption("brightness", "weather", columns("added"), _brightness, no_draw)
CONTRAST = Corruption("contrast", "digital", columns("gain"), _contrast, no_draw)
