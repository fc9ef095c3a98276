"""What a network still recognises when a band of frequencies is removed or disturbed.

Attenuation of clean images (Wu et al. 2025, section 5.2, figures 6 and 7), the Fourier heat map and
band-limited noise (Yin et al. 2019), the spectrum of kernels and of corruptions. Images are float32
or uint8 in 0..255; which frequencies, `frequencies` says. For any `predict(images) -> logits` that
takes both kinds. Called by `measurements`, and by notebooks.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.analysis.frequencies import Band, attenuation, band_masks, fourier_basis

Predict = Callable[[jax.Array], jax.Array]
Batches = Callable[[], Iterable[Mapping[str, Any]]]


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


def _keys(seed: int, purpose: Any, ids: jax.Array) -> jax.Array:
    """One key per image, for a purpose that is a whole number."""
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
      cutoff: in periods per pixel; 0.25 is half of the highest frequency along an axis.

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
      (middle of each ring in periods per pixel [bins], mean power in it over that of all
      frequencies [bins], 1 for white kernels).
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
