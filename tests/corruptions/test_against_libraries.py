"""Parts against independent implementations: Pillow, scipy.ndimage and plain loops."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from dst_jax import corruptions
from dst_jax.corruptions import elastic, filters, glass, jpeg, spatter
from dst_jax.corruptions.constants import ROWS


def noise_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def photograph(height, width):
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / 9 + c) + np.cos(y / 7 - x / 23 + c) for c in range(3)]
    return np.clip(np.stack(planes, -1) * 60 + 128, 0, 255).astype(np.uint8)


def pillow_jpeg(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, optimize=True)
    return np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))


# Whole blocks, odd sizes, half blocks.
@pytest.mark.parametrize("size", [(48, 32), (29, 43), (24, 8), (8, 8)])
def test_jpeg_is_pillows_at_any_size(size):
    images = np.stack([noise_image(*size), photograph(*size)])
    code = jax.jit(jax.vmap(jpeg.code_image, in_axes=(0, None)))
    for quality in (1, 10, 49, 50, 85, 100):
        steps = jnp.asarray(jpeg.quantisation_tables(quality), jnp.int32)
        expected = np.stack([pillow_jpeg(image, quality) for image in images])
        np.testing.assert_array_equal(code(images, steps), expected)


def test_jpeg85_is_the_save_step():
    images = np.stack([noise_image(64, 64), photograph(64, 64)])
    found = corruptions.jpeg85(jnp.asarray(images))
    np.testing.assert_array_equal(found, np.stack([pillow_jpeg(image, 85) for image in images]))


@pytest.mark.parametrize(("preset", "size"), corruptions.PRESET_SIZES.items())
def test_pixelate_is_pillows(preset, size):
    image = noise_image(size, size)
    keys = jax.random.split(jax.random.key(0), 1)
    for severity, scale in enumerate(ROWS["pixelate"][preset], start=1):
        small = int(size * scale)
        shrunk = Image.fromarray(image).resize((small, small), Image.Resampling.BOX)
        expected = np.asarray(shrunk.resize((size, size), Image.Resampling.BOX))
        found = corruptions.corrupt("pixelate", jnp.asarray(image[None]), keys, severity, preset)
        np.testing.assert_array_equal(found[0], expected)


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 40),
    sigma=st.floats(0.1, 60),
    border=st.sampled_from(
        [("edge", "nearest"), ("reflect", "reflect"), ("reflect_101", "mirror")]
    ),
)
def test_gaussian_matrix_is_scipys(size, sigma, border):
    ours, theirs = border
    expected = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode=theirs, truncate=3.0)
    found = filters.gaussian_matrix(size, sigma, ours, 3.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("preset", "size"), corruptions.PRESET_SIZES.items())
def test_zoom_positions_are_scipys(preset, size):
    # Published sizes only: at some others scipy's last sample falls off the end and reads zero.
    factors = {factor for row in ROWS["zoom_blur"][preset] for factor in np.arange(*row)}
    factors |= {row[2] for row in ROWS["snow"][preset]}
    line = np.random.default_rng(0).normal(size=size)
    for factor in factors:
        part = int(np.ceil(size / factor))
        start = (size - part) // 2
        zoomed = ndimage.zoom(line[start : start + part], factor, order=1)
        cut = (len(zoomed) - size) // 2
        base, fraction = filters.zoom_positions(size, factor)
        after = np.minimum(base + 1, size - 1)
        found = line[base] * (1 - fraction) + line[after] * fraction
        np.testing.assert_allclose(found, zoomed[cut : cut + size], atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), delta=st.integers(1, 4))
def test_glass_sweep_is_the_loop(seed, delta):
    H, W = 17, 12
    generator = np.random.default_rng(seed)
    offsets = generator.integers(-delta, delta, (H, W, 2)).astype(np.int32)
    expected = np.arange(H * W).reshape(H, W)
    for h in range(H - delta, delta, -1):
        for w in range(W - delta, delta, -1):
            dx, dy = offsets[h, w]
            expected[h, w] = expected[h + dy, w + dx]
    found = jax.jit(glass._sources_of_sweep)(jnp.asarray(offsets), jnp.int32(delta))
    np.testing.assert_array_equal(found.reshape(H, W), expected)


def test_edge_distance_is_chamfer_and_near_euclidean():
    edges = np.zeros((40, 40), bool)
    edges[5, 7] = edges[30, 20] = True
    found = np.asarray(spatter.edge_distance(jnp.asarray(edges))) / 2**16
    euclidean = np.minimum(ndimage.distance_transform_edt(~edges), 20)
    np.testing.assert_allclose(found, euclidean, atol=0.02 * 20 + 0.1)
    assert found[5, 10] == 3
    assert found[7, 8] == pytest.approx(2.1969, abs=1e-5)


def test_canny_finds_the_border_of_a_square():
    plane = np.zeros((20, 20), int)
    plane[5:15, 5:15] = 200
    edges = np.asarray(spatter.canny(jnp.asarray(plane, jnp.int32), 50, 150))
    inside = np.zeros_like(edges)
    inside[7:13, 7:13] = True
    outside = np.ones_like(edges)
    outside[3:17, 3:17] = False
    assert not edges[inside | outside].any()
    assert edges.sum() >= 32
    assert not np.asarray(spatter.canny(jnp.zeros((8, 8), jnp.int32), 50, 150)).any()


def test_spatter_without_drops_changes_nothing():
    constants = corruptions.CORRUPTIONS["spatter"].constants(
        ROWS["spatter"]["cifar32"], (32, 32), 1
    )
    image = jnp.asarray(noise_image(32, 32))
    dry = {"n": jnp.full((32, 32), -50.0)}
    found = corruptions.CORRUPTIONS["spatter"].apply(image, dry, constants)
    np.testing.assert_array_equal(found, image)


def test_opencv4_coordinates_are_rounded_ones():
    """Against a float64 evaluation of the rounding rules, on a photograph."""
    size = 64
    image = photograph(size, size).astype(np.float64)
    shifts = np.random.default_rng(3).uniform(-4, 4, (3, 2)).astype(np.float32)
    c, s = size // 2, size // 3
    points = np.array([[c + s, c + s], [c + s, c - s], [c - s, c - s]], np.float64)
    # Output (x, y, 1) -> input (x, y).
    moved = np.column_stack([points + shifts, np.ones(3)])
    to_input = np.linalg.solve(moved, points).T
    y, x = np.mgrid[:size, :size].astype(np.float64)
    coordinates = []
    for row in to_input:
        along, across = np.rint(row[0] * x * 1024), np.rint((row[1] * y + row[2]) * 1024)
        coordinates.append(np.floor((along + across + 16) / 32) / 32)
    expected = np.stack(
        [
            ndimage.map_coordinates(image[..., k], coordinates[::-1], order=1, mode="mirror")
            for k in range(3)
        ],
        axis=-1,
    )
    warp = jax.jit(elastic._warp_affine, static_argnums=2)
    found = warp(jnp.asarray(image, jnp.float32), jnp.asarray(shifts), "opencv4")
    # A coordinate on the edge between two roundings may fall on either side in float32.
    difference = np.abs(np.asarray(found) - expected)
    assert (difference > 0.01).mean() < 5e-3
    assert difference.max() < 1
    exact = warp(jnp.asarray(image, jnp.float32), jnp.asarray(shifts), "exact")
    assert 0.01 < np.abs(np.asarray(exact) - expected).max() < 2
