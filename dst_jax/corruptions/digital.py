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
    look_up,
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


def _boxes(size: int, scales: Rows) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of an axis, the pixels that its box averages and their weights.

    Pillow's BOX filter down to int(size * scale) pixels; BOX up again copies the nearest, so that
    one table serves both ways and every severity has the same shape.

    Returns:
      [5, size, taps] int positions and integer weights that sum to about 2**22.
    """
    taps = int(np.ceil(1 / min(scales))) + 1
    sources = np.zeros((5, size, taps), np.int64)
    weights = np.zeros((5, size, taps), np.int64)
    for severity, scale in enumerate(scales):
        small = max(int(size * scale), 1)
        width = size / small
        for i in range(size):
            center = (int((i + 0.5) * small / size) + 0.5) * width
            low = max(int(center - width / 2 + 0.5), 0)
            high = min(int(center + width / 2 + 0.5), size)
            # A pixel counts where its middle lies within the box.
            distance = (np.arange(low, high) - center + 0.5) / width
            inside = ((distance > -0.5) & (distance <= 0.5)).astype(np.float64)
            count = high - low
            sources[severity, i, :count] = np.arange(low, high)
            weights[severity, i, :count] = inside / inside.sum() * 2**_WEIGHT_BITS + 0.5
    return sources, weights


def _pixelate_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    constants = {}
    for axis, size in zip(("rows", "cols"), shape, strict=True):
        sources, weights = _boxes(size, rows)
        constants[f"{axis}_source"] = by_severity(sources, severity)
        constants[f"{axis}_weight"] = by_severity(weights, severity)
    return constants


def _average_rows(lines: jax.Array, sources: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted means [N, M] uint8 of whole rows of [N, M] uint8, which lie together in memory."""
    half = jnp.full(lines.shape, 1 << (_WEIGHT_BITS - 1), jnp.int32)

    # A loop, so that a compiler does not repeat one axis for every tap of the other.
    def add_tap(tap: jax.Array, total: jax.Array) -> jax.Array:
        row = look_up(lines, sources[:, tap]).astype(jnp.int32)
        return total + weights[:, tap, None] * row

    # Only the taps that some pixel of this severity has.
    taps = (weights > 0).any(axis=0).sum(dtype=jnp.int32)
    total = jax.lax.fori_loop(0, taps, add_tap, half)
    return (total >> _WEIGHT_BITS).astype(jnp.uint8)


def _pixelate(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    del draws
    # In integers, rounded after each axis, horizontal first: bit for bit what Pillow computes.
    H, W, C = image.shape
    lines = jnp.swapaxes(image, 0, 1).reshape(W, H * C)
    lines = _average_rows(lines, constants["cols_source"], constants["cols_weight"])
    lines = jnp.swapaxes(lines.reshape(W, H, C), 0, 1).reshape(H, W * C)
    lines = _average_rows(lines, constants["rows_source"], constants["rows_weight"])
    return lines.reshape(H, W, C).astype(jnp.float32)


BRIGHTNESS = Corruption("brightness", "weather", columns("added"), _brightness, no_draw)
CONTRAST = Corruption("contrast", "digital", columns("gain"), _contrast, no_draw)
PIXELATE = Corruption("pixelate", "digital", _pixelate_constants, _pixelate, no_draw)
SATURATE = Corruption("saturate", "extra", columns("gain", "offset"), _saturate, no_draw)
