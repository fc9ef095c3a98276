"""Blurs, colours and the fractal against plain loops, colorsys and scipy, in float64."""

import colorsys
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from dst_jax import corruptions
from dst_jax.corruptions import blur
from dst_jax.corruptions.constants import ROWS
from dst_jax.corruptions.fractal import plasma

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)


def apply(name, preset, severity, draws=None, image=IMAGE):
    corruption = corruptions.CORRUPTIONS[name]
    constants = corruption.constants(ROWS[name][preset], image.shape[:2], severity)
    draws = {key: jnp.asarray(value) for key, value in (draws or {}).items()}
    return np.asarray(corruption.apply(jnp.asarray(image), draws, constants))


def disk(radius, softness):
    """Ones within the radius, of sum 1, under a Gaussian of 3 x 3 or 5 x 5 taps on its lattice."""
    half, reach = (8, 1) if radius <= 8 else (int(radius), 2)
    places = range(-half, half + 1)
    plain = np.array([[float(x * x + y * y <= radius**2) for x in places] for y in places])
    taps = np.exp([-(t**2) / (2 * softness**2) for t in range(-reach, reach + 1)])
    for axis in (0, 1):
        plain = ndimage.correlate1d(plain, taps / taps.sum(), axis, mode="mirror")
    return plain / sum(x * x + y * y <= radius**2 for x in places for y in places)


@pytest.mark.parametrize("preset", corruptions.PRESETS)
@pytest.mark.parametrize("severity", [1, 5])
def test_defocus_blur(preset, severity):
    kernel = disk(*ROWS["defocus_blur"][preset][severity - 1])
    expected = [
        ndimage.correlate(IMAGE[..., c].astype(float), kernel, mode="mirror") for c in range(3)
    ]
    found = apply("defocus_blur", preset, severity)
    np.testing.assert_allclose(found, np.stack(expected, -1), atol=1e-3)


def test_disks_that_touch_their_lattice_gain_brightness():
    sums = [blur._disk(*row).sum() for row in ROWS["defocus_blur"]["imagenet224"]]
    assert sums == pytest.approx([1, 1, 1, 1.0129754, 1.0107858], abs=1e-6)


@pytest.mark.parametrize("angle", [-45.0, -10.3, 0.0, 44.0])
def test_motion_blur(angle):
    radius, sigma = ROWS["motion_blur"]["cifar32"][3]
    taps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    H, W, _ = IMAGE.shape
    mean = np.zeros(IMAGE.shape)
    for i, weight in zip(taps, weights, strict=True):
        dx = math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        dy = math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        rows, cols = np.clip(np.arange(H) + dy, 0, H - 1), np.clip(np.arange(W) + dx, 0, W - 1)
        mean += weight * IMAGE[rows][:, cols]
    found = apply("motion_blur", "cifar32", 4, {"angle": np.float32(angle)})
    # It ends in whole grey levels, cut off: at most one below the mean.
    assert np.all(found == np.floor(found))
    assert np.all((mean - found > -0.01) & (mean - found < 1.01))


@pytest.mark.parametrize("severity", [1, 4])
def test_zoom_blur(severity):
    size = 32
    image = IMAGE[:size, :size]
    factors = np.arange(*ROWS["zoom_blur"]["cifar32"][severity - 1])
    total = image.astype(float)
    for factor in factors:
        part = math.ceil(size / factor)
        start = (size - part) // 2
        middle = image[start : start + part, start : start + part].astype(float)
        zoomed = ndimage.zoom(middle, (factor, factor, 1), order=1)
        cut = (zoomed.shape[0] - size) // 2
        total += zoomed[cut : cut + size, cut : cut + size]
    found = apply("zoom_blur", "cifar32", severity, image=image)
    np.testing.assert_allclose(found, total / (len(factors) + 1), atol=1e-3)


def test_zoom_factors_are_numpys():
    counts = [len(np.arange(*row)) for row in ROWS["zoom_blur"]["imagenet224"]]
    assert counts == [12, 16, 11, 13, 11]


