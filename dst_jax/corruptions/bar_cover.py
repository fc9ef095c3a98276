"""C-bar's corruptions that cover parts of an image: checkerboard, sparkles and lines.

Called through the registry; `bar.py` has the suites and how exact each corruption is.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions.bar_noise import level, square_side
from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity
from dst_jax.corruptions.constants import Rows

_GREY = 128.0

# --- checkerboard ---

_MOST_CELLS = 40  # 4 N / (0.1 N): the side of the largest grid


def _draw_checkerboard(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    keys = jax.random.split(key, 3)
    cell = jax.random.uniform(keys[1], (), jnp.float32, 0.1, 0.25) * constants["side"]
    return {
        "angle": jax.random.uniform(keys[0], (), jnp.float32, 0.0, 2 * np.pi),
        "cell": jnp.maximum(cell, 1.0),
        "grid": jax.random.uniform(keys[2], (_MOST_CELLS, _MOST_CELLS), jnp.float32),
    }


def _checkerboard_cutout(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Greys a random share of the black cells of a rotated checkerboard."""
    side, cell = constants["side"], draws["cell"]
    position = jnp.arange(side, dtype=jnp.float32)
    y, x = position[:, None], position[None, :]
    cos, sin = jnp.cos(draws["angle"]), jnp.sin(draws["angle"])
    first, second = (cos * y + sin * x) / cell, (-sin * y + cos * x) / cell
    black = jnp.floor(jnp.mod(first, 2.0)) == jnp.floor(jnp.mod(second, 2.0))
    # The grid is as large as 4 images; cut towards zero, negative numbers count from its end.
    cells = jnp.floor(4.0 * side / cell).astype(jnp.int32)
    row = jnp.mod(jnp.trunc(first).astype(jnp.int32), cells)
    col = jnp.mod(jnp.trunc(second).astype(jnp.int32), cells)
    chosen = draws["grid"][row, col] < 0.1 * constants["level"]
    return jnp.where((black & chosen)[..., None], _GREY, image.astype(jnp.float32))


# --- sparkles ---

_SPARKLES = 5
_MOST_RAYS = 199


