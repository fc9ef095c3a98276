"""The law of each perturbation of video at each severity, on clips of 30 to 300 frames.

What is published (Schiappa et al. 2023) is written here by hand. Bounds are 5 standard deviations
of what is counted: any of them fails by chance once in some ten thousand seeds.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from benchmarks import given_draws
from dst_jax.corruptions import video

LENGTHS = (30, 77, 150, 300)
VIDEOS = 60  # of each length
SEVERITIES = range(1, 6)


def orders(name, severity, length):
    return [video.frame_order(name, length, i, severity, seed=1) for i in range(VIDEOS)]


def within(total, mean, variance):
    """Whether a sum of independent numbers is where its law has it."""
    return abs(total - mean) <= 5 * math.sqrt(variance) + 1e-9


def parts(length, size):
    return [range(start, min(start + size, length)) for start in range(0, length, size)]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_sampling(severity):
    rate = (2, 4, 8, 16, 32)[severity - 1]
    for length in LENGTHS:
        kept = [frame for frame in range(length) if frame % rate == 0]
        np.testing.assert_array_equal(video.frame_order("sampling", length, 0, severity), kept)
        backwards = video.frame_order("reverse_sampling", length, 0, severity)
        np.testing.assert_array_equal(backwards, kept[::-1])


def permuted(number):
    """(mean, variance) of the places that a uniform permutation of `number` things leaves alone."""
    return 1.0, 0.0 if number == 1 else 1.0


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jumbling(severity):
    """A uniform permutation within each segment, the shorter last one too."""
    size = (32, 16, 8, 4, 2)[severity - 1]
    alone, mean, variance, firsts = 0, 0.0, 0.0, []
    for length in LENGTHS:
        for order in orders("jumbling", severity, length):
            for part in parts(length, size):
                found = order[list(part)]
                assert sorted(found) == list(part)
                alone += int((found == part).sum())
                of_part = permuted(len(part))
                mean, variance = mean + of_part[0], variance + of_part[1]
                if len(part) == size:
                    firsts.append(found[0] - part[0])
    assert within(alone, mean, variance)
    counts, each = np.bincount(firsts, minlength=size), len(firsts) / size
    assert np.all(np.abs(counts - each) <= 5 * math.sqrt(each))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_box_jumbling(severity):
    """A uniform permutation of the segments, each of which stays whole."""
    size = (4, 9, 16, 25, 36)[severity - 1]
    alone, mean, variance, unchanged = 0, 0.0, 0.0, 0.0
    for length in LENGTHS:
        boxes = parts(length, size)
        firsts = []
        for order in orders("box_jumbling", severity, length):
            places, rest = [], list(order)
            while rest:
                box = rest[0] // size
                assert rest[: len(boxes[box])] == list(boxes[box])
                places.append(box)
                del rest[: len(boxes[box])]
            assert sorted(places) == list(range(len(boxes)))
            alone += sum(box == place for place, box in enumerate(places))
            of_all = permuted(len(boxes))
            mean, variance = mean + of_all[0], variance + of_all[1]
            firsts.append(places[0])
            unchanged += places == sorted(places)
        counts, each = np.bincount(firsts, minlength=len(boxes)), VIDEOS / len(boxes)
        assert np.all(np.abs(counts - each) <= 5 * math.sqrt(each))
    assert within(alone, mean, variance)
    # 30 frames are one box of 36, which nobody can jumble; elsewhere a video rarely stays.
    chances = [1 / math.factorial(len(parts(length, size))) for length in LENGTHS]
    assert within(unchanged, VIDEOS * sum(chances), VIDEOS * sum(c * (1 - c) for c in chances))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_freezing(severity):
    """Each frame but the first repeats what was shown before with the probability 0.12 s."""
    chance, repeats, number = 0.12 * severity, 0, 0
    for length in LENGTHS:
        for order in orders("freezing", severity, length):
            assert order[0] == 0
            moved = np.diff(order) != 0
            np.testing.assert_array_equal(order[1:][moved], np.arange(1, length)[moved])
            repeats, number = repeats + int((~moved).sum()), number + length - 1
    assert within(repeats, chance * number, chance * (1 - chance) * number)


# --- every frame by itself ---

SIDE = 32
FRAME = np.random.default_rng(5).integers(1, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def perturbed(name, frame, length, severity, seed=0):
    clip = jnp.broadcast_to(jnp.asarray(frame), (length, *frame.shape))
    found = video.perturb_batch(name, clip[None], jnp.asarray([7]), severity, seed)
    return np.asarray(found[0])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_rotation(severity):
    angle = (7.5, 15, 30, 45, 90)[severity - 1]
    turned = np.asarray(Image.fromarray(FRAME).rotate(angle))
    found = perturbed("static_rotation", FRAME, 30, severity)
    np.testing.assert_array_equal(found, np.stack([turned] * 30))

    most, length = 6 * severity + 1, 300
    known = {np.asarray(Image.fromarray(FRAME).rotate(a)).tobytes(): a for a in range(-31, 32)}
    angles = np.array(
        [known[frame.tobytes()] for frame in perturbed("random_rotation", FRAME, length, severity)]
    )
    assert np.abs(angles).max() <= most
    count = 2 * most + 1
    variance = (count**2 - 1) / 12
    assert within(angles.sum(), 0, length * variance)
    fourth = np.mean(np.arange(-most, most + 1.0) ** 4) - variance**2
    assert within((angles**2).sum(), length * variance, length * fourth)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_translation(severity):
    """Offsets of 0 to 8 s pixels of 256 each way, uniform; 224 of 256 are shown."""
    y, x = np.mgrid[:64, :64]
    frame = np.stack([y + 1, x + 1, np.ones_like(x)], -1).astype(np.uint8)
    most, length = 2 * severity, 300
    found = perturbed("translation", frame, length, severity)
    assert found.shape == (length, 56, 56, 3)
    for offsets in (found[:, 0, 0, 0].astype(int) - 1, found[:, 0, 0, 1].astype(int) - 1):
        assert set(offsets) <= set(range(most + 1))
        assert within(offsets.sum(), length * most / 2, length * ((most + 1) ** 2 - 1) / 12)


GREY = np.full((8, 8, 3), 120, np.uint8)
LAW = {
    # Of a value of 120: the distribution of the grey level, before it is cut to whole ones.
    "gaussian_noise": lambda s: 120 + 255 * (0.08, 0.12, 0.18, 0.26, 0.38)[s - 1] * _normal(),
    "speckle_noise": lambda s: 120 * (1 + (0.15, 0.2, 0.25, 0.3, 0.35)[s - 1] * _normal()),
    "shot_noise": lambda s: 255 * _poisson(120 / 255, (250, 100, 50, 30, 15)[s - 1]),
}


def _normal():
    return stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)


def _poisson(light, photons):
    return stats.poisson.ppf((np.arange(200_000) + 0.5) / 200_000, light * photons) / photons


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", list(LAW))
def test_noise(name, severity):
    found = perturbed(name, GREY, 150, severity).astype(float)
    law = np.floor(np.clip(LAW[name](severity) + 1e-9, 0, 255))
    assert within(found.sum(), found.size * law.mean(), found.size * law.var())
    spread = (law - law.mean()) ** 2
    squares = ((found - law.mean()) ** 2).sum()
    assert within(squares, found.size * spread.mean(), found.size * spread.var())
    # Fresh draws every frame.
    assert len(np.unique(found.reshape(150, -1), axis=0)) == 150


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise(severity):
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    found = perturbed("impulse_noise", GREY, 300, severity)
    assert set(np.unique(found)) == {0, 120, 255}
    for extreme in (0, 255):
        share, count = amount / 2, (found == extreme).sum()
        assert within(count, share * found.size, share * (1 - share) * found.size)


PLAIN = {
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "zoom_blur": (
        *((1, 1.11, 0.01), (1, 1.16, 0.01), (1, 1.21, 0.02), (1, 1.26, 0.02), (1, 1.31, 0.03)),
    ),
    "jpeg_compression": (25, 18, 15, 10, 7),
}


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", list(PLAIN))
def test_what_draws_nothing(name, severity):
    """Every frame is the image that the published script makes of it."""
    expected = given_draws.reference(name, FRAME, PLAIN[name][severity - 1], {}).astype(int)
    for frame in perturbed(name, FRAME, 30, severity):
        assert np.abs(frame - expected).max() <= 1


def trace(radius, sigma, degrees):
    """Where ImageMagick's filter shows a dot, (down, right) in the mean, and how bright."""
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    shown = {}
    for tap, weight in zip(taps, weights / weights.sum(), strict=True):
        down = math.ceil(tap * math.sin(math.radians(degrees)) - 0.5)
        right = math.ceil(tap * math.cos(math.radians(degrees)) - 0.5)
        shown[-down, -right] = shown.get((-down, -right), 0) + 255 * weight
    levels = np.floor(257 * np.array(list(shown.values())) + 0.5) // 257
    return levels @ np.array(list(shown)) / levels.sum()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur(severity):
    """One angle a frame, uniform from -45 to 45 degrees: a bright dot leaves a trace of it."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    side, number = 4 * radius + 1, 40
    frame = np.zeros((side, side, 3), np.uint8)
    frame[2 * radius, 2 * radius] = 255
    found = perturbed("motion_blur", frame, number, severity)[..., 0].astype(float)
    weight = found.sum(axis=(1, 2))
    places = np.arange(side) - 2 * radius
    grid = -45 + (np.arange(720) + 0.5) / 8
    law = np.array([trace(radius, sigma, degrees) for degrees in grid])
    for axis, along in ((0, found.sum(2)), (1, found.sum(1))):
        mean = along @ places / weight
        assert within(mean.sum(), number * law[:, axis].mean(), number * law[:, axis].var())
        square, squares = mean**2, law[:, axis] ** 2
        assert within(square.sum(), number * squares.mean(), number * squares.var())
    assert len(np.unique(found.reshape(number, -1), axis=0)) > number / 2


def test_every_perturbation_has_its_law():
    tested = {*video.ALONG_TIME, "static_rotation", "random_rotation", "translation"}
    assert tested | {*LAW, *PLAIN, "impulse_noise", "motion_blur"} == set(video.PERTURBATIONS)
    assert jax.random.uniform(jax.random.key(0), (3,)).tolist() == (
        jax.random.uniform(jax.random.key(0), (9,))[:3].tolist()
    ), "frame_order draws more numbers than it uses"