@pytest.mark.parametrize(("name", "channel"), [("brightness", 2), ("saturate", 1)])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_hsv_corruptions(name, channel, severity):
    pixels = IMAGE[:8, :8].copy()
    pixels[0, 0], pixels[0, 1], pixels[0, 2] = 0, 90, 255  # black, grey and white
    row = ROWS[name]["imagenet224"][severity - 1]
    expected = np.empty(pixels.shape)
    for index in np.ndindex(8, 8):
        hsv = list(colorsys.rgb_to_hsv(*(pixels[index] / 255.0)))
        changed = hsv[channel] + row if name == "brightness" else hsv[channel] * row[0] + row[1]
        hsv[channel] = min(max(changed, 0.0), 1.0)
        expected[index] = np.multiply(colorsys.hsv_to_rgb(*hsv), 255)
    found = apply(name, "imagenet224", severity, image=pixels)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_contrast_keeps_the_mean():
    found = apply("contrast", "cifar32", 2)
    np.testing.assert_allclose(found.mean((0, 1)), IMAGE.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found.std((0, 1)), 0.5 * IMAGE.std((0, 1)), rtol=1e-5)


def test_plasma_is_diamond_square():
    size, decay = 16, 1.75
    uniforms = np.random.default_rng(2).uniform(-1, 1, size**2 - 1)
    relief = np.zeros((size, size))
    remaining, step, scale = uniforms, size, 100.0
    while step > 1:
        half, side = step // 2, size // step
        noise = scale**2 * remaining[: 3 * side * side].reshape(3, side, side)
        remaining = remaining[3 * side * side :]
        starts = [(half, half), (0, half), (half, 0)]
        shapes = ["corners", "edges", "edges"]
        for level, (row0, col0), shape in zip(noise, starts, shapes, strict=True):
            for r in range(side):
                for c in range(side):
                    y, x = row0 + r * step, col0 + c * step
                    around = (
                        [(-half, -half), (-half, half), (half, -half), (half, half)]
                        if shape == "corners"
                        else [(-half, 0), (half, 0), (0, -half), (0, half)]
                    )
                    near = [relief[(y + dy) % size, (x + dx) % size] for dy, dx in around]
                    relief[y, x] = np.mean(near) + level[r, c]
        step, scale = half, scale / decay
    expected = (relief - relief.min()) / (relief.max() - relief.min())
    found = jax.jit(plasma, static_argnums=2)(
        jnp.asarray(uniforms, jnp.float32), jnp.float32(decay), size
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_fog_keeps_the_brightest_value():
    number = 32 * 32 - 1
    draws = {"u": np.random.default_rng(0).uniform(-1, 1, number).astype(np.float32)}
    image = IMAGE[:32, :32]
    found = apply("fog", "cifar32", 5, draws, image)
    assert found.max() <= image.max() + 1e-3
    assert found.std() < image.std()
    assert not apply("fog", "cifar32", 5, draws, np.zeros_like(image)).any()


def test_elastic_displacement():
    """Without the affine part, a sample at displaced coordinates."""
    size = 24
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    alpha, sigma, _ = ROWS["elastic_transform"]["cifar32"][2]
    u = np.random.default_rng(1).uniform(-1, 1, (2, size, size)).astype(np.float32)
    dx, dy = (alpha * ndimage.gaussian_filter(f, sigma, mode="reflect", truncate=3) for f in u)
    y, x = np.mgrid[:size, :size]
    at = [y + dy, x + dx]
    expected = [
        ndimage.map_coordinates(image[..., c].astype(float), at, order=1, mode="reflect")
        for c in range(3)
    ]
    still = {"points": np.zeros((3, 2), np.float32), "ux": u[0], "uy": u[1]}
    found = apply("elastic_transform", "cifar32", 3, still, image)
    np.testing.assert_allclose(found, np.stack(expected, -1), atol=0.02)
