"""Digital corruptions: brightness, contrast, saturation and pixelation.

Called through the registry only. JPEG and the elastic transform have files of their own.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions.base import (
    Constants,
    Corruption,
    Draws,
    by_severity,
    columns,
    no_draw,
)
from dst_jax.corruptions.constants import Rows


def _brightness(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Adds to V of HSV: hue and saturation stay, so each channel keeps its share of the maximum."""
    del draws
    image = image.astype(jnp.float32)
    value = image.max(axis=-1, keepdims=True)
    brighter = jnp.minimum(value + 255.0 * constants["added"], 255.0)
    # A black pixel has no saturation and turns grey.
    share = jnp.where(value > 0, image / jnp.maximum(value, 1.0), 1.0)
    return brighter * share


def _saturate(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Maps S of HSV: hue and value stay, so each channel keeps its place below the maximum."""
    del draws
    image = image.astype(jnp.float32)
    value = image.max(axis=-1, keepdims=True)
    chroma = value - image.min(axis=-1, keepdims=True)
    saturation = chroma / jnp.maximum(value, 1.0)
    saturation = jnp.clip(saturation * constants["gain"] + constants["offset"], 0.0, 1.0)
    # Grey has hue 0 by definition: it turns red where the offset gives it a saturation.
    red = jnp.array([[[0.0, 1.0, 1.0]]], jnp.float32)
    place = jnp.where(chroma > 0, (value - image) / jnp.maximum(chroma, 1.0), red)
    return value * (1.0 - saturation * place)


def _contrast(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    del draws
    image = image.astype(jnp.float32)
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (image - mean) * constants["gain"] + mean


_WEIGHT_BITS = 22  # Pillow's fixed-point weights of 8-bit resampling


def _boxes(size: int, scales: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel of a small axis, the pixels that its box averages and their weights.

    Pillow's BOX filter down to int(size * scale) pixels; BOX up again copies the nearest. Every
    severity has the shape of the largest small axis; what is beyond its own is copied by no pixel.

    Returns:
      [5, small, taps] int positions, integer weights that sum to about 2**22, and [5, size] int,
      the pixel of the small axis that each pixel becomes.
    """
    taps = int(np.ceil(1 / min(scales))) + 1
    smalls = [max(int(size * scale), 1) for scale in scales]
    sources = np.zeros((5, max(smalls), taps), np.int64)
    weights = np.zeros((5, max(smalls), taps), np.int64)
    copied = np.zeros((5, size), np.int64)
    for severity, small in enumerate(smalls):
        width = size / small
        copied[severity] = ((np.arange(size) + 0.5) * small / size).astype(np.int64)
        for i in range(small):
            center = (i + 0.5) * width
            low = max(int(center - width / 2 + 0.5), 0)
            high = min(int(center + width / 2 + 0.5), size)
            # A pixel counts where its middle lies within the box.
            distance = (np.arange(low, high) - center + 0.5) / width
            inside = ((distance > -0.5) & (distance <= 0.5)).astype(np.float64)
            count = high - low
            sources[severity, i, :count] = np.arange(low, high)
            weights[severity, i, :count] = inside / inside.sum() * 2**_WEIGHT_BITS + 0.5
    return sources, weights, copied


def _pixelate_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    constants = {}
    for axis, size in zip(("rows", "cols"), shape, strict=True):
        for name, table in zip(("source", "weight", "copied"), _boxes(size, rows), strict=True):
            constants[f"{axis}_{name}"] = by_severity(table, severity)
    return constants


def _average(image: jax.Array, sources: jax.Array, weights: jax.Array, axis: int) -> jax.Array:
    """Weighted means uint8 of [S, taps] positions along an axis of [H, W, C] uint8."""
    shape = [*image.shape]
    shape[axis] = len(sources)
    along = [1, 1, 1]
    along[axis] = len(sources)

    # A loop, so that a compiler does not repeat one axis for every tap of the other.
    def add_tap(tap: jax.Array, total: jax.Array) -> jax.Array:
        part = _copies(image, sources[:, tap], axis).astype(jnp.int32)
        return total + weights[:, tap].reshape(along) * part

    # Only the taps that some pixel of this severity has.
    taps = (weights > 0).any(axis=0).sum(dtype=jnp.int32)
    half = jnp.full(shape, 1 << (_WEIGHT_BITS - 1), jnp.int32)
    return (jax.lax.fori_loop(0, taps, add_tap, half) >> _WEIGHT_BITS).astype(jnp.uint8)


def _copies(image: jax.Array, positions: jax.Array, axis: int) -> jax.Array:
    """The image's rows (axis 0) or columns (axis 1) at positions that are known to lie on it."""
    chosen = image.at[positions] if axis == 0 else image.at[:, positions]
    return chosen.get(mode="promise_in_bounds", wrap_negative_indices=False)


def _pixelate(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    del draws
    # In integers, rounded after each axis, horizontal first: bit for bit what Pillow computes.
    for name, axis in (("cols", 1), ("rows", 0)):
        source, weight = constants[f"{name}_source"], constants[f"{name}_weight"]
        image = _average(image, source, weight, axis)
    for name, axis in (("cols", 1), ("rows", 0)):
        image = _copies(image, constants[f"{name}_copied"], axis)
    return image.astype(jnp.float32)


BRIGHTNESS = Corruption("brightness", "weather", columns("added"), _brightness, no_draw)
CONTRAST = Corruption("contrast", "digital", columns("gain"), _contrast, no_draw)
PIXELATE = Corruption("pixelate", "digital", _pixelate_constants, _pixelate, no_draw)
SATURATE = Corruption("saturate", "extra", columns("gain", "offset"), _saturate, no_draw)
