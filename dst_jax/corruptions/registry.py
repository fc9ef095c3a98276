"""The registry of corruptions and the two functions that callers use: `example_keys` and `corrupt`.

A new corruption is one `Corruption` in a module beside this file, one table in `constants.py` and
one entry here, or outside of the package `register_corruption`. The results depend on (seed, name,
severity, image id) only.
"""

import functools
import os
import re
import sys
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions import (
    bar,
    blur,
    digital,
    elastic,
    glass,
    jpeg,
    noise,
    spatter,
    threed,
    weather,
)
from dst_jax.corruptions.base import Cast, Corruption, to_uint8
from dst_jax.corruptions.codecs import CODECS
from dst_jax.corruptions.constants import PRESETS, ROWS, Rows

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
        spatter.SPATTER,
        digital.SATURATE,
        # ImageNet-C-bar, then what only CIFAR-10-C-bar has.
        *bar.IMAGENET,
        *(corruption for corruption in bar.CIFAR if corruption not in bar.IMAGENET),
        # 3D Common Corruptions.
        threed.ISO_NOISE,
        threed.LOW_LIGHT,
        threed.COLOR_QUANT,
        threed.FLASH,
        threed.FOG_3D,
        # Ours.
        weather.FROST_PROCEDURAL,
    )
}


# Name -> which form this is, of those that were mended: scores of another form are of other images.
REVISED = {"plasma_noise": 2}  # 1, up to version 0.1.0, had green and blue exchanged

_OURS = frozenset(CORRUPTIONS)
_RESERVED = ("clean", "auto", "rendered", "common", "video")
REGISTERED_IN: dict[str, str] = {}  # name -> file, of the corruptions that users registered


def register_corruption(corruption: Corruption, rows: Rows) -> None:
    """Makes a corruption of yours available to `corrupt` and to suites, under its name.

    A file may register its names again, as a card does that is read twice; so may a notebook.

    Args:
      corruption: the corruption, usually of the group 'own'. Its name has letters a to z, digits
        and `_`, and is no name of a suite and not `clean`, which the undamaged images are called.
      rows: five rows of constants, severity 1 to 5, which `corruption.constants` is given. They
        serve images of every size, so of every preset.

    Raises:
      ValueError: the name is taken by a corruption of dst_jax or by another file, or there are not
        five rows.
    """
    name, file = corruption.name, os.path.abspath(sys._getframe(1).f_code.co_filename)
    before = REGISTERED_IN.get(name, file)
    ours = name in _OURS or name in threed.FROM_FILES
    if ours or (before != file and os.path.exists(before)):
        owner = "a corruption of dst_jax" if ours else f"registered by {before}"
        raise ValueError(
            f"register_corruption: found {name}, {owner}; expected a name that is free"
        )
    if name in _RESERVED or name in SUITES:
        raise ValueError(
            f"register_corruption: found {name}, a word with a meaning; expected another name"
        )
    if not re.fullmatch(r"[A-Za-z0-9_]+", name) or len(rows) != 5:
        raise ValueError(
            f"register_corruption: found {name!r} with {len(rows)} rows; expected a name of "
            "letters, digits and _, and a row for each of the 5 severities"
        )
    CORRUPTIONS[name] = corruption
    ROWS[name] = dict.fromkeys(PRESETS, rows)
    REGISTERED_IN[name] = file
    _corrupt.clear_cache()  # type: ignore[attr-defined]  # the constants may be others now


def _of_groups(*groups: str) -> tuple[str, ...]:
    return tuple(name for name, c in CORRUPTIONS.items() if c.group in groups)


# The 15 that mCE and robust accuracy average over, and the 4 that the paper keeps for validation.
BENCHMARK = _of_groups("noise", "blur", "weather", "digital")
EXTRA = _of_groups("extra")
# Suite -> what it scores. Each has its own protocol: never mix them in one mean.
SUITES: dict[str, tuple[str, ...]] = {
    "c": BENCHMARK,
    "c_extra": EXTRA,
    "c_bar_imagenet": tuple(corruption.name for corruption in bar.IMAGENET),
    "c_bar_cifar": tuple(corruption.name for corruption in bar.CIFAR),
    "3dcc": tuple(n for n in _of_groups("3d") if not CORRUPTIONS[n].needs_map),
}


