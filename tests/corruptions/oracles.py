"""What each corruption should give, worked out without `dst_jax.corruptions`: its oracle.

C-bar and 3DCC: `by_pixel`. Common corruptions: `benchmarks.common_numpy`, which `test_golden` holds
against the recorded outputs of the published scripts. Not tests.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common_numpy, given_draws
from dst_jax import corruptions
from dst_jax.corruptions.constants import ROWS
from tests.corruptions import by_pixel

# Where two rings or two rays meet, or a draw meets the Poisson law, rounding may move a value far.
MAY_JUMP = {
    *("cocentric_sine_waves", "sparkles", "inverse_sparkles", "iso_noise", "low_light"),
    *("blue_noise_sample", "checkerboard_cutout", "caustic_refraction"),
}


def preset_of(name):
    return "cifar32" if "cifar32" in ROWS[name] else "imagenet224"


def frost_procedural(image, row, draws):
    """Ours, in no benchmark: veins and cover of two fractals, bluish."""
    size = 1 << (max(image.shape[:2]) - 1).bit_length()
    numbers = [given_draws.fog_levels(u, size) for u in draws["u"]]
    veins, cover = (
        common_numpy.plasma(size, decay, given_draws.Given(*levels))[: len(image), : len(image)]
        for levels, decay in zip(numbers, (1.6, 2.0), strict=True)
    )
    ice = (0.3 + 0.7 * (1 - np.abs(2 * veins - 1)) ** 4) * (0.25 + 0.75 * cover)
    colour = np.multiply(255 * ice[..., None], [0.85, 0.95, 1.0])
    return row[0] * image + row[1] * colour


def expected(name, image, severity, draws):
    """uint8 [N, N, 3] of one image uint8 [N, N, 3] and its draws, at a severity of `preset_of`."""
    if name in by_pixel.ORACLES:
        table = by_pixel.CIFAR if preset_of(name) == "cifar32" else by_pixel.IMAGENET
        found = by_pixel.ORACLES[name](image, table[name][severity - 1], draws)
    else:
        row = ROWS[name][preset_of(name)][severity - 1]
        if name != "frost_procedural":
            return given_draws.reference(name, image, row, draws)
        found = frost_procedural(image, row, draws)
    assert np.isfinite(found).all()
    return np.clip(found, 0, 255).astype(np.uint8)


KNOWN = {*by_pixel.ORACLES, *common_numpy.FUNCTIONS, "frost_procedural"}


@functools.cache
def _program(name, side, frost_dir):
    corruption = corruptions.CORRUPTIONS[name]
    options = {"frost_dir": frost_dir} if "frost_dir" in corruption.options else {}

    @jax.jit
    def run(keys, severity):
        rows = ROWS[name][preset_of(name)]
        constants = corruption.constants(rows, (side, side), severity, **options)
        return jax.vmap(lambda key: corruption.draw(key, (side, side), constants))(keys)

    return run


def draws_of(name, keys, severity, side=32, frost_dir=None):
    """Our draws of a batch, as a list of one dictionary per key."""
    drawn = jax.device_get(_program(name, side, frost_dir)(keys, jnp.int32(severity)))
    return [{k: np.asarray(v[i]) for k, v in drawn.items()} for i in range(len(keys))]


def agree(name, found, wanted):
    """Whether an image is what is expected: at most one grey level off, but for jumps."""
    difference = np.abs(np.asarray(found).astype(int) - wanted.astype(int))
    return bool((difference > 1).mean() <= (2e-3 if name in MAY_JUMP else 0))
