"""The registry of corruptions and the two functions that callers use: `example_keys` and `corrupt`.

A new corruption is one `Corruption` in a module beside this file, one table in `constants.py` and
one entry here. The results depend on (seed, name, severity, image id) only.
"""

import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from dst_jax.corruptions import blur, digital, elastic, glass, jpeg, noise, weather
from dst_jax.corruptions.base import Cast, Corruption, to_uint8
from dst_jax.corruptions.constants import PRESETS, ROWS

CORRUPTIONS: dict[str, Corruption] = {
    corruption.name: corruption
    for corruption in (
        # The benchmark, in the order of the paper's tables.
        noise.GAUSSIAN_NOISE,
        noise.SHOT_NOISE,
        noise.IMPULSE_NOISE,
        blur.DEFOCUS_BLUR,
        glass.GLASS_BLUR,
        blur.MOTION_BLUR,
        blur.ZOOM_BLUR,
        weather.SNOW,
        weather.FROST,
        weather.FOG,
        digital.BRIGHTNESS,
        digital.CONTRAST,
        elastic.ELASTIC_TRANSFORM,
        digital.PIXELATE,
        jpeg.JPEG_COMPRESSION,
        # Its four validation corruptions.
        noise.SPECKLE_NOISE,
        blur.GAUSSIAN_BLUR,
        digital.SATURATE,
        # Ours.
        weather.FROST_PROCEDURAL,
    )
}


def example_keys(seed: int, name: str, severity: Any, image_ids: jax.Array) -> jax.Array:
    """The random keys of a batch: one per (seed, corruption, severity, image id).

    Args:
      seed: the seed of the whole evaluation.
      name: a name in `CORRUPTIONS`.
      severity: 1..5, may be traced.
      image_ids: [B] int32, the numbers of the images in their data set.

    Returns:
      [B] keys.
    """
    _get(name)
    # crc32 of the name, not its place in the registry: a new corruption changes no old result.
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    key = jax.random.fold_in(key, severity)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(image_ids))


def corrupt(
    name: str,
    images: jax.Array,
    keys: jax.Array,
    severity: Any,
    preset: str,
    *,
    cast: Cast = "truncate",
) -> jax.Array:
    """Corrupts a batch of images. Pure; one compiled program serves all severities.

    Args:
      name: a name in `CORRUPTIONS`.
      images: [B, H, W, 3] uint8, RGB.
      keys: [B] random keys, usually from `example_keys`.
      severity: 1..5, may be traced.
      preset: whose constants to use, one of `PRESETS`; the images may have any size.
      cast: 'truncate' as the published sets were made, or 'round'; see `base.to_uint8`.

    Returns:
      [B, H, W, 3] uint8.

    Raises:
      ValueError: if an argument is not one of those.
    """
    corruption = _get(name)
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; found {preset!r}")
    if isinstance(severity, int) and not 1 <= severity <= 5:
        raise ValueError(f"severity must be 1, 2, 3, 4 or 5; found {severity}")
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != jnp.uint8:
        raise ValueError(
            f"images must be uint8 [B, H, W, 3]; found {images.dtype} {list(images.shape)}"
        )
    return _corrupt(images, keys, severity, corruption=corruption, preset=preset, cast=cast)


@functools.partial(jax.jit, static_argnames=("corruption", "preset", "cast"))
def _corrupt(
    images: jax.Array,
    keys: jax.Array,
    severity: jax.Array,
    *,
    corruption: Corruption,
    preset: str,
    cast: Cast,
) -> jax.Array:
    shape = images.shape[1:3]
    constants = corruption.constants(ROWS[corruption.name][preset], shape, severity)

    def corrupt_one(image: jax.Array, key: jax.Array) -> jax.Array:
        return corruption.apply(image, corruption.draw(key, shape, constants), constants)

    return to_uint8(jax.vmap(corrupt_one)(images, keys), cast)


def _get(name: str) -> Corruption:
    if name not in CORRUPTIONS:
        raise ValueError(f"there is no corruption {name!r}; known: {', '.join(CORRUPTIONS)}")
    return CORRUPTIONS[name]
