"""Which frequencies: masks, waves and the grid of the Fourier heat map, in NumPy alone.

Frequencies are whole periods per image, from -N/2 on. Attenuation is that of Wu et al. 2025
(section 5.2, figure 6), heat map and noise those of Yin et al. 2019. Called by `spectral`, which
puts them on the device, and by the report, which imports no JAX.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Band = Literal["low", "high"]

# l2 norm of the heat map's perturbation, a channel, pixels in [0, 1], by side of the image (Yin et
# al. 2019 and their code).
HEAT_MAP_NORMS = {32: 4.0, 224: 15.7}
# Side of the square of frequencies around 0 that the published maps show.
HEAT_MAP_EXTENTS = {224: 63}


def along_axis(size: int) -> np.ndarray:
    """Whole frequencies of an image of that side, in the order of `np.fft`: int [size]."""
    return np.rint(np.fft.fftfreq(size) * size).astype(int)


def _larger(size: int) -> np.ndarray:
    """max(|fy|, |fx|) of each coefficient, in the order of `np.fft`: int [size, size]."""
    f = np.abs(along_axis(size))
    return np.maximum(f[:, None], f[None, :])


def attenuation(size: int, radius: float, band: Band) -> np.ndarray:
    """Which Fourier coefficients an attenuation leaves (Wu et al. 2025, figure 6).

    Square regions, symmetric about frequency 0, so that the image stays real: `low` removes those
    with max(|fy|, |fx|) < radius / 2, `high` those with max(|fy|, |fx|) > (size - radius) / 2. A
    larger radius removes more in both; 0 removes nothing.

    Args:
      size: side N of the image, in pixels.
      radius: side of the removed square, or twice the width of the removed frame, 0 to N + 1.
      band: which frequencies are removed.

    Returns:
      bool [N, N], True = kept, in the order of `np.fft.fft2`.
    """
    larger = _larger(size)
    return larger >= radius / 2 if band == "low" else larger <= (size - radius) / 2


def fourier_basis(size: int, fy: int, fx: int) -> np.ndarray:
    """The real image of unit l2 norm whose spectrum is zero but at +-(fy, fx): float32 [N, N]."""
    y, x = np.mgrid[:size, :size]
    wave = np.cos(2 * np.pi * (fy * y + fx * x) / size)
    return (wave / np.linalg.norm(wave)).astype(np.float32)


def heat_map_axis(size: int, extent: int, step: int = 1) -> np.ndarray:
    """The frequencies along an axis of a heat map: multiples of `step` in a square around 0.

    Args:
      size: side of the image.
      extent: side of the square, at most `size`; `size` includes the highest frequency -N/2.
      step: 1: every frequency; larger ones thin the grid.
    """
    around = np.arange(-(extent // 2), extent - extent // 2)
    if extent > size:
        raise ValueError(f"extent: found {extent}; expected at most the side of the image, {size}")
    return around[around % step == 0]


def heat_map_cells(size: int, axis: Sequence[int]) -> np.ndarray:
    """The distinct cells of a heat map: of each pair of mirror images one, int [cells, 2]."""
    seen: set[tuple[int, int]] = set()
    cells = []
    for fy in map(int, axis):
        for fx in map(int, axis):
            if (-fy % size, -fx % size) not in seen:
                seen.add((fy % size, fx % size))
                cells.append((fy, fx))
    return np.array(cells, int).reshape(-1, 2)


def heat_map_square(
    size: int, axis: Sequence[int], cells: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Lays the values of distinct cells out over the whole map, mirror images included.

    Args:
      size: side of the image.
      axis: from `heat_map_axis`.
      cells: from `heat_map_cells`.
      values: [cells].

    Returns:
      [len(axis), len(axis)], rows fy, columns fx.
    """
    known = {}
    for (fy, fx), value in zip(cells.tolist(), values.tolist(), strict=True):
        known[fy % size, fx % size] = known[-fy % size, -fx % size] = value
    return np.array([[known[fy % size, fx % size] for fx in axis] for fy in axis])


def heat_map_norm(size: int) -> float:
    """The published norm of the perturbation; at other sizes the pixel amplitude of 32 pixels."""
    return HEAT_MAP_NORMS.get(size, HEAT_MAP_NORMS[32] * size / 32)


def heat_map_extent(size: int) -> int:
    """Side of the square of frequencies that is shown: 63 at 224 pixels, else the largest odd."""
    return HEAT_MAP_EXTENTS.get(size, size - 1 if size % 2 == 0 else size)


def band_masks(size: int, bandwidth: float, band: Band) -> np.ndarray:
    """Which coefficients band-limited noise has (Yin et al. 2019): bool [N, N].

    `low` is the square max(|fy|, |fx|) < bandwidth / 2 around frequency 0; `high` is the square of
    the same size around the highest frequency, min(|fy|, |fx|) > (N - bandwidth) / 2.
    """
    if band == "low":
        return _larger(size) < bandwidth / 2
    f = np.abs(along_axis(size))
    return np.minimum(f[:, None], f[None, :]) > (size - bandwidth) / 2
