"""JPEG compression and decompression in integers, bit for bit as libjpeg does it.

Entropy coding loses nothing and is left out. What remains is arithmetic: 4:2:0 chroma, the accurate
integer DCT ("islow"), quantisation, and triangle ("fancy") upsampling. `jpeg85` is the form in
which ImageNet-C and Tiny-ImageNet-C were saved; the corruption is called through the registry.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity, no_draw
from dst_jax.corruptions.constants import Rows

# The example tables of ITU-T T.81, annex K.1, for luminance and chrominance.
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMINANCE = np.full((8, 8), 99)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def quantisation_tables(quality: int) -> np.ndarray:
    """[2, 8, 8] int steps (luminance, chrominance) of a quality 1..100."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = np.stack([_LUMINANCE, _CHROMINANCE])
    return np.clip((tables * percent + 50) // 100, 1, 255)


def _cosines() -> np.ndarray:
    """The [frequency, position] int matrix of the 8-point DCT, times sqrt(8) * 2**13.

    Loeffler, Ligtenberg & Moschytz 1989 factor it into few products. Rounding their factors to 13
    bits gives entries that differ in the last unit from rounded cosines, and bit-exactness needs
    just these; a pass rounds only at its end, so that the product is all there is to it.
    """

    def fixed(value: float) -> int:
        return round(value * 2**13)

    x = np.eye(8, dtype=np.int64)
    even, odd = x[:4] + x[7:3:-1], x[:4] - x[7:3:-1]
    outer, inner = even[0] + even[3], even[1] + even[2]
    rotated = (even[0] - even[3] + even[1] - even[2]) * fixed(0.541196100)
    a, b, c, d = odd  # x0 - x7, x1 - x6, x2 - x5, x3 - x4
    both = (a + b + c + d) * fixed(1.175875602)
    da, cb = (d + a) * fixed(-0.899976223), (c + b) * fixed(-2.562915447)
    db, ca = (d + b) * fixed(-1.961570560) + both, (c + a) * fixed(-0.390180644) + both
    return np.stack(
        [
            (outer + inner) << 13,
            a * fixed(1.501321110) + da + ca,
            rotated + (even[0] - even[3]) * fixed(0.765366865),
            b * fixed(3.072711026) + cb + db,
            (outer - inner) << 13,
            c * fixed(2.053119869) + cb + ca,
            rotated - (even[1] - even[2]) * fixed(1.847759065),
            d * fixed(0.298631336) + da + db,
        ]
    )


_DCT = _cosines()


def _transform(blocks: jax.Array, matrix: np.ndarray, axis: int, shift: int) -> jax.Array:
    """Multiplies an axis of length 8 by an integer matrix and divides by 2**shift, rounding."""
    # Products and their sum, not a matrix product: that exists for int32 on few accelerators.
    ones = (1,) * (blocks.ndim - axis - 1)
    weights = jnp.asarray(matrix, jnp.int32).reshape((1,) * axis + (8, 8) + ones)
    total = (jnp.expand_dims(blocks, axis) * weights).sum(axis=axis + 1)
    return (total + (1 << (shift - 1))) >> shift


def _apart(value: Any) -> Any:
    """The same, computed once: what comes after would repeat sums of eight for each of its terms.

    With JAX 0.12 on CPUs that is 0.6 of the time; with 0.10 XLA merges the parts all the same.
    """
    return jax.lax.optimization_barrier(value)


def _code_plane(plane: jax.Array, steps: jax.Array) -> jax.Array:
    """Codes and decodes one plane of [H, W] int32 samples, H and W multiples of 8."""
    H, W = plane.shape
    blocks = plane.reshape(H // 8, 8, W // 8, 8) - 128
    blocks = _transform(blocks, _DCT, axis=3, shift=11)
    blocks = _transform(blocks, _DCT, axis=1, shift=15)
    # The coefficients come 8 times too large; division rounds half away from zero. It is exact in
    # float32, and faster than in integers: the added half keeps quotients off whole numbers by far
    # more than rounding moves them.
    steps = steps[None, :, None, :]
    divisor = steps * 8
    numerator = (jnp.abs(blocks) + divisor // 2).astype(jnp.float32) + 0.5
    quotient = jnp.floor(numerator / divisor.astype(jnp.float32)).astype(jnp.int32)
    levels = jnp.sign(blocks) * quotient
    blocks = _apart(levels * steps)
    blocks = _transform(blocks, _DCT.T, axis=1, shift=11)
    blocks = _transform(blocks, _DCT.T, axis=3, shift=18)
    return _apart(jnp.clip(blocks + 128, 0, 255)).reshape(H, W)


def _to_ycc(image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[H, W, 3] int32 RGB -> three [H, W] planes, with 16-bit weights."""
    r, g, b = image[..., 0], image[..., 1], image[..., 2]
    luma = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
    middle = (128 << 16) + 32767
    blue = (-11059 * r - 21709 * g + 32768 * b + middle) >> 16
    red = (32768 * r - 27439 * g - 5329 * b + middle) >> 16
    return luma, blue, red


def _to_rgb(luma: jax.Array, blue: jax.Array, red: jax.Array) -> jax.Array:
    blue, red = blue - 128, red - 128
    r = luma + ((91881 * red + 32768) >> 16)
    g = luma + ((-22554 * blue - 46802 * red + 32768) >> 16)
    b = luma + ((116130 * blue + 32768) >> 16)
    return jnp.clip(jnp.stack([r, g, b], axis=-1), 0, 255)


def _pad_to(plane: jax.Array, height: int, width: int) -> jax.Array:
    return jnp.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), mode="edge")


def _halve(plane: jax.Array) -> jax.Array:
    """Means of 2 x 2 samples; the rounding bias alternates between 1 and 2 along a row."""
    H, W = plane.shape
    total = plane.reshape(H // 2, 2, W // 2, 2).sum(axis=(1, 3))
    bias = jnp.asarray(np.arange(W // 2) % 2 + 1, jnp.int32)
    return (total + bias[None, :]) >> 2


def _double(plane: jax.Array) -> jax.Array:
    """Triangle interpolation to twice the size: weights 3:1, first along columns, then rows."""

    def neighbours(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
        padded = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(2)], mode="edge")
        size = x.shape[axis]
        before = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
        return before, jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)

    H, W = plane.shape
    above, below = neighbours(plane, 0)
    plane = jnp.stack([3 * plane + above, 3 * plane + below], axis=1).reshape(2 * H, W)
    left, right = neighbours(plane, 1)
    pair = [(3 * plane + left + 8) >> 4, (3 * plane + right + 7) >> 4]
    return jnp.stack(pair, axis=2).reshape(2 * H, 2 * W)


def code_image(image: jax.Array, steps: jax.Array) -> jax.Array:
    """Compresses and decompresses one image.

    Args:
      image: [H, W, 3] uint8 RGB, any size (incomplete blocks repeat the last pixels).
      steps: [2, 8, 8] int32, see `quantisation_tables`.

    Returns:
      [H, W, 3] int32 in 0..255.
    """
    H, W, _ = image.shape
    whole_h, whole_w = -(-H // 16) * 16, -(-W // 16) * 16
    luma, blue, red = _apart(_to_ycc(image.astype(jnp.int32)))
    luma = _code_plane(_pad_to(luma, whole_h, whole_w), steps[0])[:H, :W]

    def code_chroma(plane: jax.Array) -> jax.Array:
        # Rows are completed before and after halving, columns before it, as libjpeg does.
        small = _halve(_pad_to(plane, H + H % 2, whole_w))
        small = _code_plane(_pad_to(small, whole_h // 2, whole_w // 2), steps[1])
        return _double(small[: (H + 1) // 2, : (W + 1) // 2])[:H, :W]

    return _to_rgb(luma, code_chroma(blue), code_chroma(red))


def saved_as_jpeg(images: jax.Array, quality: int) -> jax.Array:
    """Images after they were saved as JPEG with Pillow, and read back.

    Args:
      images: [B, H, W, 3] uint8.
      quality: 1..100; 75 is Pillow's default.

    Returns:
      [B, H, W, 3] uint8.
    """
    steps = jnp.asarray(quantisation_tables(quality), jnp.int32)
    return jax.vmap(lambda image: code_image(image, steps))(images).astype(jnp.uint8)


def jpeg85(images: jax.Array) -> jax.Array:
    """The save step of ImageNet-C: JPEG of quality 85, read back.

    `jpeg85(corrupt(...))` is what the published files of ImageNet-C and Tiny-ImageNet-C hold;
    CIFAR-10-C was saved without loss.

    Args:
      images: [B, H, W, 3] uint8.

    Returns:
      [B, H, W, 3] uint8.
    """
    return saved_as_jpeg(images, 85)


def _jpeg_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    del shape
    return {"steps": by_severity([quantisation_tables(quality) for quality in rows], severity)}


def _jpeg_compression(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    del draws
    return code_image(image, constants["steps"]).astype(jnp.float32)


JPEG_COMPRESSION = Corruption(
    "jpeg_compression", "digital", _jpeg_constants, _jpeg_compression, no_draw
)
