"""Linear filters as matrices: borders and kernels are folded into one matrix per image axis.

`A @ x @ B.T` then filters or resamples a whole image, whatever the border rule and however wide the
kernel, in the operation that accelerators do best. Called by blur, weather, elastic and spatter.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Border = Literal["edge", "reflect", "reflect_101"]


def border_index(index: np.ndarray, size: int, border: Border) -> np.ndarray:
    """Maps positions outside an axis to positions on it (host side).

    Args:
      index: [..] int positions, any distance outside 0..size-1.
      size: the length of the axis.
      border: 'edge' (aaa|abc), 'reflect' (cba|abc) or 'reflect_101' (dcb|abc).

    Returns:
      [..] int positions in 0..size-1.
    """
    if border == "edge" or size == 1:
        return np.clip(index, 0, size - 1)
    period = 2 * size if border == "reflect" else 2 * size - 2
    index = np.mod(index, period)
    mirrored = period - index - (1 if border == "reflect" else 0)
    return np.where(index < size, index, mirrored)


@functools.lru_cache(maxsize=64)
def gaussian_matrix(size: int, sigma: float, border: Border, truncate: float) -> np.ndarray:
    """The [size, size] float32 matrix of a Gaussian filter along one axis, border included.

    The kernel has radius int(truncate * sigma + 0.5) and sums to 1, as scipy.ndimage's.
    """
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    weights /= weights.sum()
    matrix = np.zeros((size, size))
    sources = border_index(np.arange(size)[:, None] + offsets, size, border)
    np.add.at(matrix, (np.arange(size)[:, None], sources), weights)
    return matrix.astype(np.float32)


def filter_image(image: jax.Array, rows: jax.Array, cols: jax.Array) -> jax.Array:
    """Applies a matrix to each image axis.

    Args:
      image: [H, W] or [H, W, C] float32.
      rows: [H', H] float32, for the vertical axis.
      cols: [W', W] float32, for the horizontal axis.

    Returns:
      [H', W'] or [H', W', C] float32.
    """
    # The default precision of GPUs and TPUs (TF32, bfloat16) would be off by many grey levels.
    precision = jax.lax.Precision.HIGHEST
    image = jnp.einsum("ri,i...->r...", rows, image, precision=precision)
    return jnp.einsum("sj,rj...->rs...", cols, image, precision=precision)


def pad_image(image: jax.Array, margin: int, border: Border) -> jax.Array:
    """Surrounds [H, W, ..] with `margin` pixels on each side."""
    for axis in (0, 1):
        size = image.shape[axis]
        index = border_index(np.arange(-margin, size + margin), size, border)
        image = jnp.take(image, index, axis=axis)
    return image


def zoom_positions(size: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of an axis samples when its centre is enlarged and cut to size (host side).

    A centred part of ceil(size / factor) pixels is stretched with its end points aligned, then cut
    in the middle: Hendrycks & Dietterich's `clipped_zoom`.

    Returns:
      [size] int positions and [size] float64 fractions beyond them.
    """
    part = int(np.ceil(size / factor))
    start = (size - part) // 2
    stretched = round(part * factor)
    row = np.arange(size) + (stretched - size) // 2
    position = row * (part - 1) / max(stretched - 1, 1)
    base = np.floor(position)
    return start + base.astype(np.int64), position - base


def linear_matrix(base: jax.Array, fraction: jax.Array, size: int) -> jax.Array:
    """The [N, size] float32 matrix that interpolates linearly at [N] positions base + fraction."""
    distance = (base[:, None] - jnp.arange(size)[None, :]).astype(jnp.float32) + fraction[:, None]
    return jnp.maximum(1.0 - jnp.abs(distance), 0.0)
