"""Exchanged channels are found, in every corruption: what the comparisons with oracles are worth.

Each corruption is compared with its oracle on an image whose channels differ. The comparison must
hold, and must fail as soon as two channels are exchanged: of the output, of the input, or of the
colours that the corruption adds by itself.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import common_numpy
from dst_jax import corruptions
from dst_jax.corruptions.weather import FROST_FILES
from tests.corruptions import oracles

NAMES = list(corruptions.CORRUPTIONS)
PAIRS = list(itertools.combinations(range(3), 2))
SIDE = 32
MAPS = np.linspace(0.1, 1, SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE).repeat(4, axis=0)
# Of what they draw or add the colours matter: exchanged there alone, with the image's own channels
# in place, the output is another. A new corruption with colours of its own belongs here.
OWN_COLOURS = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "snow", "frost", "spatter"),
    *("jpeg_compression", "frost_procedural", "brownish_noise", "plasma_noise", "iso_noise"),
    *("low_light", "transverse_chromatic_abberation"),
}


def exchanged(image, pair):
    order = [0, 1, 2]
    order[pair[0]], order[pair[1]] = order[pair[1]], order[pair[0]]
    return np.asarray(image)[..., order]


def photograph():
    """Channels of unlike means and patterns, [32, 32, 3]."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    planes = [
        90 + 60 * np.sin(7 * x) + 20 * y,
        140 + 50 * np.cos(5 * y + x),
        60 + 50 * np.sin(6 * x * y),
    ]
    noise = np.random.default_rng(3).normal(0, 8, (SIDE, SIDE, 3))
    return np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)


IMAGE = photograph()
# The image, and with each pair of its channels exchanged.
IMAGES = np.stack([IMAGE, *(exchanged(IMAGE, pair) for pair in PAIRS)])


@pytest.fixture(scope="module", autouse=True)
def photographs_of_frost(frost_dir):
    """The oracle's frost is that of `frost_dir`."""
    bank = common_numpy.FROST_BANK
    before = list(bank)
    bank[:] = [np.asarray(Image.open(frost_dir / name).convert("RGB")) for name in FROST_FILES]
    yield
    bank[:] = before


def both(name, frost_dir):
    """(ours, the oracle's) of IMAGES on the same draws, and at the same severity."""
    # Water of spatter is below; Canny's edges without OpenCV are none to compare with.
    severity = 5 if name == "spatter" else 3
    keys = corruptions.example_keys(0, name, severity, jnp.zeros(4, jnp.int32))
    ours = corruptions.corrupt(
        *(name, IMAGES, keys, severity, oracles.preset_of(name)),
        frost_dir=frost_dir,
        maps=MAPS,
        coords="exact",
    )
    (draws,) = oracles.draws_of(name, keys[:1], severity, SIDE, frost_dir)
    if corruptions.CORRUPTIONS[name].needs_map:
        draws["map"] = MAPS[0]
    return np.asarray(ours), [oracles.expected(name, image, severity, draws) for image in IMAGES]


@pytest.mark.parametrize("name", NAMES)
def test_exchanged_channels_are_found(name, frost_dir):
    assert name in oracles.KNOWN, f"{name} has no oracle: nobody would see exchanged channels"
    ours, expected = both(name, frost_dir)
    for found, wanted in zip(ours, expected, strict=True):
        assert oracles.agree(name, found, wanted)
    told_apart = []
    for number, pair in enumerate(PAIRS, start=1):
        assert not oracles.agree(name, exchanged(ours[0], pair), expected[0]), f"output {pair}"
        assert not oracles.agree(name, ours[number], expected[0]), f"input {pair}"
        # Channels of the image in place, the corruption's own colours exchanged.
        own = exchanged(ours[number], pair)
        told_apart.append(not oracles.agree(name, own, expected[0]))
        # It may pass only where the published corruption treats both channels alike.
        alike = oracles.agree(name, exchanged(expected[number], pair), expected[0])
        assert told_apart[-1] != alike, f"own colours {pair}"
    assert any(told_apart) == (name in OWN_COLOURS)


def test_plasma_with_green_and_blue_exchanged_is_found(frost_dir):
    """As it was up to version 0.1.0."""
    ours, expected = both("plasma_noise", frost_dir)
    as_before = exchanged(ours[PAIRS.index((1, 2)) + 1], (1, 2))
    difference = np.abs(as_before.astype(int) - expected[0].astype(int))
    assert (difference > 1).mean() > 0.5
    assert difference[..., 0].max() <= 1  # red was right


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_colour_of_water(severity):
    """Pale turquoise (175, 238, 238) on black: one amount for all channels."""
    black = jnp.zeros((4, SIDE, SIDE, 3), jnp.uint8)
    keys = corruptions.example_keys(1, "spatter", severity, jnp.arange(4))
    red, green, blue = np.moveaxis(
        np.asarray(corruptions.corrupt("spatter", black, keys, severity, "cifar32"), float), -1, 0
    )
    np.testing.assert_array_equal(green, blue)
    assert green.max() > 50
    # Whole levels, cut off: within one level of the ratio.
    assert np.all(np.abs(red - green * 175 / 238) <= 1.75)


def test_every_suite_is_covered():
    """What anybody can render by name has been through the test above."""
    assert set().union(*corruptions.SUITES.values()) <= set(NAMES)
    assert set(NAMES) >= oracles.KNOWN
    assert set(NAMES) >= OWN_COLOURS


def test_a_corruption_without_an_oracle_is_told():
    with pytest.raises(AssertionError, match="sepia has no oracle"):
        test_exchanged_channels_are_found("sepia", None)


def test_a_wrong_channel_is_no_agreement():
    """The comparison itself, on what it must not let through."""
    assert oracles.agree("fog", IMAGE, IMAGE)
    for pair in PAIRS:
        assert not oracles.agree("fog", exchanged(IMAGE, pair), IMAGE)
        assert not oracles.agree("iso_noise", exchanged(IMAGE, pair), IMAGE)
    assert (
        jax.tree.leaves(oracles.draws_of("brightness", jax.random.split(jax.random.key(0)), 1))
        == []
    )
