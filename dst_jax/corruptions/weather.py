"""Weather: snow, fog and frost (on photographs of frost, or on a generated texture).

Called through the registry only. Brightness is weather too in the benchmark's grouping, but it is a
change of colour and lives in `digital.py`.
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions import random_arrays
from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity
from dst_jax.corruptions.blur import motion_blur, motion_weights
from dst_jax.corruptions.constants import Rows
from dst_jax.corruptions.filters import filter_image, linear_matrix, zoom_positions
from dst_jax.corruptions.fractal import plasma

# --- snow ---


def _snow_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    loc, scale, zoom, threshold, radius, sigma, mix = zip(*rows, strict=True)
    constants: dict[str, Any] = {
        "loc": by_severity(loc, severity),
        "scale": by_severity(scale, severity),
        "threshold": by_severity(threshold, severity),
        "mix": by_severity(mix, severity),
        "motion": motion_weights(tuple(zip(radius, sigma, strict=True)), severity),
    }
    for axis, size in zip(("rows", "cols"), shape, strict=True):
        bases, fractions = zip(*(zoom_positions(size, factor) for factor in zoom), strict=True)
        constants[f"{axis}_base"] = by_severity(bases, severity)
        constants[f"{axis}_fraction"] = by_severity(fractions, severity)
    return constants


def _draw_snow(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del constants
    flakes_key, angle_key = jax.random.split(key)
    return {
        "n": random_arrays.normal(flakes_key, shape),
        "angle": jax.random.uniform(angle_key, (), jnp.float32, -135.0, -45.0),
    }


def _snow(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    image = image.astype(jnp.float32)
    H, W, _ = image.shape
    flakes = constants["loc"] + constants["scale"] * draws["n"]
    rows = linear_matrix(constants["rows_base"], constants["rows_fraction"], H)
    cols = linear_matrix(constants["cols_base"], constants["cols_fraction"], W)
    flakes = filter_image(flakes, rows, cols)
    flakes = jnp.where(flakes < constants["threshold"], 0.0, flakes)
    flakes = jnp.floor(jnp.clip(flakes, 0.0, 1.0) * 255.0)
    flakes = motion_blur(flakes, draws["angle"], **constants["motion"])[..., None]
    gray = (0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2])[..., None]
    whitened = jnp.maximum(image, 1.5 * gray + 127.5)
    mixed = constants["mix"] * image + (1.0 - constants["mix"]) * whitened
    return mixed + flakes + jnp.rot90(flakes, 2)


# --- fog ---


def _fog_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    weight, decay, size = zip(*rows, strict=True)
    if max(shape) > size[0]:
        raise ValueError(
            f"fog of this preset covers images of up to {size[0]} pixels per side; found "
            f"{shape[0]} x {shape[1]}; choose the preset of a larger size"
        )
    return {
        "weight": by_severity(weight, severity),
        "decay": by_severity(decay, severity),
        "size": size[0],
    }


def _draw_fog(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    number = constants["size"] ** 2 - 1
    return {"u": random_arrays.uniform(key, (number,), -1.0, 1.0)}


def _fog(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    H, W, _ = image.shape
    image = image.astype(jnp.float32)
    cloud = plasma(draws["u"], constants["decay"], constants["size"])[:H, :W, None]
    brightest = image.max()
    weight = constants["weight"]
    # Scaled back so that a white pixel in the densest fog stays at the brightest value.
    return (image + 255.0 * weight * cloud) * brightest / (brightest + 255.0 * weight)


# --- frost ---

FROST_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


@functools.lru_cache(maxsize=4)
def _frost_photographs(frost_dir: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The photographs [5, h, w, 3] uint8, padded with zeros, and their [5, 2] sizes."""
    from PIL import Image  # only frost reads files

    photographs = []
    for name in FROST_FILES:
        path = pathlib.Path(frost_dir) / name
        if not path.is_file():
            raise ValueError(f"frost_dir has no file {name}: {_where_frost_is(frost_dir)}")
        with Image.open(path) as file:
            photographs.append(_shrink(np.asarray(file.convert("RGB")), scale))
    sizes = np.array([photograph.shape[:2] for photograph in photographs])
    bank = np.zeros((len(photographs), *sizes.max(axis=0), 3), np.uint8)
    for slot, photograph in zip(bank, photographs, strict=True):
        slot[: photograph.shape[0], : photograph.shape[1]] = photograph
    return bank, sizes


