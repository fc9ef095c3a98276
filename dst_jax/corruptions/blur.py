"""Blurs: Gaussian, defocus, motion and zoom blur. Glass blur has a file of its own.

Called through the registry; `weather.snow` and `glass` share the motion blur and the Gaussian
matrices.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity, no_draw
from dst_jax.corruptions.constants import Rows
from dst_jax.corruptions.filters import (
    border_index,
    filter_image,
    gaussian_matrix,
    linear_matrix,
    pad_image,
    zoom_positions,
)


def gaussian_matrices(sigmas: Any, shape: tuple[int, int], severity: Any) -> dict[str, jax.Array]:
    """The matrices of a Gaussian filter whose border repeats the edge, cut at 4 deviations.

    Args:
      sigmas: five standard deviations in pixels.
      shape: (H, W).
      severity: 1..5, may be traced.

    Returns:
      {"rows": [H, H], "cols": [W, W]}, for `filter_image`.
    """
    return {
        axis: by_severity([gaussian_matrix(size, s, "edge", 4.0) for s in sigmas], severity)
        for axis, size in zip(("rows", "cols"), shape, strict=True)
    }


_FEW_TAPS = 6  # the largest radius whose taps are summed one by one


def gaussian_smoothing(sigmas: Any, shape: tuple[int, int], severity: Any) -> dict[str, jax.Array]:
    """What `smooth` needs, for the filter of `gaussian_matrices`.

    Returns:
      {"taps": [R] float32, the weights beside the middle one} if no kernel is wider than 6 pixels
      to a side, else the matrices.
    """
    radii = [int(4.0 * sigma + 0.5) for sigma in sigmas]
    if max(radii) > _FEW_TAPS:
        return gaussian_matrices(sigmas, shape, severity)
    taps = np.zeros((5, max(radii)))
    for row, radius, sigma in zip(taps, radii, sigmas, strict=True):
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        row[:radius] = weights[radius + 1 :] / weights.sum()
    return {"taps": by_severity(taps, severity)}


def smooth(image: jax.Array, smoothing: Mapping[str, jax.Array]) -> jax.Array:
    """A Gaussian filter of [H, W, C] whole grey levels.

    Narrow kernels leave much of an image within 1e-5 of a whole level, below the resolution of
    float32 at 255, and truncation tells one side from the other. With taps the *change* of every
    pixel is computed, from differences, and added so that it never rounds up to a level.

    Args:
      image: [H, W, C] float32, whole numbers in 0..255.
      smoothing: from `gaussian_smoothing`.

    Returns:
      [H, W, C] float32.
    """
    if "taps" not in smoothing:
        return filter_image(image, smoothing["rows"], smoothing["cols"])
    taps = smoothing["taps"]
    radius = taps.shape[0]

    def change(values: jax.Array, axis: int) -> jax.Array:
        size = values.shape[axis]
        margins = [(radius, radius) if i == axis else (0, 0) for i in range(3)]
        padded = jnp.pad(values, margins, mode="edge")
        total = jnp.zeros(values.shape, jnp.float32)
        for i in range(radius, 0, -1):  # small ones first
            before = jax.lax.slice_in_dim(padded, radius - i, radius - i + size, axis=axis)
            after = jax.lax.slice_in_dim(padded, radius + i, radius + i + size, axis=axis)
            total += taps[i - 1] * ((before - values) + (after - values))
        return total

    vertical = change(image, 0)
    both = vertical + (change(image, 1) + change(vertical, 1))
    whole = jnp.floor(both)
    # The largest fraction that float32 holds beside 255.
    return image + whole + jnp.minimum(both - whole, 1.0 - 2.0**-16)


def _gaussian_blur(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    del draws
    return smooth(image.astype(jnp.float32), constants)


# --- defocus ---


def _disk(radius: float, softness: float) -> np.ndarray:
    """A disk with a soft edge, [K, K]; as published it does not always sum to 1."""
    half = 8 if radius <= 8 else int(radius)
    lattice = np.arange(-half, half + 1)
    disk = (lattice[:, None] ** 2 + lattice[None, :] ** 2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    edge = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    weights = np.exp(-(edge**2) / (2 * softness**2))
    weights /= weights.sum()
    # The softening mirrors at the lattice's border: a disk that touches it gains mass there.
    sources = border_index(np.arange(2 * half + 1)[:, None] + edge, 2 * half + 1, "reflect_101")
    soften = np.zeros(disk.shape)
    np.add.at(soften, (np.arange(2 * half + 1)[:, None], sources), weights)
    return soften @ disk @ soften.T


@functools.lru_cache(maxsize=32)
def _disk_spectra(rows: Rows, shape: tuple[int, int]) -> tuple[int, tuple[int, int], np.ndarray]:
    """The margin that the largest disk needs, lengths (P, Q), spectra [5, P, Q // 2 + 1]."""
    from scipy import fft  # here: the other corruptions do not need it

    disks = [_disk(*row) for row in rows]
    halves = [disk.shape[0] // 2 for disk in disks]
    margins = [
        max(abs(i - half) for i in np.nonzero(disk.any(axis=0))[0])
        for disk, half in zip(disks, halves, strict=True)
    ]
    margin = max(margins)
    # `real`: only factors 2, 3 and 5. Other lengths would be other bits.
    P, Q = (fft.next_fast_len(size + 2 * int(margin), real=True) for size in shape)
    spectra = []
    for disk, half in zip(disks, halves, strict=True):
        kernel = np.zeros((P, Q))
        offsets = np.arange(-margin, margin + 1)
        inside = offsets[abs(offsets) <= half]
        kernel[np.ix_(inside % P, inside % Q)] = disk[np.ix_(inside + half, inside + half)]
        # The disk is symmetric, so that its spectrum is real.
        spectra.append(np.fft.rfft2(kernel).real)
    return int(margin), (P, Q), np.stack(spectra)


def _defocus_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    margin, lengths, spectra = _disk_spectra(rows, shape)
    return {"spectrum": by_severity(spectra, severity), "margin": margin, "lengths": lengths}


def _defocus_blur(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Convolves through the Fourier transform: ten times faster than 21 x 21 taps on a CPU."""
    del draws
    H, W, _ = image.shape
    margin, lengths = constants["margin"], constants["lengths"]
    padded = pad_image(image.astype(jnp.float32), margin, "reflect_101")
    # Not a transposition: on several CPU devices XLA would hand it to its Fourier transform in a
    # layout that this one refuses.
    planes = jnp.stack([padded[..., c] for c in range(padded.shape[-1])])
    planes = jnp.fft.irfft2(
        jnp.fft.rfft2(planes, s=lengths) * constants["spectrum"][None], s=lengths
    )
    return jnp.moveaxis(planes[:, margin : margin + H, margin : margin + W], 0, -1)


# --- motion ---


def motion_weights(radii_sigmas: Any, severity: Any) -> dict[str, jax.Array]:
    """The taps of a motion blur: {"weights": [T] float32, "taps": how many of them count}."""
    counts = [int(2 * np.ceil(radius)) + 1 for radius, _ in radii_sigmas]
    table = np.zeros((5, max(counts)))
    for row, count, (_, sigma) in zip(table, counts, radii_sigmas, strict=True):
        row[:count] = np.exp(-(np.arange(count) ** 2) / (2 * sigma**2))
        row /= row.sum()
    return {"weights": by_severity(table, severity), "taps": by_severity(counts, severity)}


def motion_blur(
    image: jax.Array, angle: jax.Array, weights: jax.Array, taps: jax.Array
) -> jax.Array:
    """ImageMagick's motion blur: a one-sided Gaussian trail, edges repeated, 16-bit quantised.

    Args:
      image: [H, W, ..] float32 grey levels.
      angle: degrees.
      weights: [T] float32, zero beyond the first `taps`.
      taps: int32, how many taps to sum.

    Returns:
      [H, W, ..] float32, whole grey levels.
    """
    margin = weights.shape[0] - 1
    padded = pad_image(image, margin, "edge")
    radians = jnp.deg2rad(angle)

    def add_tap(i: jax.Array, total: jax.Array) -> jax.Array:
        row = jnp.ceil(i * jnp.sin(radians) - 0.5).astype(jnp.int32)
        col = jnp.ceil(i * jnp.cos(radians) - 0.5).astype(jnp.int32)
        start = [row + margin, col + margin] + [jnp.int32(0)] * (image.ndim - 2)
        return total + weights[i] * jax.lax.dynamic_slice(padded, start, image.shape)

    mean = jax.lax.fori_loop(0, taps, add_tap, jnp.zeros(image.shape, jnp.float32))
    # 16 bits while it works, then 8 bits in the file it writes, which cuts off.
    return jnp.floor(jnp.floor(257.0 * mean + 0.5) / 257.0)


def _motion_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    del shape
    return motion_weights(rows, severity)


def _draw_angle(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape, constants
    return {"angle": jax.random.uniform(key, (), jnp.float32, -45.0, 45.0)}


def _motion_blur(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    return motion_blur(image.astype(jnp.float32), draws["angle"], **constants)


# --- zoom ---


def _zoom_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    # numpy decides how many factors there are: arange(1, 1.11, 0.01) includes 1.11,
    # arange(1, 1.16, 0.01) excludes 1.16.
    factors = [np.arange(*row) for row in rows]
    counts = [len(f) for f in factors]
    constants: dict[str, Any] = {"count": by_severity(counts, severity)}
    for axis, size in zip(("rows", "cols"), shape, strict=True):
        bases = np.zeros((5, max(counts), size), np.int64)
        fractions = np.zeros((5, max(counts), size))
        for s, f in enumerate(factors):
            for i, factor in enumerate(f):
                bases[s, i], fractions[s, i] = zoom_positions(size, float(factor))
        constants[f"{axis}_base"] = by_severity(bases, severity)
        constants[f"{axis}_fraction"] = by_severity(fractions, severity)
    return constants


def _zoom_blur(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """The mean of the image and its enlargements."""
    del draws
    image = image.astype(jnp.float32)
    H, W, _ = image.shape

    def add_zoomed(i: jax.Array, total: jax.Array) -> jax.Array:
        rows = linear_matrix(constants["rows_base"][i], constants["rows_fraction"][i], H)
        cols = linear_matrix(constants["cols_base"][i], constants["cols_fraction"][i], W)
        return total + filter_image(image, rows, cols)

    total = jax.lax.fori_loop(0, constants["count"], add_zoomed, image)
    return total / (constants["count"] + 1)


GAUSSIAN_BLUR = Corruption("gaussian_blur", "extra", gaussian_smoothing, _gaussian_blur, no_draw)
DEFOCUS_BLUR = Corruption("defocus_blur", "blur", _defocus_constants, _defocus_blur, no_draw)
MOTION_BLUR = Corruption("motion_blur", "blur", _motion_constants, _motion_blur, _draw_angle)
ZOOM_BLUR = Corruption("zoom_blur", "blur", _zoom_constants, _zoom_blur, no_draw)
