"""3D Common Corruptions (Kar et al. 2022) that need no depth, and the two that need one map.

`iso_noise`, `low_light` and `color_quant` need a photograph only: the suite '3dcc'. `flash` and
`fog_3d` take a map per image (`corrupt(..., maps=)`). The others need a scene's geometry or a video
codec: `FROM_FILES` says which. Their published files are the source; `codecs` renders clips of
one's own through ffmpeg. Called by `registry`.

| corruption | agrees with the published description, on the same draws, to |
|---|---|
| iso_noise, low_light | 1 grey level, but where a draw meets the Poisson law within rounding |
| color_quant | the bit |
| flash, fog_3d | 1 grey level; the generator's fog takes its colour from the mean over a batch, \
ours over the image |

The constants were published for 224-pixel images only. The generator saves JPEGs of Pillow's
default quality, 75 (`corruptions.saved_as_jpeg`).
"""

from typing import Any

import jax
import jax.numpy as jnp

from dst_jax.corruptions import random_arrays
from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity, columns, no_draw
from dst_jax.corruptions.constants import Rows
from dst_jax.corruptions.noise import count_photons, poisson_tables

_CODEC = "the output of a video codec (ffmpeg)"
_GEOMETRY = "rendered with the scene's geometry"
# Name -> what it is; no function here makes them.
FROM_FILES = {
    "bit_error": _CODEC,
    "h265_abr": _CODEC,
    "h265_crf": _CODEC,
    "near_focus": _GEOMETRY,
    "far_focus": _GEOMETRY,
    "xy_motion_blur": _GEOMETRY,
    "z_motion_blur": _GEOMETRY,
}


def _draw_sensor(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del constants
    photons_key, readout_key = jax.random.split(key)
    return {
        "u": random_arrays.uniform(photons_key, (*shape, 3)),
        "n": random_arrays.normal(readout_key, (*shape, 3)),
    }


# --- noise of a high sensitivity ---

_ISO_PHOTONS = 25  # of a white pixel, at every severity


def _iso_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    del shape
    cumulative, _ = poisson_tables((_ISO_PHOTONS,) * 5)
    return {
        "std": by_severity(rows, severity),
        "cumulative": jnp.asarray(cumulative[0], jnp.float32),
    }


def _iso_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    counts = count_photons(image, draws["u"], constants["cumulative"])
    return 255.0 * (counts / _ISO_PHOTONS + constants["std"] * draws["n"])


# --- low light ---

_DARK_PHOTONS = 120
_READOUT = 0.018  # standard deviation of the sensor's own noise


def _low_light(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Stretches the image, darkens it by a square law and adds the noise of few photons."""
    low, high = image.min().astype(jnp.float32), image.max().astype(jnp.float32)
    # An image without contrast is taken for black; the generator divides 0 by 0.
    grey = jnp.clip(jnp.arange(256, dtype=jnp.float32), low, high)
    light = ((grey - low) / jnp.maximum(high - low, 1.0)) ** 2 * constants["brightest"]
    # As for shot noise an image has at most 256 rates, but they are known only here.
    rate = _DARK_PHOTONS * light

    def next_count(state: tuple, k: jax.Array) -> tuple[tuple, jax.Array]:
        mass, total = state
        mass = mass * rate / k
        return (mass, total + mass), total + mass

    none = jnp.exp(-rate)  # P(count = 0); 72 photons at most, far from underflow
    _, more = jax.lax.scan(
        next_count, (none, none), jnp.arange(1.0, _DARK_PHOTONS, dtype=jnp.float32)
    )
    # More than the most look like the most.
    cumulative = jnp.concatenate([none[None], more, jnp.ones((1, 256), jnp.float32)]).T
    counts = count_photons(image, draws["u"], cumulative)
    return 255.0 * (counts / _DARK_PHOTONS + _READOUT * draws["n"])


# --- fewer bits ---


def _color_quant(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    del draws
    dropped = 8 - constants["bits"]
    return ((image.astype(jnp.int32) >> dropped) << dropped).astype(jnp.float32)


# --- with a map ---


def _flash(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Lights the scene from the camera; the map is its shading under that light, in [0, 1]."""
    return image * (1.0 + draws["map"][..., None] / constants["divisor"])


def _fog_3d(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Fog that thickens with distance; the map is the depth, scaled to [0, 1]."""
    image = image.astype(jnp.float32)
    seen = jnp.exp(-constants["extinction"] * draws["map"])[..., None]
    return seen * image + (1.0 - seen) * image.mean()


ISO_NOISE = Corruption("iso_noise", "3d", _iso_constants, _iso_noise, _draw_sensor)
LOW_LIGHT = Corruption("low_light", "3d", columns("brightest"), _low_light, _draw_sensor)
COLOR_QUANT = Corruption(
    "color_quant",
    "3d",
    lambda rows, shape, severity: {"bits": by_severity(rows, severity)},
    _color_quant,
    no_draw,
)
FLASH = Corruption("flash", "3d", columns("divisor"), _flash, no_draw, needs_map=True)
FOG_3D = Corruption("fog_3d", "3d", columns("extinction"), _fog_3d, no_draw, needs_map=True)
