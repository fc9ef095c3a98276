"""Frequencies: what a network still recognises when a band is removed or disturbed.

Attenuation of clean images (Wu et al. 2025, section 5.2, figures 6 and 7), the Fourier heat map and
band-limited noise (Yin et al. 2019), the spectrum of kernels and of corruptions. Images are float32
or uint8 in 0..255; frequencies are whole periods an image, from -N/2 on, 0 in the middle of every
map. For any `predict(images) -> logits` that takes both kinds. Called by `analyze`, and by
notebooks.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Predict = Callable[[jax.Array], jax.Array]
Batches = Callable[[], Iterable[Mapping[str, Any]]]
Band = Literal["low", "high"]

# l2 norm of the heat map's perturbation, a channel, pixels in [0, 1], by side of the image (Yin et
# al. 2019 and their code).
HEAT_MAP_NORMS = {32: 4.0, 224: 15.7}
# Side of the square of frequencies around 0 that the published maps show.
HEAT_MAP_EXTENTS = {224: 63}


def frequencies(size: int) -> np.ndarray:
    """Whole frequencies of an image of that side, in the order of `np.fft`: int [size]."""
    return np.rint(np.fft.fftfreq(size) * size).astype(int)


def _larger(size: int) -> np.ndarray:
    """max(|fy|, |fx|) of each coefficient, in the order of `np.fft`: int [size, size]."""
    f = np.abs(frequencies(size))
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


def filtered(images: jax.Array, kept: jax.Array) -> jax.Array:
    """Keeps a set of Fourier coefficients of every image and channel; nothing is clipped.

    Args:
      images: [B, N, N, C].
      kept: bool [N, N] in the order of `np.fft.fft2`, symmetric about frequency 0.

    Returns:
      float32 [B, N, N, C].
    """
    spectrum = jnp.fft.fft2(images.astype(jnp.float32), axes=(1, 2))
    return jnp.fft.ifft2(spectrum * kept[None, :, :, None], axes=(1, 2)).real


def attenuated_examples(image: np.ndarray, radii: Sequence[float]) -> np.ndarray:
    """One image without low and without high frequencies, to be looked at (as figure 6).

    Args:
      image: uint8 [N, N, C].
      radii: see `attenuation`; above 0.

    Returns:
      uint8 [2, radii, N, N, C]: without low frequencies, about mid grey in place of the removed
      mean; then without high ones. Clipped, which what is scored is not.
    """
    size = image.shape[0]
    greys: dict[Band, float] = {"low": 127.5, "high": 0.0}
    pictures = [
        np.asarray(filtered(jnp.asarray(image)[None], jnp.asarray(attenuation(size, radius, band))))
        + grey
        for band, grey in greys.items()
        for radius in radii
    ]
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8).reshape(2, len(radii), *image.shape)


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
    f = np.abs(frequencies(size))
    return np.minimum(f[:, None], f[None, :]) > (size - bandwidth) / 2


def _keys(seed: int, purpose: Any, ids: jax.Array) -> jax.Array:
    """One key an image, for a purpose that is a whole number."""
    key = jax.random.fold_in(jax.random.key(seed), purpose)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)


def _hits(predict: Predict, images: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    hits = (jnp.argmax(predict(images), -1) == batch["label"]) & (batch["weight"] > 0)
    return jnp.sum(hits, dtype=jnp.int32)


@jax.jit
def _attenuated_hits(
    predict: Predict, kept: jax.Array, batch: Mapping[str, jax.Array]
) -> jax.Array:
    return _hits(predict, filtered(batch["image"], kept), batch)


@jax.jit
def _perturbed_hits(
    predict: Predict, wave: jax.Array, cell: jax.Array, seed: int, batch: Mapping[str, jax.Array]
) -> jax.Array:
    """Hits on x + r v U, clipped, with a random sign r for each image and channel."""
    images = batch["image"].astype(jnp.float32)
    keys = _keys(seed, cell, batch["id"])
    signs = jax.vmap(lambda key: jax.random.rademacher(key, (images.shape[-1],), jnp.float32))(keys)
    noise = 255 * wave[None, :, :, None] * signs[:, None, None, :]
    return _hits(predict, jnp.clip(images + noise, 0, 255), batch)


@jax.jit
def _noisy_hits(
    predict: Predict, kept: jax.Array, norm: float, seed: int, batch: Mapping[str, jax.Array]
) -> jax.Array:
    images = batch["image"].astype(jnp.float32)
    keys = _keys(seed, 0, batch["id"])
    white = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
    noise = filtered(white, kept)
    length = jnp.sqrt(jnp.sum(noise**2, axis=(1, 2, 3), keepdims=True))
    noise = 255 * norm * noise / jnp.maximum(length, 1e-12)
    return _hits(predict, jnp.clip(images + noise, 0, 255), batch)


def _accuracy(hits: Callable[[Mapping[str, Any]], jax.Array], batches: Batches) -> float:
    """Accuracy of one pass over the images; `hits` counts those of a batch."""
    correct, seen = jnp.int32(0), jnp.int32(0)
    for batch in batches():
        correct += hits(batch)
        seen += jnp.sum(batch["weight"] > 0, dtype=jnp.int32)
    return int(correct) / int(seen)


def _partial(predict: Predict) -> Predict:
    return predict if isinstance(predict, jax.tree_util.Partial) else jax.tree_util.Partial(predict)


def radius_accuracy(
    predict: Predict, batches: Batches, size: int, radii: Sequence[float], band: Band
) -> np.ndarray:
    """Accuracy on clean images of which a band is removed: the RA curve of figure 7.

    Args:
      predict: maps images, float32 [B, N, N, C] about 0..255, to logits [B, classes].
      batches: gives the images anew at each call, as {"image": uint8 [B, N, N, C], "label": int32
        [B], "id": int32 [B], "weight": float32 [B]}; weight 0 marks padding.
      size: side N of the images.
      radii: see `attenuation`.
      band: which frequencies are removed.

    Returns:
      float [radii], in [0, 1].
    """
    predict = _partial(predict)
    masks = [jnp.asarray(attenuation(size, radius, band)) for radius in radii]
    return np.array(
        [_accuracy(functools.partial(_attenuated_hits, predict, mask), batches) for mask in masks]
    )


def heat_map(
    predict: Predict, batches: Batches, size: int, cells: np.ndarray, *, norm: float, seed: int = 0
) -> Iterator[float]:
    """Accuracy under each Fourier basis image: the heat map of Yin et al. 2019, cell by cell.

    Args:
      predict: as in `radius_accuracy`.
      batches: as in `radius_accuracy`.
      size: side N of the images.
      cells: int [cells, 2], frequencies (fy, fx).
      norm: l2 norm of the perturbation of one channel, pixels in [0, 1]; see `heat_map_norm`.
      seed: of the signs; a function of (seed, cell, image id) alone.

    Yields:
      The accuracy at the next cell, in [0, 1].
    """
    predict = _partial(predict)
    for fy, fx in cells.tolist():
        wave = jnp.asarray(norm * fourier_basis(size, fy, fx))
        cell = jnp.uint32((fy % size) * size + fx % size)
        yield _accuracy(functools.partial(_perturbed_hits, predict, wave, cell, seed), batches)


def noise_accuracy(
    predict: Predict,
    batches: Batches,
    size: int,
    bandwidths: Sequence[float],
    band: Band,
    *,
    norm: float,
    seed: int = 0,
) -> np.ndarray:
    """Accuracy under Gaussian noise that has only a band of frequencies (Yin et al. 2019).

    Args:
      predict: as in `radius_accuracy`.
      batches: as in `radius_accuracy`.
      size: side N of the images.
      bandwidths: see `band_masks`; 0: no noise.
      band: which frequencies the noise has.
      norm: its l2 norm over the whole image, pixels in [0, 1], before clipping.
      seed: of the noise; a function of (seed, image id) alone.

    Returns:
      float [bandwidths], in [0, 1].
    """
    predict = _partial(predict)
    masks = [jnp.asarray(band_masks(size, width, band)) for width in bandwidths]
    return np.array(
        [
            _accuracy(functools.partial(_noisy_hits, predict, mask, norm, seed), batches)
            for mask in masks
        ]
    )


@functools.partial(jax.jit, static_argnames="cutoff")
def band_energies(difference: jax.Array, cutoff: float = 0.25) -> jax.Array:
    """Energy of images beyond a frequency, and in all.

    Args:
      difference: [B, N, N, C], for example corrupted minus clean images.
      cutoff: in periods a pixel; 0.25 is half of the highest frequency along an axis.

    Returns:
      float32 [2]: (energy at frequencies of radius > cutoff, energy at all frequencies).
    """
    f = np.fft.fftfreq(difference.shape[1])
    radius = np.hypot(f[:, None], f[None, :])
    power = jnp.abs(jnp.fft.fft2(difference.astype(jnp.float32), axes=(1, 2))) ** 2
    by_frequency = power.sum(axis=(0, 3))
    return jnp.stack([jnp.sum(by_frequency * (radius > cutoff)), jnp.sum(by_frequency)])


def kernel_spectrum(kernel: np.ndarray, bins: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Radially averaged power spectrum of kernels, relative to white kernels of the same energy.

    Each kernel (one input and output channel) is padded with zeros to 64 pixels or its own size;
    the powers of all kernels are added and averaged over rings of equal width up to the highest
    frequency along an axis.

    Args:
      kernel: [kh, kw, C, D].
      bins: number of rings.

    Returns:
      (middle of each ring in periods a pixel [bins], mean power in it over that of all frequencies
      [bins], 1 for white kernels).
    """
    size = max(64, *kernel.shape[:2])
    power = np.abs(np.fft.fft2(kernel.astype(np.float64), (size, size), axes=(0, 1))) ** 2
    power = power.sum(axis=(2, 3))
    f = np.fft.fftfreq(size)
    radius = np.hypot(f[:, None], f[None, :])
    edges = np.linspace(0, 0.5, bins + 1)
    ring = np.digitize(radius, edges) - 1
    total = max(power.mean(), np.finfo(float).tiny)
    means = np.array([power[ring == index].mean() for index in range(bins)]) / total
    return (edges[1:] + edges[:-1]) / 2, means
