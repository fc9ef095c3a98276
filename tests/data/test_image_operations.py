"""Every image operation against Pillow, and what the policies draw from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from dst_jax import random_keys
from dst_jax.data import autoaugment, image_operations

FILL = (124, 116, 104)
COUNT = 24
RANGES = {
    **dict.fromkeys(("shear_x", "shear_y"), (-0.3, 0.3)),
    **dict.fromkeys(("translate_x", "translate_y"), (-18, 18)),
    "rotate": (-30, 30),
    "posterize": (1, 9),
    "solarize": (0, 257),
    "solarize_add": (0, 111),
    **dict.fromkeys(image_operations.BLENDS, (0.1, 1.9)),
}
WHOLE = ("posterize", "solarize", "solarize_add")


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (COUNT, 33, 40, 3), dtype=np.uint8)
    noise[1] = noise[1] // 4 + 30
    noise[2] = 7  # one grey level
    noise[3, :, :, 0] = 5  # in one channel only
    for index in range(4, COUNT, 2):  # smooth ones
        smooth = Image.fromarray(noise[index]).filter(ImageFilter.GaussianBlur(3))
        noise[index] = np.asarray(smooth)
    return noise


def by_pillow(image, name, value):
    image = Image.fromarray(image)

    def affine(*matrix):
        bilinear = Image.Resampling.BILINEAR
        return image.transform(image.size, Image.Transform.AFFINE, matrix, bilinear, fillcolor=FILL)

    added = [min(255, level + int(value)) if level < 128 else level for level in range(256)]
    made = {
        "shear_x": lambda: affine(1, value, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, value, 1, 0),
        "translate_x": lambda: affine(1, 0, value, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, value),
        "rotate": lambda: image.rotate(value, Image.Resampling.BILINEAR, fillcolor=FILL),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "posterize": lambda: ImageOps.posterize(image, int(value)),
        "solarize": lambda: ImageOps.solarize(image, int(value)),
        "solarize_add": lambda: image.point(added * 3),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(value),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(value),
        "color": lambda: ImageEnhance.Color(image).enhance(value),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(value),
    }
    return np.asarray(made[name]()).astype(int)


@pytest.fixture(scope="module")
def ours():
    """One program for all operations: the choice is traced, as inside a training step."""
    apply = jax.vmap(image_operations.apply, in_axes=(0, None, None, 0, None))
    return jax.jit(
        lambda images, choice, values: apply(
            images, image_operations.OPERATIONS, choice, values, FILL
        )
    )


@pytest.mark.parametrize("name", image_operations.OPERATIONS)
def test_it_is_pillows(name, images, ours):
    low, high = RANGES.get(name, (0, 1))
    values = np.random.default_rng(1).uniform(low, high, COUNT).astype(np.float32)
    if name in WHOLE:
        values = np.floor(values)
    found = np.asarray(ours(images, image_operations.OPERATIONS.index(name), values)).astype(int)
    expected = np.stack(
        [by_pillow(image, name, float(value)) for image, value in zip(images, values, strict=True)]
    )
    difference = np.abs(found - expected)
    if name in ("invert", *WHOLE, "equalize", *image_operations.BLENDS):
        assert difference.max() == 0
    else:  # Pillow cuts a double where we cut a float32
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.005


def test_an_image_that_drew_none_stays_as_it_is(images, ours):
    np.testing.assert_array_equal(ours(images, -1, np.full(COUNT, 3.0, np.float32)), images)


KEYS = random_keys.for_examples(0, 0, jnp.arange(20_000))


def within_five_sigma(found, probability, count):
    return abs(found - probability) < 5 * np.sqrt(probability * (1 - probability) / count)


def test_randaugment_draws_every_operation_alike_and_applies_half():
    draw = jax.jit(jax.vmap(lambda key: autoaugment.randaugment_draw(key, 1, 9.0)))
    choices, applied, strengths, signs = map(np.asarray, draw(KEYS))
    shares = np.bincount(choices, minlength=15) / len(choices)
    assert len(shares) == 15
    assert all(within_five_sigma(share, 1 / 15, len(choices)) for share in shares)
    assert within_five_sigma(applied.mean(), 0.5, len(choices))
    assert within_five_sigma((signs == 1).mean(), 0.5, len(choices))
    assert set(signs) == {-1, 1}
    # A normal law of standard deviation 0.5 around 9, cut at 10: two deviations above the mean.
    assert strengths.max() == 10
    assert within_five_sigma((strengths == 10).mean(), 0.02275, len(choices))
    assert within_five_sigma((strengths < 8.5).mean(), 0.15866, len(choices))
    other = np.asarray(jax.vmap(lambda key: autoaugment.randaugment_draw(key, 0, 9.0))(KEYS)[0])
    assert within_five_sigma((other == choices).mean(), 1 / 15, len(choices))


def test_strengths_are_those_of_timms_increasing_set():
    expected = {
        **dict.fromkeys(("shear_x", "shear_y"), -0.27),
        "translate_x": -0.45 * 0.9 * 40,
        "translate_y": -0.45 * 0.9 * 33,
        "rotate": -27.0,
        "posterize": 1.0,  # bits: 4 - int(3.6)
        "solarize": 26.0,  # 256 - int(230.4)
        "solarize_add": 99.0,
        **dict.fromkeys(image_operations.BLENDS, 0.19),
        **dict.fromkeys(("autocontrast", "equalize", "invert"), 0.0),
    }
    for number, name in enumerate(autoaugment.RANDAUGMENT):
        value = autoaugment.randaugment_value(
            number, jnp.float32(9.0), jnp.float32(-1.0), (33, 40, 3)
        )
        assert float(value) == pytest.approx(expected[name], rel=1e-5), name
    bits = autoaugment.randaugment_value(
        autoaugment.RANDAUGMENT.index("posterize"), jnp.float32(10), jnp.float32(1), (33, 40, 3)
    )
    assert float(bits) == 1  # Pillow refuses to keep none
    floor = autoaugment.randaugment_value(
        autoaugment.RANDAUGMENT.index("color"), jnp.float32(10), jnp.float32(-1), (33, 40, 3)
    )
    assert float(floor) == pytest.approx(0.1)


def test_randaugment_is_its_layers_one_after_the_other(images):
    keys = KEYS[:COUNT]
    together = jax.jit(
        jax.vmap(lambda image, key: autoaugment.randaugment(image, key, 2, 9.0, FILL))
    )(images, keys)
    for index in range(COUNT):
        image = images[index]
        for layer in range(2):
            choice, applied, strength, sign = autoaugment.randaugment_draw(keys[index], layer, 9.0)
            value = autoaugment.randaugment_value(choice, strength, sign, image.shape)
            if applied:
                name = autoaugment.RANDAUGMENT[int(choice)]
                image = by_pillow(image.astype(np.uint8), name, float(value))
        difference = np.abs(np.asarray(together[index]).astype(int) - image)
        assert np.median(difference) == 0  # equalize may spread one level's rounding
        assert (difference > 1).mean() < 0.02


def test_augmix_is_algorithm_1_with_pillow(images):
    keys, severity = KEYS[:6], 3.0
    found = jax.jit(jax.vmap(lambda image, key: autoaugment.augmix(image, key, severity)))(
        images[4:10], keys
    )
    for index, key in enumerate(keys):
        weights, share, lengths = autoaugment.augmix_shares(key)
        mixture = 0.0
        for chain in range(3):
            image = images[4 + index]
            for depth in range(int(lengths[chain])):
                choice, value = autoaugment.augmix_draw(
                    key, 3 * chain + depth, severity, image.shape
                )
                name = autoaugment.AUGMIX[int(choice)]
                image = _black_outside(image.astype(np.uint8), name, float(value))
            mixture = mixture + float(weights[chain]) * image
        expected = (1 - float(share)) * images[4 + index] + float(share) * mixture
        difference = np.abs(found[index] - expected)
        assert np.median(difference) < 0.01
        assert (difference > 1.1).mean() < 0.02


def _black_outside(image, name, value):
    """`by_pillow` with black for what a warp brings in."""
    if name not in image_operations.WARPS:
        return by_pillow(image, name, value)
    white = by_pillow(np.full_like(image, 255), name, value)
    return np.where(white == FILL, 0, by_pillow(image, name, value))


def test_augmix_draws_flat_shares_and_all_lengths():
    weights, share, lengths = map(np.asarray, jax.jit(jax.vmap(autoaugment.augmix_shares))(KEYS))
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    # One weight of a flat Dirichlet law of three is Beta(1, 2): P(w < x) = 1 - (1 - x)^2.
    for limit in (0.1, 0.3, 0.7):
        expected = 1 - (1 - limit) ** 2
        assert within_five_sigma((weights[:, 1] < limit).mean(), expected, len(weights))
        assert within_five_sigma((share < limit).mean(), limit, len(share))
    for length in (1, 2, 3):
        assert within_five_sigma((lengths[:, 2] == length).mean(), 1 / 3, len(lengths))


def test_augmix_uses_no_corruption_of_imagenet_c_and_no_strength_beyond_its_severity():
    assert not set(autoaugment.AUGMIX) & {*image_operations.BLENDS, "invert", "solarize_add"}
    draw = jax.vmap(lambda key: autoaugment.augmix_draw(key, 4, 3.0, (30, 60, 3)))
    choices, values = map(np.asarray, jax.jit(draw)(KEYS))
    # whole numbers strictly below 30, 60/3 and 30/3 times 0.3
    bounds = {"rotate": 8, "shear_x": 0.09, "translate_x": 5, "translate_y": 2}
    for name, bound in bounds.items():
        drawn = values[choices == autoaugment.AUGMIX.index(name)]
        assert within_five_sigma((drawn > 0).mean(), (drawn != 0).mean() / 2, len(drawn))
        assert 0.8 * bound <= np.abs(drawn).max() <= bound
