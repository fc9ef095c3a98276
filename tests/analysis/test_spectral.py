"""Filters and perturbations against NumPy's FFT; accuracies against networks that see one band."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dst_jax.analysis import frequencies, spectral

RANDOM = np.random.default_rng(0)


def by_hand(image, radius, band):
    """Attenuation with the spectrum centred, one coefficient after another."""
    n = len(image)
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    for row in range(n):
        for column in range(n):
            larger = max(abs(row - n // 2), abs(column - n // 2))
            removed = larger < radius / 2 if band == "low" else larger > (n - radius) / 2
            if removed:
                spectrum[row, column] = 0
    back = np.fft.ifft2(np.fft.ifftshift(spectrum))
    assert abs(back.imag).max() < 1e-9 * max(1, abs(image).max())  # what stays is symmetric
    return back.real


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([7, 8]),
    radius=st.floats(0, 9),
    band=st.sampled_from(["low", "high"]),
    seed=st.integers(0, 99),
)
def test_attenuation_is_numpys(size, radius, band, seed):
    images = np.random.default_rng(seed).uniform(0, 255, (2, size, size, 3))
    kept = frequencies.attenuation(size, radius, band)
    found = spectral.filtered(jnp.asarray(images, jnp.float32), jnp.asarray(kept))
    for image, result in zip(images, found, strict=True):
        for channel in range(3):
            expected = by_hand(image[..., channel], radius, band)
            np.testing.assert_allclose(result[..., channel], expected, atol=1e-3)


def test_examples_are_what_is_scored_clipped():
    image = RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    found = spectral.attenuated_examples(image, [2.0, 4.0])
    assert found.shape == (2, 2, 8, 8, 3)
    assert found.dtype == np.uint8
    for row, (band, grey) in enumerate((("low", 127.5), ("high", 0.0))):
        for column, radius in enumerate((2.0, 4.0)):
            for channel in range(3):
                expected = np.clip(by_hand(image[..., channel], radius, band) + grey, 0, 255)
                np.testing.assert_allclose(found[row, column, ..., channel], expected, atol=0.51)


@pytest.mark.parametrize("size", [8, 9])
def test_a_larger_radius_removes_more_and_zero_removes_nothing(size):
    for band in ("low", "high"):
        kept = [frequencies.attenuation(size, r, band) for r in np.linspace(0, size + 1, 12)]
        assert kept[0].all()
        assert not kept[-1].any()
        assert all((a >= b).all() for a, b in itertools.pairwise(kept))


@pytest.mark.parametrize("size", [7, 8])
def test_a_basis_image_has_unit_norm_and_two_points_in_its_spectrum(size):
    for fy in range(-(size // 2), (size + 1) // 2):
        for fx in range(-(size // 2), (size + 1) // 2):
            wave = frequencies.fourier_basis(size, fy, fx).astype(np.float64)
            assert np.linalg.norm(wave) == pytest.approx(1, abs=1e-6)
            points = {tuple(p) for p in np.argwhere(abs(np.fft.fft2(wave)) > 1e-3)}
            assert points == {(fy % size, fx % size), (-fy % size, -fx % size)}


def test_distinct_cells_are_as_many_as_published():
    def count(size, extent):
        axis = frequencies.heat_map_axis(size, extent)
        return len(frequencies.heat_map_cells(size, axis))

    assert count(32, 32) == 514
    assert count(224, 63) == 1985
    assert (frequencies.heat_map_norm(32), frequencies.heat_map_norm(224)) == (4.0, 15.7)
    assert (frequencies.heat_map_extent(32), frequencies.heat_map_extent(224)) == (31, 63)


@pytest.mark.parametrize("extent", [7, 8])
def test_a_map_is_laid_out_with_its_mirror_images(extent):
    axis = frequencies.heat_map_axis(8, extent)
    cells = frequencies.heat_map_cells(8, axis)
    square = frequencies.heat_map_square(8, axis, cells, np.abs(cells).sum(1).astype(float))
    assert square.shape == (extent, extent)
    middle = axis.tolist().index(0)
    assert square[middle, middle] == 0
    for row, fy in enumerate(axis):
        for column, fx in enumerate(axis):
            assert square[row, column] == abs(fy) + abs(fx)


def test_thinned_axis():
    assert frequencies.heat_map_axis(32, 31, 5).tolist() == [-15, -10, -5, 0, 5, 10, 15]
    with pytest.raises(ValueError, match="expected at most the side of the image, 8"):
        frequencies.heat_map_axis(8, 9)


def test_noise_masks():
    """The square around the highest frequency is the one around 0, moved by half the spectrum."""
    for width in range(10):
        low, high = (frequencies.band_masks(8, width, band) for band in ("low", "high"))
        np.testing.assert_array_equal(np.roll(low, (4, 4), (0, 1)), high)
    assert frequencies.band_masks(8, 9, "low").all()


def batches(images, labels, size=4):
    """Batches of `size` with padding at the end."""
    found = []
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        missing = size - len(labels[part])
        found.append(
            {
                "image": np.pad(images[part], ((0, missing), (0, 0), (0, 0), (0, 0))),
                "label": np.pad(labels[part], (0, missing)).astype(np.int32),
                "id": np.arange(start, start + size, dtype=np.int32),
                "weight": (np.arange(size) < size - missing).astype(np.float32),
            }
        )
    return lambda: found


def wave_of(fy, fx, size=8):
    y, x = np.mgrid[:size, :size]
    return np.cos(2 * np.pi * (fy * y + fx * x) / size)


def detector(fy, fx):
    """Says 1 where the image has that frequency: a network that looks at one thing."""
    wave = jnp.asarray(wave_of(fy, fx), jnp.float32)

    def predict(images):
        strength = jnp.abs(jnp.einsum("bhwc,hw->b", images.astype(jnp.float32), wave))
        return jnp.stack([jnp.full(strength.shape, 200.0), strength], -1)

    return predict


def images_of(fy, fx, count=6):
    wave = 127 + 60 * wave_of(fy, fx)
    return np.repeat(np.rint(wave)[None, :, :, None], count, 0).repeat(3, -1).astype(np.uint8)


@pytest.mark.parametrize(("frequency", "fails"), [(1, "low"), (3, "high")])
def test_accuracy_falls_where_the_band_that_carries_the_class_goes(frequency, fails):
    data = batches(images_of(0, frequency), np.ones(6, int))
    predict = detector(0, frequency)
    for band in ("low", "high"):
        curve = spectral.radius_accuracy(predict, data, 8, [0, 2, 3, 4], band)
        assert curve.tolist() == ([1, 1, 0, 0] if band == fails else [1, 1, 1, 1])


def test_heat_map_finds_the_frequency_a_network_listens_to():
    images = np.full((6, 8, 8, 3), 127, np.uint8)
    data = batches(images, np.zeros(6, int))
    axis = frequencies.heat_map_axis(8, 7)
    cells = frequencies.heat_map_cells(8, axis)
    found = np.array(list(spectral.heat_map(detector(2, -1), data, 8, cells, norm=1.0)))
    hurt = {
        tuple(cell) for cell, accuracy in zip(cells.tolist(), found, strict=True) if accuracy < 1
    }
    assert hurt <= {(2, -1), (-2, 1)}
    assert len(hurt) == 1
    again = list(
        spectral.heat_map(detector(2, -1), batches(images, np.zeros(6, int), 6), 8, cells, norm=1.0)
    )
    np.testing.assert_array_equal(found, again)  # the signs do not depend on the batch size


def test_noise_of_the_other_band_does_no_harm():
    images = np.full((6, 8, 8, 3), 127, np.uint8)
    data = batches(images, np.zeros(6, int))
    predict = detector(0, 1)
    low = spectral.noise_accuracy(predict, data, 8, [0, 3], "low", norm=3.0)
    high = spectral.noise_accuracy(predict, data, 8, [0, 3], "high", norm=3.0)
    assert low[0] == high[0] == high[1] == 1
    assert low[1] < 1


def test_band_energies_are_parsevals():
    difference = RANDOM.normal(size=(3, 8, 8, 3))
    high, total = spectral.band_energies(jnp.asarray(difference))
    assert float(total) == pytest.approx(64 * (difference**2).sum(), rel=1e-5)
    assert 0 < float(high) < float(total)
    for f, share in ((1, 0), (3, 1)):
        wave = jnp.asarray(wave_of(0, f))[None, :, :, None]
        high, total = spectral.band_energies(wave)
        assert float(high / total) == pytest.approx(share, abs=1e-6)


def test_white_kernels_are_flat_and_a_mean_is_low():
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, 1] = 2.0
    frequency, power = spectral.kernel_spectrum(kernel)
    np.testing.assert_allclose(power, 1, atol=1e-9)
    assert frequency[0] == pytest.approx(1 / 64)
    _, power = spectral.kernel_spectrum(np.ones((3, 3, 2, 4)))
    assert (np.diff(power[:8]) < 0).all()
    assert power[0] > 5


def test_images_may_be_traced_or_whole_numbers():
    images = jnp.asarray(RANDOM.integers(0, 256, (2, 8, 8, 3)), jnp.uint8)
    kept = jnp.asarray(frequencies.attenuation(8, 0, "low"))
    np.testing.assert_allclose(jax.jit(spectral.filtered)(images, kept), images, atol=1e-3)
