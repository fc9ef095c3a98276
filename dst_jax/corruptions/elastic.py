"""The elastic transform: a small random affine map, then a smooth random displacement.

Called through the registry only. `coords` chooses between two generations of OpenCV, which differ
by up to 2.3 grey levels on a photograph: 'opencv4' rounds the affine map's coordinates to 1/32
pixel (what made the published data), 'exact' does not (OpenCV 5).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions import random_arrays
from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity, look_up
from dst_jax.corruptions.constants import Rows
from dst_jax.corruptions.filters import filter_image, gaussian_matrix

COORDS = ("opencv4", "exact")


def _elastic_constants(
    rows: Rows, shape: tuple[int, int], severity: Any, coords: str = "opencv4"
) -> dict[str, Any]:
    if coords not in COORDS:
        raise ValueError(f"coords must be one of {', '.join(COORDS)}; found {coords!r}")
    alphas, sigmas, jitters = zip(*rows, strict=True)
    constants: dict[str, Any] = {
        "alpha": by_severity(alphas, severity),
        "jitter": by_severity(jitters, severity),
        "coords": coords,
    }
    for axis, size in zip(("rows", "cols"), shape, strict=True):
        # A deviation above the image's side mirrors several times; the matrix holds all of it.
        matrices = [gaussian_matrix(size, sigma, "reflect", 3.0) for sigma in sigmas]
        constants[axis] = by_severity(matrices, severity)
    return constants


def _draw_elastic(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del constants
    keys = jax.random.split(key, 3)
    return {
        # Shifts of the three points as shares of the jitter.
        "points": jax.random.uniform(keys[0], (3, 2), jnp.float32, -1.0, 1.0),
        "ux": random_arrays.uniform(keys[1], shape, -1.0, 1.0),
        "uy": random_arrays.uniform(keys[2], shape, -1.0, 1.0),
    }


def _reflect(index: jax.Array, size: int, half_sample: bool) -> jax.Array:
    """The traced form of `filters.border_index`: cba|abc (half-sample) or dcb|abc."""
    if size == 1:
        return jnp.zeros_like(index)
    period = 2 * size if half_sample else 2 * size - 2
    index = index % period
    return jnp.where(index < size, index, period - index - int(half_sample))


def _sample(
    image: jax.Array,
    row: tuple[jax.Array, jax.Array],
    col: tuple[jax.Array, jax.Array],
    half_sample: bool,
) -> jax.Array:
    """Bilinear samples of [H, W, C] at (whole, fraction) coordinates, mirrored at the border."""
    H, W, _ = image.shape
    (y, fy), (x, fx) = row, col
    total = jnp.zeros(image.shape, jnp.float32)
    pixels = image.reshape(H * W, -1)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (fy if dy else 1.0 - fy) * (fx if dx else 1.0 - fx)
            i, j = _reflect(y + dy, H, half_sample), _reflect(x + dx, W, half_sample)
            total += weight[..., None] * look_up(pixels, i * W + j)
    return total


def _split(coordinate: jax.Array) -> tuple[jax.Array, jax.Array]:
    whole = jnp.floor(coordinate)
    return whole.astype(jnp.int32), coordinate - whole


def _affine(shape: tuple[int, int], shifts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The map from output to input coordinates that undoes the shifts of three points.

    Args:
      shape: (H, W).
      shifts: [3, 2] float32 pixels (x, y), of the points centre + (s, s), + (s, -s), - (s, s).

    Returns:
      [2, 2] matrix and [2] offset on (x, y): input = matrix @ output + offset.
    """
    # The script reads (H, W) as (x, y); the same for square images.
    s = float(min(shape) // 3)
    first = jnp.asarray([shape[0] // 2 + s, shape[1] // 2 + s], jnp.float32)
    # Edges from the first point, as columns: in the input, and shifted in the output.
    edges = jnp.asarray([[0.0, 2 * s], [2 * s, 2 * s]], jnp.float32)
    (a, b), (c, d) = edges + jnp.stack([shifts[0] - shifts[1], shifts[0] - shifts[2]], axis=1)
    inverse = jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / (a * d - b * c)
    matrix = jnp.matmul(edges, inverse, precision=jax.lax.Precision.HIGHEST)
    offset = first - jnp.matmul(matrix, first + shifts[0], precision=jax.lax.Precision.HIGHEST)
    return matrix, offset


def _warp_affine(image: jax.Array, shifts: jax.Array, coords: str) -> jax.Array:
    H, W, _ = image.shape
    matrix, offset = _affine((H, W), shifts)
    y, x = np.mgrid[:H, :W].astype(np.float32)

    def affine_sum(*terms: np.ndarray) -> jax.Array:
        # A matrix product, although three terms would do: compilers evaluate a sum of products
        # twice, for the index and for the fraction, and may round it differently each time. Where
        # a coordinate is nearly whole, a pixel would get its neighbour's index.
        rows = jnp.concatenate([matrix, offset[:, None]], axis=1)
        precision = jax.lax.Precision.HIGHEST
        return jnp.einsum("khw,ck->chw", jnp.stack(terms), rows, precision=precision)

    if coords == "exact":
        whole, fraction = _split(affine_sum(x, y, np.ones_like(x)))
    else:
        # What x adds is rounded to 1/1024 pixel, the rest too, and their sum to 1/32.
        along = jnp.round(matrix[:, 0, None, None] * x[None] * 1024.0).astype(jnp.int32)
        across = affine_sum(np.zeros_like(x), y, np.ones_like(x))
        total = (along + jnp.round(across * 1024.0).astype(jnp.int32) + 16) >> 5
        whole, fraction = total >> 5, (total & 31).astype(jnp.float32) / 32.0
    row, col = (whole[1], fraction[1]), (whole[0], fraction[0])
    return _sample(image, row, col, half_sample=False)


def _elastic_transform(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    H, W, _ = image.shape
    shifts = draws["points"] * constants["jitter"]
    warped = _warp_affine(image.astype(jnp.float32), shifts, constants["coords"])

    def displacement(uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
        smooth = filter_image(uniform, constants["rows"], constants["cols"])
        return _split(constants["alpha"] * smooth)

    (dx, fx), (dy, fy) = displacement(draws["ux"]), displacement(draws["uy"])
    y = jnp.arange(H, dtype=jnp.int32)[:, None] + dy
    x = jnp.arange(W, dtype=jnp.int32)[None, :] + dx
    return _sample(warped, (y, fy), (x, fx), half_sample=True)


ELASTIC_TRANSFORM = Corruption(
    "elastic_transform",
    "digital",
    _elastic_constants,
    _elastic_transform,
    _draw_elastic,
    options=("coords",),
)
