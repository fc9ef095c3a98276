"""Spatter: drops of water (severities 1 to 3) or stains of mud (4 and 5) on the lens.

Water follows the published chain of OpenCV operations step by step, in integers: edges (Canny
1986), distance to them (Borgefors 1986), equalisation, embossing. Called through the registry only.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions import random_arrays
from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity, look_up
from dst_jax.corruptions.blur import gaussian_matrices
from dst_jax.corruptions.constants import Rows
from dst_jax.corruptions.filters import Border, filter_image, pad_image

_WATER = np.array([175.0, 238.0, 238.0], np.float32)
_MUD = np.array([63.0, 42.0, 20.0], np.float32)


def _spatter_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    loc, scale, sigma, threshold, last, mud = zip(*rows, strict=True)
    # The fifth number is an intensity for water and a deviation for mud.
    stain_sigma = [value if is_mud else 1.0 for value, is_mud in zip(last, mud, strict=True)]
    return {
        "loc": by_severity(loc, severity),
        "scale": by_severity(scale, severity),
        "threshold": by_severity(threshold, severity),
        "intensity": by_severity(last, severity),
        "mud": by_severity(mud, severity),
        "layer": gaussian_matrices(sigma, shape, severity),
        "stain": gaussian_matrices(stain_sigma, shape, severity),
    }


def _draw_spatter(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del constants
    return {"n": random_arrays.normal(key, shape)}


def _window(plane: jax.Array, weights: Any, border: Border) -> jax.Array:
    """Correlates [H, W] int32 with a small square of integer weights, K x K."""
    weights = np.asarray(weights, np.int32)
    H, W = plane.shape
    padded = pad_image(plane, weights.shape[0] // 2, border)
    rows = jnp.asarray(weights)

    # A loop over the rows of weights, for its border: a compiler would repeat for each weight what
    # made the plane.
    def add_row(row: jax.Array, total: jax.Array) -> jax.Array:
        lines = jax.lax.dynamic_slice_in_dim(padded, row, H, 0)
        for column in range(weights.shape[1]):
            if weights[:, column].any():
                total += rows[row, column] * lines[:, column : column + W]
        return total

    return jax.lax.fori_loop(0, len(weights), add_row, jnp.zeros((H, W), jnp.int32))


def _shifted(plane: jax.Array, dy: int, dx: int, fill: Any) -> jax.Array:
    """The plane's value at (row + dy, column + dx), `fill` outside."""
    H, W = plane.shape
    padded = jnp.pad(plane, ((abs(dy),) * 2, (abs(dx),) * 2), constant_values=fill)
    return padded[abs(dy) + dy : abs(dy) + dy + H, abs(dx) + dx : abs(dx) + dx + W]


