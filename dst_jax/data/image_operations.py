"""Pillow's image operations as pure JAX functions of one image, to be mapped over a batch.

Under `vmap` every image of a batch draws its own operation. Computing all fifteen for each image
and picking one would cost fifteen times as much as needed, so operations of one kind share their
work: all geometric ones are one warp, all that treat each grey level by itself one look-up table.
An image passes the kinds that it did not draw unchanged, bit by bit.

No library would do: dm-pix 0.4.5 and augmax 0.4.1 have no equalize, posterize, autocontrast, shear
or sharpness, and their others are not Pillow's, which the recipes were tuned with. The tests hold
every operation here against Pillow. Called by `autoaugment`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

WARPS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
TABLES = ("autocontrast", "equalize", "invert", "posterize", "solarize", "solarize_add")
BLENDS = ("brightness", "contrast", "color", "sharpness")
OPERATIONS = (*WARPS, *TABLES, *BLENDS)
"""Names of the operations. What `value` means for each:

`shear_*`: tangent of the angle, about the upper left corner; `translate_*`: pixels to the left or
up; `rotate`: degrees, counter-clockwise; `posterize`: bits kept, 1..8; `solarize`: grey level from
which on the image is inverted; `solarize_add`: grey levels added to those below 128; the four of
`BLENDS`: factor, 1 for the image itself, 0 for black, grey, without colour, smoothed. The others
take none.
"""


def apply(
    image: jax.Array,
    names: Sequence[str],
    choice: jax.Array | int,
    value: jax.Array | float,
    fill: Sequence[float],
) -> jax.Array:
    """Applies one operation of several to an image.

    Args:
      image: uint8 [H, W, 3].
      names: operations to choose from, among `OPERATIONS`; only their kinds are compiled.
      choice: index into `names`, may be traced; any other number leaves the image as it is.
      value: see `OPERATIONS`.
      fill: three grey levels, 0..255, for what a warp brings in from outside.

    Returns:
      uint8 [H, W, 3].
    """
    chosen = {name: jnp.asarray(choice == number) for number, name in enumerate(names)}
    value = jnp.asarray(value, jnp.float32)
    # The barriers keep XLA from working a stage out anew for each of its uses in the next one.
    if chosen.keys() & set(WARPS):
        image = warp(image, _matrix(image, chosen, value), fill)
        image = jax.lax.optimization_barrier(image)
    if chosen.keys() & set(TABLES):
        table = jax.lax.optimization_barrier(_table(image, chosen, value))
        image = table.at[_bins(image)].get(mode="promise_in_bounds")
        image = jax.lax.optimization_barrier(image)
    if chosen.keys() & set(BLENDS):
        image = _blend(image, chosen, value)
    return image


def _matrix(image: jax.Array, chosen: dict[str, jax.Array], value: jax.Array) -> Sequence:
    """The six numbers of Pillow's affine transform from output to input pixels."""
    height, width, _ = image.shape
    drawn = {name: jnp.where(chosen.get(name, False), value, 0.0) for name in WARPS}
    angle = jnp.deg2rad(drawn["rotate"])
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = width / 2, height / 2  # the centre stays where it is
    return (
        *(cos, drawn["shear_x"] - sin, drawn["translate_x"] + x - cos * x + sin * y),
        *(drawn["shear_y"] + sin, cos, drawn["translate_y"] + y - sin * x - cos * y),
    )


def warp(image: jax.Array, matrix: Sequence, fill: Sequence[float]) -> jax.Array:
    """Pillow's `transform(size, AFFINE, matrix, BILINEAR)`.

    Args:
      image: uint8 [H, W, C].
      matrix: a, b, c, d, e, f: the pixel whose centre is (x, y) takes the value of the image at
        (a x + b y + c, d x + e y + f).
      fill: C grey levels for places outside the image.

    Returns:
      uint8 [H, W, C]. Grey levels may differ from Pillow's, which computes in double, by 1.
    """
    height, width, channels = image.shape
    a, b, c, d, e, f = matrix
    y = (jnp.arange(height, dtype=jnp.float32) + 0.5)[:, None]
    x = (jnp.arange(width, dtype=jnp.float32) + 0.5)[None, :]
    x, y = a * x + b * y + c, d * x + e * y + f
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x - 0.5, y - 0.5
    left, top = jnp.floor(x), jnp.floor(y)
    right_share, bottom_share = (x - left)[..., None], (y - top)[..., None]
    pixels = image.reshape(height * width, channels)

    def at(row: jax.Array, column: jax.Array) -> jax.Array:
        row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
        column = jnp.clip(column, 0, width - 1).astype(jnp.int32)
        found = pixels.at[row * width + column].get(mode="promise_in_bounds")
        return found.astype(jnp.float32)

    upper = _between(at(top, left), at(top, left + 1), right_share)
    lower = _between(at(top + 1, left), at(top + 1, left + 1), right_share)
    warped = _between(upper, lower, bottom_share)
    outside = jnp.asarray(fill, jnp.float32).reshape(1, 1, channels)
    return jnp.where(inside[..., None], warped, outside).astype(jnp.uint8)