def _shrink(image: np.ndarray, scale: float) -> np.ndarray:
    """Bilinear resizing of [H, W, 3] uint8 as OpenCV does it, in fixed point and without smoothing.

    Weights have 11 bits; the vertical pass drops bits before it rounds, which darkens by up to one
    level where both weights are fractions.
    """
    if scale == 1:
        return image

    def taps(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position = (np.arange(round(size * scale)) + 0.5) / scale - 0.5
        position = np.clip(position, 0, size - 1).astype(np.float32)
        low = np.floor(position).astype(int)
        weight = np.rint((position - low) * 2048).astype(int)
        return low, np.minimum(low + 1, size - 1), weight

    pixels = image.astype(int)
    low, high, weight = taps(image.shape[1])
    weight = weight[None, :, None]
    columns = (pixels[:, low] * (2048 - weight) + pixels[:, high] * weight) >> 4
    low, high, weight = taps(image.shape[0])
    weight = weight[:, None, None]
    rows = (columns[low] * (2048 - weight) >> 16) + (columns[high] * weight >> 16)
    return ((rows + 2) >> 2).astype(np.uint8)


def _where_frost_is(found: object) -> str:
    return (
        f"found {found!r}; expected a directory with {', '.join(FROST_FILES)}. They come with the "
        "scripts of ImageNet-C (github.com/hendrycks/robustness, folder "
        "ImageNet-C/imagenet_c/imagenet_c/frost) and are not ours to distribute. "
        "'frost_procedural' needs none, but is another corruption and no part of the benchmark"
    )


def _frost_constants(
    rows: Rows, shape: tuple[int, int], severity: Any, frost_dir: str | None = None
) -> dict[str, Any]:
    if frost_dir is None:
        raise ValueError(f"frost_dir: {_where_frost_is(frost_dir)}")
    image_weight, frost_weight, scale = zip(*rows, strict=True)
    bank, sizes = _frost_photographs(str(frost_dir), scale[0])
    room = sizes - np.asarray(shape)
    if room.min() < 1:
        raise ValueError(
            f"frost: images of {shape[0]} x {shape[1]} do not fit into the smallest photograph, "
            f"{sizes[:, 0].min()} x {sizes[:, 1].min()}; choose the preset of a larger size"
        )
    return {
        "image_weight": by_severity(image_weight, severity),
        "frost_weight": by_severity(frost_weight, severity),
        "photographs": jnp.asarray(bank),
        "room": jnp.asarray(room, jnp.int32),
    }


def _draw_frost(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    keys = jax.random.split(key, 3)
    idx = jax.random.randint(keys[0], (), 0, len(FROST_FILES), jnp.int32)
    room = constants["room"][idx]
    return {
        "idx": idx,
        "row": jax.random.randint(keys[1], (), 0, room[0], jnp.int32),
        "col": jax.random.randint(keys[2], (), 0, room[1], jnp.int32),
    }


def _frost(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    H, W, _ = image.shape
    start = (draws["idx"], draws["row"], draws["col"], 0)
    crop = jax.lax.dynamic_slice(constants["photographs"], start, (1, H, W, 3))[0]
    return constants["image_weight"] * image + constants["frost_weight"] * crop


def _frost_procedural_constants(
    rows: Rows, shape: tuple[int, int], severity: Any
) -> dict[str, Any]:
    image_weight, frost_weight, _ = zip(*rows, strict=True)
    return {
        "image_weight": by_severity(image_weight, severity),
        "frost_weight": by_severity(frost_weight, severity),
        "size": 1 << (max(shape) - 1).bit_length(),
    }


def _draw_frost_procedural(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    number = constants["size"] ** 2 - 1
    return {"u": random_arrays.uniform(key, (2, number), -1.0, 1.0)}


def _frost_procedural(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """White veins along the level lines of one fractal, denser where another is high."""
    H, W, _ = image.shape
    decays = jnp.asarray([1.6, 2.0], jnp.float32)
    fractals = jax.vmap(plasma, in_axes=(0, 0, None))(draws["u"], decays, constants["size"])
    veins, cover = fractals[:, :H, :W]
    veins = (1.0 - jnp.abs(2.0 * veins - 1.0)) ** 4
    ice = (0.3 + 0.7 * veins) * (0.25 + 0.75 * cover)
    blueish = jnp.asarray([[[0.85, 0.95, 1.0]]], jnp.float32)
    frost = 255.0 * ice[..., None] * blueish
    return constants["image_weight"] * image + constants["frost_weight"] * frost


SNOW = Corruption("snow", "weather", _snow_constants, _snow, _draw_snow)
FOG = Corruption("fog", "weather", _fog_constants, _fog, _draw_fog)
FROST = Corruption("frost", "weather", _frost_constants, _frost, _draw_frost, ("frost_dir",))
FROST_PROCEDURAL = Corruption(
    "frost_procedural",
    "procedural",
    _frost_procedural_constants,
    _frost_procedural,
    _draw_frost_procedural,
)