def example_keys(seed: int, name: str, severity: Any, image_ids: jax.Array) -> jax.Array:
    """The random keys of a batch: one per (seed, corruption, severity, image id).

    Args:
      seed: the seed of the whole evaluation.
      name: a name in `CORRUPTIONS`.
      severity: 1..5, may be traced.
      image_ids: [B] int32, the numbers of the images in their dataset.

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
    frost_dir: str | os.PathLike | None = None,
    coords: str = "opencv4",
    maps: jax.Array | None = None,
) -> jax.Array:
    """Corrupts a batch of images. Pure; one compiled program serves all severities.

    Args:
      name: a name in `CORRUPTIONS`.
      images: [B, H, W, 3] uint8, RGB.
      keys: [B] random keys, usually from `example_keys`.
      severity: 1..5, may be traced.
      preset: whose constants to use, one of `PRESETS` for which there are some. The images may have
        another size, but the constants were chosen for that of the preset.
      cast: 'truncate' as the published sets were made, or 'round'; see `base.to_uint8`.
      frost_dir: the directory of the photographs of frost, for 'frost' only.
      coords: 'opencv4' or 'exact', for 'elastic_transform' only; see `elastic`.
      maps: [B, H, W] float32, for 'flash' (shading under the camera's light, in [0, 1]) and
        'fog_3d' (depth, scaled to [0, 1]) only.

    Returns:
      [B, H, W, 3] uint8.

    Raises:
      ValueError: if an argument is not one of those, the corruption has no form for the size, or a
        registered one gives NaN or infinity (outside of `jit`: inside, see `corrupt_and_tell`).
    """
    corrupted, finite = corrupt_and_tell(
        name,
        images,
        keys,
        severity,
        preset,
        cast=cast,
        frost_dir=frost_dir,
        coords=coords,
        maps=maps,
    )
    if finite is not None and not isinstance(finite, jax.core.Tracer):
        check_finite(name, severity, ~np.asarray(finite))
    return corrupted


def check_finite(name: str, severity: Any, lost: Any) -> None:
    """Refuses what a corruption gave where some of it is NaN or infinite.

    Args:
      name: the corruption.
      severity: 1..5.
      lost: bool [B], of which images.

    Raises:
      ValueError: of one at least.
    """
    if count := int(lost.sum()):
        raise ValueError(
            f"{name}: found NaN or infinity at severity {severity} in {count} of {len(lost)} "
            "images that it gives; expected finite grey levels (beyond 0 to 255 they are clipped)"
        )


def corrupt_and_tell(
    name: str,
    images: jax.Array,
    keys: jax.Array,
    severity: Any,
    preset: str,
    *,
    cast: Cast = "truncate",
    frost_dir: str | os.PathLike | None = None,
    coords: str = "opencv4",
    maps: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """`corrupt`, for use inside of `jit`, where nothing can be raised about values.

    Returns:
      (images, finite): `finite` is bool [B], whether all that the corruption gave of an image was
      finite, of a corruption that a user registered; None of ours, which are not looked at.

    Raises:
      ValueError: see `corrupt`.
    """
    corruption = _get(name)
    if preset not in PRESETS:
        raise ValueError(f"preset: found {preset!r}; expected one of {', '.join(PRESETS)}")
    if preset not in ROWS[name]:
        raise ValueError(
            f"preset: found {preset!r}; expected {' or '.join(ROWS[name])}: the only published "
            f"constants of {name}"
        )
    if isinstance(severity, int | np.integer) and not 1 <= severity <= 5:
        raise ValueError(f"severity: found {severity}; expected 1, 2, 3, 4 or 5")
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != jnp.uint8:
        raise ValueError(
            f"images: found {images.dtype} {list(images.shape)}; expected uint8 [B, H, W, 3]"
        )
    if corruption.needs_map and (maps is None or maps.shape != images.shape[:3]):
        raise ValueError(
            f"maps: found {None if maps is None else list(maps.shape)}; {name} expects one number "
            f"per pixel, {list(images.shape[:3])}"
        )
    given = {"frost_dir": None if frost_dir is None else str(frost_dir), "coords": coords}
    options = tuple((option, given[option]) for option in corruption.options)
    return _corrupt(
        images,
        keys,
        severity,
        jnp.asarray(maps, jnp.float32) if corruption.needs_map else None,
        corruption=corruption,
        preset=preset,
        cast=cast,
        options=options,
    )


@functools.partial(jax.jit, static_argnames=("corruption", "preset", "cast", "options"))
def _corrupt(
    images: jax.Array,
    keys: jax.Array,
    severity: jax.Array,
    maps: jax.Array | None,
    *,
    corruption: Corruption,
    preset: str,
    cast: Cast,
    options: tuple[tuple[str, Any], ...],
) -> tuple[jax.Array, jax.Array | None]:
    shape = (images.shape[1], images.shape[2])
    rows = ROWS[corruption.name][preset]
    constants = corruption.constants(rows, shape, severity, **dict(options))

    def corrupt_one(image: jax.Array, key: jax.Array, map_: jax.Array | None) -> jax.Array:
        draws = corruption.draw(key, shape, constants)
        if map_ is not None:
            draws["map"] = map_
        found = corruption.apply(image, draws, constants)
        if jnp.shape(found)[:2] == shape and jnp.shape(found)[2:] == (3,):
            return found
        raise ValueError(
            f"{corruption.name}: found {list(jnp.shape(found))}, which it gives for an image "
            f"{list(image.shape)}; expected an image of the same size"
        )

    found = jax.vmap(corrupt_one)(images, keys, maps)
    own = corruption.name in REGISTERED_IN  # the cast would make NaN black
    return to_uint8(found, cast), jnp.isfinite(found).all((1, 2, 3)) if own else None


def _get(name: str) -> Corruption:
    if name in threed.FROM_FILES:
        raise ValueError(
            f"corruption: {name} is {threed.FROM_FILES[name]} and is never imitated here: it comes "
            "from the published files of 3DCC"
            + ("; corruptions.codecs renders clips through ffmpeg" * (name in CODECS))
        )
    if name not in CORRUPTIONS:
        raise ValueError(f"corruption: found {name!r}; expected one of {', '.join(CORRUPTIONS)}")
    return CORRUPTIONS[name]
