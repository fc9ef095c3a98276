"""C-bar and 3DCC: compared with their published description pixel by pixel, their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from benchmarks import bar_numpy
from dst_jax import corruptions
from dst_jax.corruptions import bar_cover
from dst_jax.corruptions.constants import ROWS
from tests.corruptions import by_pixel, by_pixel_bar, oracles
from tests.corruptions.oracles import preset_of

NAMES = [name for name, c in corruptions.CORRUPTIONS.items() if c.group in ("bar", "3d")]
SIDE = 32
SHAPE = (SIDE, SIDE)
IDS = jnp.arange(4, dtype=jnp.int32)
MAPS = np.linspace(0.05, 1, 4 * SIDE * SIDE, dtype=np.float32).reshape(4, SIDE, SIDE)


def photograph():
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = np.stack([np.sin(5 * x + 3 * y + c) + np.cos(7 * y - c) for c in range(3)], -1)
    noise = np.random.default_rng(1).normal(0, 15, (SIDE, SIDE, 3))
    return np.clip(waves * 50 + 120 + noise, 0, 255)


# A photograph, black, white and one colour.
IMAGES = np.empty((4, SIDE, SIDE, 3), np.uint8)
IMAGES[0], IMAGES[1], IMAGES[2], IMAGES[3] = photograph(), 0, 255, (200, 90, 30)


def corrupt(name, images, keys, severity):
    found = corruptions.corrupt(name, images, keys, severity, preset_of(name), maps=MAPS)
    return np.asarray(found).astype(int)


def test_the_published_severities():
    published = {"imagenet224": by_pixel.IMAGENET, "cifar32": by_pixel.CIFAR}
    for suite, preset in (("c_bar_imagenet", "imagenet224"), ("c_bar_cifar", "cifar32")):
        for name in corruptions.SUITES[suite]:
            np.testing.assert_array_equal(ROWS[name][preset], published[preset][name])
    for name in NAMES:
        for preset, rows in ROWS[name].items():
            np.testing.assert_allclose(rows, published[preset][name], rtol=1e-12)
    assert set(by_pixel.ORACLES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_against_the_published_description(name):
    keys = corruptions.example_keys(0, name, 5, IDS)
    # Drawn for severity 5, which has the most lines; nothing else depends on it.
    draws = oracles.draws_of(name, keys, 5)
    for i in range(4 * corruptions.CORRUPTIONS[name].needs_map):
        draws[i]["map"] = MAPS[i]
    for severity, number in ((2, 1), (5, 4)):
        found = corrupt(name, IMAGES, keys, severity)
        for i, image in enumerate(IMAGES[:number]):
            expected = oracles.expected(name, image, severity, draws[i])
            for channel in range(3):
                assert oracles.agree(name, found[i, ..., channel], expected[..., channel])
            # Whole numbers, which truncation may push down by one, are common on flat images.
            if i == 0:
                assert (found[i] != expected).mean() < 0.02
    if name in bar_numpy.FUNCTIONS:  # what `benchmarks.corruptions` times renders the same
        row = ROWS[name][preset_of(name)][4]
        quick = bar_numpy.FUNCTIONS[name](IMAGES[0], row, draws[0])
        expected = oracles.expected(name, IMAGES[0], 5, draws[0])
        assert oracles.agree(name, np.clip(quick, 0, 255).astype(np.uint8), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", corruptions.SUITES["c_bar_imagenet"])
def test_at_full_size(name):
    corruption = corruptions.CORRUPTIONS[name]
    image = np.kron(IMAGES[0], np.ones((7, 7, 1), np.uint8))

    @jax.jit
    def run(key):
        constants = corruption.constants(ROWS[name]["imagenet224"], (224, 224), 4)
        draws = corruption.draw(key, (224, 224), constants)
        return draws, corruption.apply(jnp.asarray(image), draws, constants)

    draws, found = jax.device_get(run(jax.random.key(5)))
    expected = by_pixel.ORACLES[name](image, by_pixel.IMAGENET[name][3], draws)
    difference = np.abs(np.clip(found, 0, 255) - np.clip(expected, 0, 255))
    assert (difference > 0.5).mean() < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_severities_grow_on_equal_draws(name):
    keys = corruptions.example_keys(1, name, 1, IDS)
    changes = []
    for severity in range(1, 6):
        found = corrupt(name, np.stack([IMAGES[0]] * 4), keys, severity)
        changes.append(np.abs(found - IMAGES[0].astype(int)).mean())
    assert np.all(np.diff(changes) > 0), changes


def some_lines(side):
    """Two ends (row, column) each: of every slope, of one pixel, some outside the image."""
    ends = np.random.default_rng(0).integers(-20, side + 20, (300, 2, 2))
    ends[:5, 1] = ends[:5, 0] + [[0, 0], [0, 9], [9, 0], [9, 9], [9, -9]]
    return ends


def test_the_walk_along_a_line_is_scikit_images():
    draw = pytest.importorskip("skimage.draw", reason="scikit-image is not installed")
    for start, end in some_lines(24):
        ends = (*map(int, start), *map(int, end))
        walked = by_pixel_bar.anti_aliased_line(*ends)
        rows, columns, shares = draw.line_aa(*ends)
        for mine, theirs in zip(zip(*walked, strict=True), (rows, columns, shares), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_lines_are_what_zingls_algorithm_walks():
    """The closed form, at every slope and at lines of one pixel."""
    side = 24
    cover = jax.jit(jax.vmap(lambda ends: bar_cover.line_coverage(ends, side)))
    ends = some_lines(side)
    found = np.asarray(cover(jnp.asarray(ends, jnp.int32)))
    for (start, end), coverage in zip(ends, found, strict=True):
        expected = np.zeros((side, side))
        for row, col, covered in by_pixel_bar.anti_aliased_line(*map(int, (*start, *end))):
            if 0 <= row < side and 0 <= col < side:
                expected[row, col] = covered
        np.testing.assert_allclose(coverage, expected, atol=1e-5)


def draw_many(name, number):
    keys = corruptions.example_keys(0, name, 3, jnp.arange(number))
    drawn = oracles.draws_of(name, keys, 3)
    return {key: np.stack([draws[key] for draws in drawn]) for key in drawn[0]}


def test_laws_of_the_parameters():
    checkerboard = draw_many("checkerboard_cutout", 500)
    assert stats.kstest(checkerboard["angle"], "uniform", (0, 2 * np.pi)).pvalue > 1e-4
    assert stats.kstest(checkerboard["cell"] / SIDE, "uniform", (0.1, 0.15)).pvalue > 1e-4
    waves = draw_many("single_frequency_greyscale", 500)["frequency"]
    larger = np.abs(waves).max(axis=1)
    assert stats.kstest(larger, "uniform", (0, np.pi)).pvalue > 1e-4
    assert 0.4 < (np.abs(waves[:, 0]) == larger).mean() < 0.6
    rays = draw_many("sparkles", 500)["rays"]
    assert (rays.min(), rays.max()) == (50, 199)


def test_perlins_lattice():
    perlin = draw_many("perlin_noise", 4)
    np.testing.assert_array_equal(np.sort(perlin["order"], axis=1), [np.arange(256)] * 4)
    lengths = np.linalg.norm(perlin["gradients"], axis=-1)
    assert set(np.round(lengths, 5).ravel()) <= {0.0, 1.0}


@pytest.mark.parametrize("severity", [1, 5])
def test_moments_of_additive_noise(severity):
    grey = np.full((4, SIDE, SIDE, 3), 128, np.uint8)
    keys = corruptions.example_keys(2, "iso_noise", severity, IDS)
    noise = corrupt("iso_noise", grey, keys, severity)
    law = stats.poisson(128 / 255 * 25)
    counts = np.minimum(law.rvs(100_000, random_state=0), 25) / 25
    std = ROWS["iso_noise"]["imagenet224"][severity - 1]
    normal = stats.norm(0, std).rvs(100_000, random_state=1)
    expected = np.floor(255 * np.clip(counts + normal, 0, 1))
    assert noise.mean() == pytest.approx(expected.mean(), abs=2.0)
    assert noise.std() == pytest.approx(expected.std(), rel=0.03)

    keys = corruptions.example_keys(2, "brownish_noise", 1, IDS)
    noise = corrupt("brownish_noise", grey, keys, 1)
    level = ROWS["brownish_noise"]["cifar32"][0]
    # Every channel of every image is scaled to the same deviation.
    np.testing.assert_allclose(noise.std(axis=(1, 2)), 6.4 * level, rtol=0.03)