def _between(first: jax.Array, second: jax.Array, share: jax.Array) -> jax.Array:
    return first + share * (second - first)


def _bins(image: jax.Array) -> jax.Array:
    """Which of the 256 bins of each channel a value belongs to, int32 [H, W, C]."""
    offsets = 256 * jnp.arange(image.shape[-1]).reshape(1, 1, -1)
    return offsets + image.astype(jnp.int32)


def _table(image: jax.Array, chosen: dict[str, jax.Array], value: jax.Array) -> jax.Array:
    """The new grey level of each old one, uint8 [C * 256]; the old one where none was chosen."""
    channels = image.shape[-1]
    level = jnp.arange(256)[None, :]
    empty, bins = jnp.zeros(channels * 256, jnp.int32), _bins(image).reshape(-1)
    counts = empty.at[bins].add(1, mode="promise_in_bounds").reshape(channels, 256)
    made = {
        "autocontrast": lambda: _stretched(counts, level),
        "equalize": lambda: _equalized(counts, level),
        "invert": lambda: 255 - level,
        "posterize": lambda: level & (256 - jnp.left_shift(1, 8 - value.astype(jnp.int32))),
        "solarize": lambda: jnp.where(level < value, level, 255 - level),
        "solarize_add": lambda: jnp.where(
            level < 128, jnp.minimum(255, level + value.astype(jnp.int32)), level
        ),
    }
    table = jnp.broadcast_to(level, (channels, 256))
    for name in TABLES:
        if name in chosen:
            table = jnp.where(chosen[name], made[name](), table)
    return table.astype(jnp.uint8).reshape(-1)


def _stretched(counts: jax.Array, level: jax.Array) -> jax.Array:
    """`ImageOps.autocontrast`: the darkest level becomes 0 and the brightest 255."""
    low = jnp.min(jnp.where(counts > 0, level, 255), axis=-1, keepdims=True)
    high = jnp.max(jnp.where(counts > 0, level, 0), axis=-1, keepdims=True)
    stretched = (level - low) * 255 // jnp.maximum(1, high - low)
    return jnp.where(high > low, jnp.clip(stretched, 0, 255), level)


def _equalized(counts: jax.Array, level: jax.Array) -> jax.Array:
    """`ImageOps.equalize`: all grey levels about equally frequent."""
    brightest = jnp.max(jnp.where(counts > 0, level, 0), axis=-1, keepdims=True)
    # The pixels below each level, and below the brightest; `cumsum` is slow on a CPU, and these
    # sums are whole numbers below 2^24.
    lower = (level > level.T).astype(jnp.float32)
    below = jnp.matmul(counts.astype(jnp.float32), lower, precision="highest").astype(jnp.int32)
    step = jnp.sum(jnp.where(level < brightest, counts, 0), axis=-1, keepdims=True) // 255
    equalized = (step // 2 + below) // jnp.maximum(1, step)
    return jnp.where(step > 0, jnp.clip(equalized, 0, 255), level)


def _blend(image: jax.Array, chosen: dict[str, jax.Array], value: jax.Array) -> jax.Array:
    """`ImageEnhance`: on the line from a degenerate image through the image itself."""
    original = image.astype(jnp.float32)
    made = {
        "brightness": lambda: jnp.zeros_like(original),
        "contrast": lambda: jnp.floor(_grey(image).mean(keepdims=True) + 0.5),
        "color": lambda: _grey(image),
        "sharpness": lambda: _smooth(original),
    }
    blended = original
    for name in BLENDS:
        if name in chosen:
            degenerate = made[name]()
            enhanced = degenerate + value * (original - degenerate)
            blended = jnp.where(chosen[name], enhanced, blended)
    return jnp.clip(blended, 0, 255).astype(jnp.uint8)  # Pillow cuts the fraction off


def _grey(image: jax.Array) -> jax.Array:
    """Pillow's `convert("L")`, whole numbers: float32 [H, W, 1]."""
    red, green, blue = (image[..., channel].astype(jnp.int32) for channel in range(3))
    grey = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return grey[..., None].astype(jnp.float32)


def _smooth(image: jax.Array) -> jax.Array:
    """Pillow's `ImageFilter.SMOOTH`, the border as it was: float32 [H, W, C], whole numbers."""
    height, width, _ = image.shape
    if height < 3 or width < 3:
        return image
    around = sum(
        image[row : height - 2 + row, column : width - 2 + column]
        for row in range(3)
        for column in range(3)
    )
    smooth = jnp.floor((around + 4 * image[1:-1, 1:-1]) / 13 + 0.5)
    inner = ((1, 1), (1, 1), (0, 0))
    is_inner = jnp.pad(jnp.ones_like(smooth, bool), inner)
    return jnp.where(is_inner, jnp.pad(smooth, inner), image)