def _draw_sparkles(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    keys = jax.random.split(key, 3)
    centres = jax.random.uniform(keys[0], (_SPARKLES, 2), jnp.float32) * constants["side"]
    return {
        "centres": centres,  # y, x
        "rays": jax.random.randint(keys[1], (_SPARKLES,), 50, _MOST_RAYS + 1, jnp.int32),
        "n": jax.random.normal(keys[2], (_SPARKLES, _MOST_RAYS), jnp.float32),
    }


def _draw_inverse_sparkles(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    keys = jax.random.split(key, 3)
    centre = jax.random.uniform(keys[0], (2,), jnp.float32, 0.25, 0.75) * constants["side"]
    return {
        "centre": centre,
        "rays": jax.random.randint(keys[1], (), 50, _MOST_RAYS + 1, jnp.int32),
        "n": jax.random.normal(keys[2], (_MOST_RAYS,), jnp.float32),
    }


def _sparkle(
    side: int, centre: jax.Array, rays: jax.Array, lengths: jax.Array, exponent: Any
) -> jax.Array:
    """The brightness of one sparkle, [side, side] float32 in [0, 1].

    Args:
      side: of the image.
      centre: [2] float32 (y, x).
      rays: int32, how many of the lengths count.
      lengths: [_MOST_RAYS] float32 pixels.
      exponent: how sharply the brightness falls off.
    """
    position = jnp.arange(side, dtype=jnp.float32)
    y, x = jnp.broadcast_arrays((position - centre[0])[:, None], (position - centre[1])[None, :])
    turn = (jnp.arctan2(x, y) + np.pi) / (2 * np.pi) * rays
    ray = jnp.floor(turn)
    between = turn - ray
    # The last ray is followed by the first. Not a remainder: integers divide slowly.
    ray = ray.astype(jnp.int32)
    ray = jnp.where(ray == rays, 0, ray)
    this, following = lengths[ray], lengths[jnp.where(ray + 1 == rays, 0, ray + 1)]
    length = this + between * (following - this)
    falloff = (length**2 / (y**2 + x**2 + 1e-4)) ** exponent
    return jnp.clip((1.0 - (between - 0.5) ** 2) * falloff, 0.0, 1.0)


def _sparkles(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    side = constants["side"]
    radius = 0.01 * constants["level"] * side
    lengths = jnp.maximum(radius + 0.25 * radius * draws["n"], 1.0)
    brightness = jax.vmap(lambda centre, rays, row: _sparkle(side, centre, rays, row, 1.0))(
        draws["centres"], draws["rays"], lengths
    )
    # Five mixtures with white, one after another: what is left of the distance to white.
    left = jnp.prod(1.0 - brightness, axis=0)[..., None]
    return 255.0 - (255.0 - image) * left


def _inverse_sparkles(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """White but for a sparkle, through which the image shows."""
    side = constants["side"]
    radius = 0.25 * side
    lengths = radius + 0.25 * radius * draws["n"]
    exponent = 0.13 * constants["level"]
    seen = _sparkle(side, draws["centre"], draws["rays"], lengths, exponent)
    return 255.0 - seen[..., None] * (255.0 - image)


# --- lines ---


def _lines_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    side = square_side(shape)
    counts = [int(row / 10 * side) for row in rows]
    return {"count": by_severity(counts, severity), "most": max(counts), "side": side}


def _draw_lines(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    keys = jax.random.split(key, 4)
    most, side = constants["most"], constants["side"]
    spread = jax.random.uniform(keys[1], (), jnp.float32, 0.1, 1.0)
    turns = jax.random.uniform(keys[2], (most,), jnp.float32, -0.5, 0.5)
    angle = jax.random.uniform(keys[0], (), jnp.float32, 0.0, 2 * np.pi)
    return {
        "middle": jax.random.uniform(keys[3], (most, 2), jnp.float32) * side,  # row, column
        "angle": angle + 2 * np.pi * spread * turns,
    }


def line_coverage(ends: jax.Array, side: int) -> jax.Array:
    """How much of each pixel an anti-aliased line covers, as Zingl's algorithm draws it.

    The algorithm (A Rasterizing Algorithm for Drawing Curves, 2012; scikit-image's `line_aa`) walks
    along the line. What it leaves is this: within the box of the two ends, each pixel less than 1
    from the line is covered by 1 minus its distance.

    Args:
      ends: [2, 2] int32 pixels (row, column), anywhere.
      side: of the image.

    Returns:
      [side, side] float32 in [0, 1].
    """
    (row0, col0), (row1, col1) = ends
    rows, cols = jnp.arange(side)[:, None], jnp.arange(side)[None, :]
    down, right = row1 - row0, col1 - col0
    area = jnp.abs(right * (rows - row0) - down * (cols - col0))
    length = jnp.sqrt(jnp.maximum(down**2 + right**2, 1).astype(jnp.float32))
    in_rows = (rows >= jnp.minimum(row0, row1)) & (rows <= jnp.maximum(row0, row1))
    in_cols = (cols >= jnp.minimum(col0, col1)) & (cols <= jnp.maximum(col0, col1))
    return jnp.where(in_rows & in_cols, jnp.maximum(1.0 - area / length, 0.0), 0.0)


def _lines(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    side = constants["side"]
    middle, angle = draws["middle"], draws["angle"]
    reach = side * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    ends = jnp.stack([middle - reach, middle + reach], axis=1).astype(jnp.int32)

    def draw_line(i: jax.Array, canvas: jax.Array) -> jax.Array:
        coverage = line_coverage(ends[i], side)[..., None]
        # The generator keeps whole grey levels between lines.
        return jnp.floor((1.0 - coverage) * canvas + coverage * _GREY)

    return jax.lax.fori_loop(0, constants["count"], draw_line, image.astype(jnp.float32))


CHECKERBOARD_CUTOUT = Corruption(
    "checkerboard_cutout", "bar", level, _checkerboard_cutout, _draw_checkerboard
)
SPARKLES = Corruption("sparkles", "bar", level, _sparkles, _draw_sparkles)
INVERSE_SPARKLES = Corruption(
    "inverse_sparkles", "bar", level, _inverse_sparkles, _draw_inverse_sparkles
)
LINES = Corruption("lines", "bar", _lines_constants, _lines, _draw_lines)
