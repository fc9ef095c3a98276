"""The same draws and images whatever the batch, its order, the devices, or whether jit is used.

Also one compilation a corruption, and images that break careless arithmetic.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dst_jax import corruptions
from dst_jax.corruptions import registry
from dst_jax.corruptions.constants import ROWS

pytestmark = pytest.mark.usefixtures("compiled_in_full")

SIDE = 32
COMMON = (*corruptions.BENCHMARK, *corruptions.EXTRA)
NAMES = list(corruptions.CORRUPTIONS)
IDS = np.arange(100, 164, dtype=np.int32)
MAPS = np.random.default_rng(2).uniform(0.1, 1, (64, SIDE, SIDE)).astype(np.float32)


def make_images():
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    generator = np.random.default_rng(0)
    waves = np.stack([np.sin(a * x + b * y) for a, b in generator.uniform(2, 9, (192, 2))])
    waves = waves.reshape(64, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.clip(60 * waves + 120 + generator.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)


IMAGES = make_images()


def preset_of(name):
    return "cifar32" if "cifar32" in ROWS[name] else "imagenet224"


def run(name, frost_dir, images, ids, maps, severity=4):
    keys = corruptions.example_keys(5, name, severity, ids)
    preset = preset_of(name)
    options = {"frost_dir": frost_dir, "maps": maps}
    return corruptions.corrupt(name, images, keys, severity, preset, **options)


def share_off(found, expected):
    """Asserts one grey level at most, and returns the share of values that differ."""
    difference = np.abs(np.asarray(found).astype(int) - np.asarray(expected).astype(int))
    assert difference.max() <= 1
    return (difference > 0).mean()


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_the_same_bits(name, frost_dir):
    """Batches of 64, 7 and 1; another order, on four devices."""
    corruption = corruptions.CORRUPTIONS[name]
    options = {"frost_dir": str(frost_dir)} if "frost_dir" in corruption.options else {}
    rows = ROWS[name][preset_of(name)]

    @jax.jit
    def draw(ids):
        constants = corruption.constants(rows, (SIDE, SIDE), 4, **options)
        keys = corruptions.example_keys(5, name, 4, ids)
        return jax.vmap(lambda key: corruption.draw(key, (SIDE, SIDE), constants))(keys)

    together = draw(IDS)
    devices = NamedSharding(Mesh(jax.devices(), ("images",)), PartitionSpec("images"))
    order = np.random.default_rng(0).permutation(64)
    for other, chosen in (
        (draw(IDS[:7]), slice(0, 7)),
        (draw(IDS[:1]), slice(0, 1)),
        (draw(jax.device_put(IDS[order], devices)), order),
    ):
        for key, values in together.items():
            np.testing.assert_array_equal(other[key], np.asarray(values)[chosen])


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMON)
def test_images_in_any_batch_on_any_devices(name, frost_dir):
    data = (IMAGES[:8], IDS[:8], MAPS[:8])
    together = np.asarray(run(name, frost_dir, *map(jnp.asarray, data)))
    order = np.array([5, 2, 7, 0, 1, 3, 6, 4])
    shuffled = run(name, frost_dir, *(jnp.asarray(x[order]) for x in data))
    np.testing.assert_array_equal(shuffled, together[order])
    devices = NamedSharding(Mesh(jax.devices(), ("images",)), PartitionSpec("images"))
    split = run(name, frost_dir, *(jax.device_put(x, devices) for x in data))
    np.testing.assert_array_equal(split, together)
    single = run(name, frost_dir, *(jnp.asarray(x[:1]) for x in data))
    assert share_off(single, together[:1]) <= 1e-3


@pytest.mark.slow  # each operation is compiled by itself
@pytest.mark.parametrize("name", COMMON)
def test_images_without_jit(name, frost_dir):
    data = [jnp.asarray(x[:1]) for x in (IMAGES, IDS, MAPS)]
    compiled = run(name, frost_dir, *data)
    with jax.disable_jit():
        eager = run(name, frost_dir, *data)
    assert share_off(eager, compiled) <= 1e-3


def test_a_suite_compiles_once_a_corruption(frost_dir):
    registry._corrupt.clear_cache()
    names = ("gaussian_noise", "contrast", "pixelate", "brightness", "motion_blur")
    for name in names:
        for severity in range(1, 6):
            run(name, frost_dir, IMAGES[:2], IDS[:2], MAPS[:2], severity)
    assert registry._corrupt._cache_size() == len(names)


def test_every_constant_has_the_shape_of_all_severities(frost_dir):
    """What compiling once rests on, for all of them without compiling."""
    for name, corruption in corruptions.CORRUPTIONS.items():
        options = {"frost_dir": str(frost_dir)} if "frost_dir" in corruption.options else {}
        for preset, rows in ROWS[name].items():
            size = corruptions.PRESET_SIZES[preset]

            def constants(severity, corruption=corruption, rows=rows, size=size, options=options):
                found = corruption.constants(rows, (size, size), severity, **options)
                return {k: v for k, v in found.items() if isinstance(v, jax.Array)}

            jax.eval_shape(constants, jax.ShapeDtypeStruct((), jnp.int32))


EXTREMES = np.stack(
    [
        np.zeros((SIDE, SIDE, 3)),
        np.full((SIDE, SIDE, 3), 255),
        np.full((SIDE, SIDE, 3), 128),
        np.broadcast_to([200.0, 90.0, 30.0], (SIDE, SIDE, 3)),
        np.pad(np.ones((1, 1, 3)), ((9, 22), (20, 11), (0, 0))) + 99,
    ]
).astype(np.uint8)


# In the reference, too, these do not grow with severity: their constants change in kind, or (frost)
# the image's weight falls while the photograph's rises.
NOT_MONOTONE = {"glass_blur", "elastic_transform", "snow", "frost", "spatter", "saturate"}
KEEPS_GREY = {"defocus_blur", "glass_blur", "zoom_blur", "gaussian_blur", "motion_blur"}
KEEPS_GREY |= {"contrast", "elastic_transform", "pixelate"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_extreme_images_and_severities(name, frost_dir):
    """Black, white, grey, one colour, and one pixel that differs; then the mean absolute change.

    On the floats of `apply`, all severities on the same draws.
    """
    corruption = corruptions.CORRUPTIONS[name]
    options = {"frost_dir": str(frost_dir)} if "frost_dir" in corruption.options else {}
    rows = ROWS[name][preset_of(name)]
    keys = corruptions.example_keys(5, name, 1, IDS[:10])
    images = np.concatenate([EXTREMES, IMAGES[:5]])

    @jax.jit
    def apply(severity):
        constants = corruption.constants(rows, (SIDE, SIDE), severity, **options)

        def one(image, key, map_):
            draws = corruption.draw(key, (SIDE, SIDE), constants)
            return corruption.apply(image, {**draws, "map": map_}, constants)

        return jax.vmap(one)(images, keys, jnp.asarray(MAPS[:10]))

    changes = []
    for severity in range(1, 6):
        found = np.asarray(apply(severity))
        assert np.isfinite(found).all()
        if name in KEEPS_GREY:
            np.testing.assert_allclose(found[2], 128.0, atol=1 if name == "motion_blur" else 0.05)
        changes.append(
            np.abs(np.clip(found[5:], 0, 255).astype(np.uint8) - 1.0 * images[5:]).mean()
        )
    if name in COMMON and name not in NOT_MONOTONE:
        steps = np.diff(changes)
        # Severity 4 of motion blur adds taps that weigh nothing: the deviation stays that of 3.
        least = [0 if name == "motion_blur" and i == 2 else 1e-6 for i in range(4)]
        assert (steps >= least).all(), changes


@pytest.mark.parametrize("name", COMMON)
def test_images_that_are_not_square(name, frost_dir):
    """Shapes; `test_formulas.py` has the values of those that treat the two axes apart."""

    def corrupted(images, ids):
        return run(name, frost_dir, images, ids, MAPS[:2, :, :24], 3)

    shape = jax.ShapeDtypeStruct((2, SIDE, 24, 3), jnp.uint8)
    found = jax.eval_shape(corrupted, shape, jax.ShapeDtypeStruct((2,), jnp.int32))
    assert (found.shape, found.dtype) == (shape.shape, shape.dtype)
