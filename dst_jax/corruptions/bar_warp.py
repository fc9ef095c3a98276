"""C-bar's corruptions that move pixels: refraction, twirl, ripple, rotation and chromatic zoom.

Called through the registry; `bar.py` has the suites and how exact each corruption is.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions.bar_noise import level, square_side
from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity, no_draw
from dst_jax.corruptions.constants import Rows
from dst_jax.corruptions.filters import (
    border_index,
    filter_image,
    gaussian_matrix,
    linear_matrix,
)


def _bilinear(image: jax.Array, row: jax.Array, col: jax.Array) -> jax.Array:
    """Bilinear samples of [H, W, C] float32 at [..] coordinates; black outside."""
    H, W, _ = image.shape
    y, x = jnp.floor(row), jnp.floor(col)
    fy, fx = row - y, col - x
    i, j = y.astype(jnp.int32), x.astype(jnp.int32)
    total = jnp.zeros((*row.shape, image.shape[-1]), jnp.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (fy if dy else 1.0 - fy) * (fx if dx else 1.0 - fx)
            inside = (i + dy >= 0) & (i + dy < H) & (j + dx >= 0) & (j + dx < W)
            value = image[jnp.clip(i + dy, 0, H - 1), jnp.clip(j + dx, 0, W - 1)]
            total += jnp.where(inside, weight, 0.0)[..., None] * value
    return total


# --- refraction by water ---

_ETA = 4.0  # ratio of the refractive indices


def _caustic_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    constants = level(rows, shape, severity)
    soften = gaussian_matrix(constants["side"], 1.0, "reflect", 4.0)
    return {**constants, "soften": jnp.asarray(soften)}


def _draw_caustic(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    keys = jax.random.split(key)
    size = jax.random.uniform(keys[1], (), jnp.float32, 0.75, 1.25) * constants["side"]
    return {"time": jax.random.uniform(keys[0], (), jnp.float32, 0.5, 2.0), "size": size}


def _caustics(side: int, time: jax.Array, size: jax.Array) -> jax.Array:
    """The light at the bottom of a pool, [side, side] float32 in [0, 1]."""
    turns = jnp.mod(jnp.arange(side, dtype=jnp.float32) / size, 1.0) * 6.28318530718
    y, x = jnp.broadcast_arrays(turns[:, None], turns[None, :])
    # The pattern starts at -250; as an angle that is 40 turns less, which float32 prefers.
    shift = np.float32(80 * np.pi - 250.0)
    angle_y, angle_x = y + shift, x + shift
    wave_y, wave_x = angle_y, angle_x
    light = jnp.ones((side, side), jnp.float32)
    for n in range(5):
        t = time * (1.0 - 3.5 / (n + 1))
        wave_y, wave_x = (
            angle_y + jnp.cos(t - wave_y) + jnp.sin(t + wave_x),
            angle_x + jnp.sin(t - wave_x) + jnp.cos(t + wave_y),
        )
        first = 0.005 * (y - 250.0) / jnp.sin(wave_y + t)
        second = 0.005 * (x - 250.0) / jnp.cos(wave_x + t)
        light += 1.0 / jnp.sqrt(first**2 + second**2)
    return jnp.clip((1.17 - (light / 5.0) ** 1.4) ** 8, 0.0, 1.0)


def _caustic_refraction(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    side, strength = constants["side"], constants["level"]
    light = _caustics(side, draws["time"], draws["size"])
    light = jnp.pad(filter_image(light, constants["soften"], constants["soften"]), 1)
    slope_y = light[2:, 1:-1] - light[:-2, 1:-1]
    slope_x = light[1:-1, 2:] - light[1:-1, :-2]
    # Light from straight above, bent by a surface with this normal (Snell's law): its sideways part
    # is the normal's, times a factor.
    cosine = 1.0 / jnp.sqrt(slope_y**2 + slope_x**2 + 1.0)
    sine = jnp.sqrt(jnp.maximum(1.0 - cosine**2, 0.0))
    factor = jnp.sqrt(1.0 - (sine / _ETA) ** 2) - cosine / _ETA
    factor = jnp.where(cosine >= 1.0 - 1e-3, 0.0, factor * cosine)  # nearly flat: not bent
    lens = 0.05 * strength * side
    position = jnp.arange(side, dtype=jnp.float32)
    # Rounded as the generator does it.
    row = position[:, None] + jnp.round(slope_y * factor * lens * 1000.0) / 1000.0
    col = position[None, :] + jnp.round(slope_x * factor * lens * 1000.0) / 1000.0
    lighting = 0.2 * strength * (slope_y - slope_x)
    return _bilinear(image.astype(jnp.float32), row, col) + 255.0 * lighting[..., None]


# --- twirl ---


def _twirl_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    constants = level(rows, shape, severity)
    return {**constants, "cells": 5 if constants["side"] == 224 else 3}


def _draw_twirl(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    cells = (constants["cells"], constants["cells"])
    return {"sign": jax.random.rademacher(key, cells, jnp.float32)}


def _pinch_and_twirl(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Pinches and turns a disk in each cell of a grid.

    The generator reads what it has already written; but no disk reaches a cell that was written
    before it, so that all can read the original.
    """
    side, cells = constants["side"], constants["cells"]
    size = side // cells
    radius = size / 2
    position = np.arange(side)
    # Beyond the last whole cell nothing moves.
    cell = np.minimum(position // size, cells - 1)
    offset = (position - cell * size - radius).astype(np.float32)
    dy, dx = np.broadcast_arrays(offset[:, None], offset[None, :])
    distance = np.hypot(dy, dx)
    moved = (distance <= radius) & (np.round(distance, 3) > 0)
    moved &= (position < cells * size)[:, None] & (position < cells * size)[None, :]
    share = np.where(moved, distance / radius, 1.0)
    pinch = jnp.asarray(np.sin(np.pi / 2 * share), jnp.float32) ** (
        -(0.04 * constants["level"] + 0.1)
    )
    # The generator indexes its angles by (column, row).
    sign = draws["sign"][cell[None, :], cell[:, None]]
    angle = sign * constants["level"] * np.pi / 20 * jnp.asarray((1.0 - share) ** 2, jnp.float32)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    row = (position - offset)[:, None].astype(np.float32) + pinch * (dy * cos - dx * sin)
    col = (position - offset)[None, :].astype(np.float32) + pinch * (dy * sin + dx * cos)
    image = image.astype(jnp.float32)
    return jnp.where(jnp.asarray(moved)[..., None], _bilinear(image, row, col), image)


# --- ripple ---


def _draw_ripple(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    keys = jax.random.split(key)
    length = jax.random.uniform(keys[0], (2,), jnp.float32, 0.1, 0.3) * constants["side"]
    return {
        "wavelength": length,  # y, x
        "phase": jax.random.uniform(keys[1], (2,), jnp.float32, 0.0, 2 * np.pi),
    }


def _ripple(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    side = constants["side"]
    amplitude = 0.0025 * constants["level"] * side
    position = jnp.arange(side, dtype=jnp.float32)
    matrices = []
    for axis in (0, 1):
        angle = 2 * np.pi * position / draws["wavelength"][axis] + draws["phase"][axis]
        source = position + amplitude * jnp.sin(angle)
        whole = jnp.floor(source)
        # A source outside the image finds no column of the matrix: black.
        matrices.append(linear_matrix(whole.astype(jnp.int32), source - whole, side))
    return filter_image(image.astype(jnp.float32), *matrices)


# --- cubic splines ---


def _spline_weights(position: Any, size: int) -> tuple[Any, Any]:
    """The cubic B-spline's 4 taps at [..] positions in [0, size - 1]: (indices, weights) [.., 4].

    Works on NumPy arrays and on traced ones, as its argument; borders mirror (dcb|abcd).
    """
    numbers = np if isinstance(position, np.ndarray) else jnp
    whole = numbers.floor(position)
    t = position - whole
    weights = numbers.stack(
        [
            (1 - t) ** 3 / 6,
            (4 - 6 * t**2 + 3 * t**3) / 6,
            (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6,
            t**3 / 6,
        ],
        axis=-1,
    )
    first = whole.astype(np.int32)
    index = abs(numbers.stack([first + tap for tap in (-1, 0, 1, 2)], axis=-1))
    last = size - 1
    return last - abs(last - index), weights


@functools.lru_cache(maxsize=8)
def _spline_coefficients(size: int) -> np.ndarray:
    """The [size, size] float32 matrix from values to cubic B-spline coefficients, ends mirrored."""
    taps = np.arange(size)[:, None] + np.arange(-1, 2)
    values = np.zeros((size, size))
    np.add.at(
        values,
        (np.arange(size)[:, None], border_index(taps, size, "reflect_101")),
        [1 / 6, 4 / 6, 1 / 6],
    )
    return np.linalg.inv(values).astype(np.float32)


_ROTATIONS = 21


def _rotations_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    constants = level(rows, shape, severity)
    return {**constants, "coefficients": jnp.asarray(_spline_coefficients(constants["side"]))}


def _circular_motion_blur(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """The weighted mean of rotations by up to 1.5 degrees a level, black outside the image."""
    del draws
    side = constants["side"]
    middle = (side - 1) / 2
    coefficients = filter_image(
        image.astype(jnp.float32), constants["coefficients"], constants["coefficients"]
    ).reshape(side * side, 3)
    offset = jnp.arange(side, dtype=jnp.float32) - middle
    y, x = offset[:, None], offset[None, :]
    turns = jnp.asarray(np.linspace(-1.0, 1.0, _ROTATIONS), jnp.float32)
    weight = np.exp(-2.0 * np.linspace(-1.0, 1.0, _ROTATIONS) ** 2)
    shares = jnp.asarray(weight / weight.sum(), jnp.float32)

    def add_rotated(i: jax.Array, total: jax.Array) -> jax.Array:
        angle = jnp.deg2rad(1.5 * constants["level"] * turns[i])
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        row, col = middle + cos * y + sin * x, middle - sin * y + cos * x
        inside = (jnp.minimum(row, col) >= 0) & (jnp.maximum(row, col) <= side - 1)
        rows, row_weights = _spline_weights(jnp.clip(row, 0.0, side - 1), side)
        cols, col_weights = _spline_weights(jnp.clip(col, 0.0, side - 1), side)
        weights = row_weights[..., :, None] * col_weights[..., None, :]
        weights *= (shares[i] * inside)[..., None, None]
        taps = coefficients[rows[..., :, None] * side + cols[..., None, :]]
        return total + (weights[..., None] * taps).sum(axis=(2, 3))

    return jax.lax.fori_loop(0, _ROTATIONS, add_rotated, jnp.zeros(image.shape, jnp.float32))


def _chromatic_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    side = square_side(shape)
    matrices = np.zeros((5, 3, side, side))
    for s, row in enumerate(rows):
        for zoom in range(3):
            scale = 1.0 + 0.05 * float(row) * zoom / 2
            length = round(side * scale)
            start = (length - side) // 2
            position = np.arange(start, start + side) * (side - 1) / (length - 1)
            sources, weights = _spline_weights(position, side)
            np.add.at(matrices[s, zoom], (np.arange(side)[:, None], sources), weights)
    return {"matrices": by_severity(matrices, severity)}


def _draw_order(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape, constants
    return {"order": jax.random.permutation(key, jnp.arange(3, dtype=jnp.int32))}


def _transverse_chromatic_abberation(
    image: jax.Array, draws: Draws, constants: Constants
) -> jax.Array:
    """Enlarges the channels by 1, 1 + s/2 and 1 + s, s = 0.05 L, in a random order.

    Pixels are taken for the coefficients of cubic splines, as the generator has it, which smooths
    even the channel that keeps its size.
    """
    matrices = constants["matrices"][draws["order"]]
    planes = jnp.moveaxis(image.astype(jnp.float32), -1, 0)
    planes = jax.vmap(filter_image)(planes, matrices, matrices)
    return jnp.moveaxis(jnp.floor(planes + 0.5), 0, -1)  # scipy rounds whole-number images


CAUSTIC_REFRACTION = Corruption(
    "caustic_refraction", "bar", _caustic_constants, _caustic_refraction, _draw_caustic
)
PINCH_AND_TWIRL = Corruption(
    "pinch_and_twirl", "bar", _twirl_constants, _pinch_and_twirl, _draw_twirl
)
RIPPLE = Corruption("ripple", "bar", level, _ripple, _draw_ripple)
CIRCULAR_MOTION_BLUR = Corruption(
    "circular_motion_blur", "bar", _rotations_constants, _circular_motion_blur, no_draw
)
TRANSVERSE_CHROMATIC_ABBERATION = Corruption(
    "transverse_chromatic_abberation",
    "bar",
    _chromatic_constants,
    _transverse_chromatic_abberation,
    _draw_order,
)