def canny(plane: jax.Array, low: int, high: int) -> jax.Array:
    """Canny's edges with 3 x 3 Sobel gradients and their L1 norm.

    Args:
      plane: [H, W] int32 in 0..255.
      low: gradients above it may belong to an edge.
      high: gradients above it start an edge.

    Returns:
      [H, W] bool.
    """
    gx = _window(plane, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "edge")
    gy = _window(plane, [[-1, -2, -1], [0, 0, 0], [1, 2, 1]], "edge")
    x, y = jnp.abs(gx), jnp.abs(gy)
    norm = x + y

    def above(dy: int, dx: int) -> jax.Array:
        return norm > _shifted(norm, dy, dx, 0)

    def at_least(dy: int, dx: int) -> jax.Array:
        return norm >= _shifted(norm, dy, dx, 0)

    # A ridge of the gradient along its direction, in sectors of 45 degrees: tan(22.5) in 15 bits.
    scaled_y, tangent = y << 15, x * 13573
    same_sign = (gx ^ gy) >= 0
    diagonal = jnp.where(same_sign, above(-1, -1) & above(1, 1), above(-1, 1) & above(1, -1))
    ridge = jnp.where(
        scaled_y < tangent,
        above(0, -1) & at_least(0, 1),
        jnp.where(scaled_y > tangent + (x << 16), above(-1, 0) & at_least(1, 0), diagonal),
    )
    candidate = ridge & (norm > low)

    def grow(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        edges, _ = state
        grown = edges
        for dy, dx in ((1, 0), (0, 1)):
            grown |= _shifted(grown, dy, dx, False) | _shifted(grown, -dy, -dx, False)
        grown &= candidate
        return grown, jnp.any(grown != edges)

    start = candidate & (norm > high)
    edges, _ = jax.lax.while_loop(lambda state: state[1], grow, (start, jnp.any(start)))
    return edges


_UNIT = 1 << 16  # fixed point of the distances
_FAR = 20 * _UNIT  # distances are cut here
# Moves of a chess king and knight, (1, 0), (1, 1) and (2, 1), as OpenCV weights them.
_STRAIGHT, _DIAGONAL, _KNIGHT = _UNIT, round(1.4 * _UNIT), round(2.1969 * _UNIT)


def _path_length(across: jax.Array, down: jax.Array) -> jax.Array:
    """The shortest path of such moves over `across` columns and `down` rows, both >= 0.

    A path takes two neighbouring moves only, so that its length is the largest of four linear
    forms, one per sector of 22.5 degrees.
    """
    outer, inner = _KNIGHT - 2 * _STRAIGHT, 2 * _DIAGONAL - _KNIGHT
    forms = [(_STRAIGHT, outer), (_KNIGHT - _DIAGONAL, inner)]
    forms += [form[::-1] for form in forms]
    return functools.reduce(jnp.maximum, [x * across + y * down for x, y in forms])


def _nearest(plane: jax.Array, axis: int, length: Callable[..., jax.Array]) -> jax.Array:
    """The least length(value, steps) [H, W] over the pixels fewer than 20 steps along an axis."""
    far, size = _FAR // _UNIT, plane.shape[axis]
    margins = [(far, far) if i == axis else (0, 0) for i in range(2)]
    padded = jnp.pad(plane, margins, constant_values=far)

    # A loop, for its borders: a compiler would merge the two axes and repeat the first for each
    # step of the second.
    def step_on(step: jax.Array, least: jax.Array) -> jax.Array:
        before = jax.lax.dynamic_slice_in_dim(padded, far - step, size, axis)
        after = jax.lax.dynamic_slice_in_dim(padded, far + step, size, axis)
        return jnp.minimum(least, length(jnp.minimum(before, after), step))

    return jax.lax.fori_loop(1, far, step_on, length(plane, jnp.int32(0)))


def edge_distance(edges: jax.Array) -> jax.Array:
    """Chamfer distances [H, W] int32 to the nearest edge in units of 2**-16 pixel, cut at 20."""
    start = jnp.where(edges, 0, _FAR // _UNIT).astype(jnp.int32)
    # Columns to the nearest edge of the row, then paths over the rows: two passes, where relaxing
    # neighbours until nothing changes takes up to twenty.
    across = _nearest(start, 1, lambda value, step: value + step)
    return jnp.minimum(_nearest(across, 0, _path_length), _FAR)


def equalise(plane: jax.Array, levels: int) -> jax.Array:
    """Histogram equalisation to 0..255 of [H, W] int32 with values in 0..levels-1."""
    value = jnp.arange(levels, dtype=jnp.int32)
    # Counts of a column have few bits, so that a word counts several levels in one pass. In a loop,
    # so that no pass repeats what made the plane.
    bits = plane.shape[0].bit_length()
    several = 31 // bits

    def count(word: jax.Array) -> jax.Array:
        level = plane - several * word
        ones = jnp.left_shift(jnp.int32(1), bits * jnp.clip(level, 0, several - 1))
        return jnp.where((level >= 0) & (level < several), ones, 0).sum(axis=0)

    words = jax.lax.map(count, jnp.arange(-(-levels // several), dtype=jnp.int32))  # [words, W]
    parts = words[:, None] >> (bits * jnp.arange(several, dtype=jnp.int32))[None, :, None]
    counts = (parts & ((1 << bits) - 1)).sum(axis=-1).reshape(-1)[:levels]
    lowest = plane.min()
    total = plane.size - counts[lowest]
    scale = 255.0 / jnp.maximum(total, 1).astype(jnp.float32)
    above_lowest = jnp.cumsum(jnp.where(value > lowest, counts, 0))
    table = jnp.round(above_lowest.astype(jnp.float32) * scale).astype(jnp.int32)
    # A plane of one value stays as it is.
    return jnp.where(total == 0, plane, look_up(table, plane))


def _water(layer: jax.Array) -> jax.Array:
    """How much water covers each pixel, [H, W] float32 in [0, 1], from the layer of drops."""
    # The script's cast wraps around where a drop is brighter than white.
    drops = (layer * 255.0).astype(jnp.int32) % 256
    box = np.ones((3, 3), int)
    relief = edge_distance(canny(drops, 50, 150))
    relief = _window(relief, box, "reflect_101") // (9 * _UNIT)
    relief = equalise(relief, 21)
    emboss = [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]
    relief = jnp.clip(_window(relief, emboss, "reflect_101"), 0, 255)
    relief = (_window(relief, box, "reflect_101") + 4) // 9
    amount = (drops * relief).astype(jnp.float32)
    # Without any drop there is nothing to scale (and nothing to see).
    return amount / jnp.maximum(amount.max(), 1.0)


def _spatter(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    image = image.astype(jnp.float32)
    threshold = constants["threshold"]
    layer = constants["loc"] + constants["scale"] * draws["n"]
    layer = filter_image(layer, **constants["layer"])
    layer = jnp.where(layer < threshold, 0.0, layer)

    def water() -> jax.Array:
        amount = constants["intensity"] * _water(layer)
        return image + amount[..., None] * _WATER[None, None]

    def mud() -> jax.Array:
        stain = (layer > threshold).astype(jnp.float32)
        stain = filter_image(stain, **constants["stain"])
        stain = jnp.where(stain < 0.8, 0.0, stain)[..., None]
        return image * (1.0 - stain) + stain * _MUD[None, None]

    return jax.lax.cond(constants["mud"] == 1, mud, water)


SPATTER = Corruption("spatter", "extra", _spatter_constants, _spatter, _draw_spatter)
