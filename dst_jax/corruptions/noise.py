"""Noise, one independent draw per pixel and channel: Gaussian, shot, impulse and speckle noise.

Called through the registry only.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions import random_arrays
from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity, columns, look_up
from dst_jax.corruptions.constants import Rows


def _draw_normal(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del constants
    return {"n": random_arrays.normal(key, (*shape, 3))}


def _gaussian_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    return image + 255.0 * constants["std"] * draws["n"]


def _speckle_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    return image + image * constants["std"] * draws["n"]


def _draw_uniform(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del constants
    return {"u": random_arrays.uniform(key, (*shape, 3))}


def _impulse_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Replaces a share of the values; one number decides both whether, and by black or white."""
    u, amount = draws["u"], constants["amount"]
    extreme = jnp.where(u < 0.5 * amount, 255.0, 0.0)
    return jnp.where(u < amount, extreme, image.astype(jnp.float32))


@functools.lru_cache(maxsize=16)
def poisson_tables(photons: Rows) -> tuple[np.ndarray, np.ndarray]:
    """What shot noise looks up: the distribution of the counts and the grey level of each count.

    An image has 256 values, so the Poisson distribution of each fits a table, and drawing is exact:
    an inversion without a rejection loop. More photons than a white pixel expects look white, so
    that counts end at `photons`.

    Args:
      photons: the expected count of a white pixel, per severity; C below is the largest.

    Returns:
      [5, 256, C + 1] P(count <= k) per severity and grey level, and [5, C + 1] grey levels.
    """
    largest = int(max(photons))
    k = np.arange(largest + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    cumulative, levels = [], []
    for c in photons:
        rate = np.arange(256)[:, None] / 255.0 * c
        with np.errstate(divide="ignore", invalid="ignore"):
            log_mass = np.where(k == 0, 0.0, k * np.log(rate)) - rate - log_factorial
        cumulative.append(np.where(k < c, np.cumsum(np.exp(log_mass), axis=1), 1.0))
        level = np.minimum(k / float(c), 1.0) * 255.0
        level_32 = level.astype(np.float32)
        # 50.999... in float64 must not become 51 in float32: truncation would tell them apart.
        below = np.nextafter(level_32, np.float32(-1))
        levels.append(np.where(np.floor(level_32) > np.floor(level), below, level_32))
    return np.stack(cumulative), np.stack(levels)


def _shot_noise_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    del shape
    cumulative, levels = poisson_tables(rows)
    return {
        "cumulative": by_severity(cumulative, severity),
        "levels": by_severity(levels, severity),
    }


def count_photons(image: jax.Array, u: jax.Array, cumulative: jax.Array) -> jax.Array:
    """Draws a count per value by inverting its law.

    Args:
      image: [..] uint8.
      u: [..] float32 uniform in [0, 1).
      cumulative: [256, C + 1] float32 P(count <= k) per grey level; the last column is 1.

    Returns:
      [..] int32, the smallest k with u < P(count <= k).
    """
    entries = cumulative.shape[1]
    first = image.astype(jnp.int32) * entries
    table = cumulative.reshape(-1)
    count = jnp.zeros(image.shape, jnp.int32)
    for step in (2**i for i in reversed(range((entries - 1).bit_length()))):  # bisection
        probe = count + step
        known = look_up(table, first + jnp.minimum(probe, entries) - 1)
        count = jnp.where((probe < entries) & (u >= known), probe, count)
    return count


def _shot_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    return look_up(constants["levels"], count_photons(image, draws["u"], constants["cumulative"]))


GAUSSIAN_NOISE = Corruption(
    "gaussian_noise", "noise", columns("std"), _gaussian_noise, _draw_normal
)
SHOT_NOISE = Corruption("shot_noise", "noise", _shot_noise_constants, _shot_noise, _draw_uniform)
IMPULSE_NOISE = Corruption(
    "impulse_noise", "noise", columns("amount"), _impulse_noise, _draw_uniform
)
SPECKLE_NOISE = Corruption("speckle_noise", "extra", columns("std"), _speckle_noise, _draw_normal)
