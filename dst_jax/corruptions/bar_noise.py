"""C-bar's additive and multiplicative noise: Fourier, wave, plasma and Perlin noise.

Called through the registry; `bar.py` has the suites and how exact each corruption is.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.corruptions import random_arrays
from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity
from dst_jax.corruptions.constants import Rows


def square_side(shape: tuple[int, int], even: bool = False) -> int:
    """The side of square images.

    Raises:
      ValueError: the images are not square, or their side is odd where `even` is asked for.
    """
    if shape[0] != shape[1] or (even and shape[0] % 2):
        expected = "an even side" if even and shape[0] == shape[1] else "square images"
        raise ValueError(f"this corruption needs {expected}; found {shape[0]} x {shape[1]}")
    return shape[0]


def level(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    """The constants of a corruption that needs only its level: {"level": 0..10, "side": N}."""
    return {
        "level": by_severity(np.asarray(rows, np.float64), severity),
        "side": square_side(shape),
    }


# --- noise that is drawn in Fourier space ---


def _spectrum_constants(rows: Rows, shape: tuple[int, int], severity: Any, colour: str) -> dict:
    side = square_side(shape, even=True)
    offsets = np.arange(side) - side / 2
    distance = np.hypot(offsets[:, None], offsets)
    amplitude = distance if colour == "blue" else 1.0 / (distance**2 + 1.0)
    return {**level(rows, shape, severity), "amplitude": amplitude.astype(np.float32)}


def _blue_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    return _spectrum_constants(rows, shape, severity, "blue")


def _brownish_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    return _spectrum_constants(rows, shape, severity, "brownish")


def _draw_phases(key: jax.Array, side: int, channels: int) -> dict[str, jax.Array]:
    shape = (channels, side, side // 2)
    return {"phases": random_arrays.uniform(key, shape, 0.0, 2 * np.pi)}


def _draw_blue(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    return _draw_phases(key, constants["side"], 1)


def _draw_brownish(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    return _draw_phases(key, constants["side"], 3)


def _fourier_noise(phases: jax.Array, amplitude: jax.Array) -> jax.Array:
    """Noise of standard deviation 1 with a given spectrum.

    Args:
      phases: [C, N, N/2] float32, of the left half; the right half is their point mirror.
      amplitude: [N, N] float32, frequency 0 in the middle.

    Returns:
      [N, N, C] float32.
    """
    side = amplitude.shape[0]
    phases = jnp.concatenate([phases, phases[:, ::-1, ::-1]], axis=2)
    spectrum = amplitude[None] * jax.lax.complex(jnp.cos(phases), jnp.sin(phases))
    spectrum = jnp.roll(spectrum, (side // 2, side // 2), axis=(1, 2))
    # The mirror is off by one frequency, so that the inverse transform is complex and its real part
    # counts. That is the inverse transform of the Hermitian part, at half the cost.
    mirrored = jnp.roll(spectrum[:, ::-1, ::-1], (1, 1), axis=(1, 2))
    half = ((spectrum + jnp.conj(mirrored)) / 2)[:, :, : side // 2 + 1]
    noise = jnp.fft.irfft2(half, s=(side, side))
    return jnp.moveaxis(noise / noise.std(axis=(1, 2), keepdims=True), 0, -1)


def _blue_noise_sample(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Blackens the pixels whose blue noise is below a threshold."""
    noise = _fourier_noise(draws["phases"], constants["amplitude"])
    return jnp.where(noise > 0.3 * constants["level"] - 2.5, image.astype(jnp.float32), 0.0)


def _brownish_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    noise = _fourier_noise(draws["phases"], constants["amplitude"])
    return image + 6.4 * constants["level"] * noise


# --- waves ---


def _draw_frequency(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape, constants
    keys = jax.random.split(key, 4)
    first = jax.random.uniform(keys[0], (), jnp.float32, -np.pi, np.pi)
    second = jnp.abs(first) * jax.random.uniform(keys[1], (), jnp.float32, -1.0, 1.0)
    return {
        "frequency": jax.random.permutation(keys[2], jnp.stack([first, second])),
        "phase": jax.random.uniform(keys[3], (), jnp.float32, 0.0, 2 * np.pi),
    }


def _single_frequency_greyscale(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    position = jnp.arange(constants["side"], dtype=jnp.float32)
    along, down = draws["frequency"][0] * position, draws["frequency"][1] * position
    wave = jnp.sin(along[None, :] + down[:, None] + draws["phase"])
    return image + 19.6 * constants["level"] * wave[..., None]


def _draw_rings(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    side = constants["side"]
    keys = jax.random.split(key, 4)
    return {
        "centre": jax.random.uniform(keys[0], (2,), jnp.float32, 0.0, side),  # x, y
        "frequency": jax.random.uniform(keys[1], (), jnp.float32, 0.0, 10.0),
        "amplitude": jax.random.uniform(keys[2], (), jnp.float32, 0.0, side / 10),
        # Never exactly 0, which it divides by.
        "width": jax.random.uniform(keys[3], (), jnp.float32, 1e-6 * side, side / 10),
    }


def _cocentric_sine_waves(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    position = jnp.arange(constants["side"], dtype=jnp.float32)
    x = (position - draws["centre"][0])[None, :]
    y = (position - draws["centre"][1])[:, None]
    angle = jnp.arctan2(*jnp.broadcast_arrays(x, y)) * draws["frequency"]
    distance = jnp.sqrt(x**2 + y**2) + draws["amplitude"] * jnp.sin(angle)
    wave = jnp.mod(distance, draws["width"]) / draws["width"] - 0.5
    return image + 12.8 * constants["level"] * wave[..., None]


# --- plasma ---

_MOST_ITERATIONS = 6


def _draw_plasma(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape
    keys = jax.random.split(key, 4)
    scale = jax.random.uniform(keys[3], (), jnp.float32, 0.075, 0.2)
    return {
        "time": jax.random.uniform(keys[0], (), jnp.float32, 0.0, 6 * np.pi),
        "iterations": jax.random.randint(keys[1], (), 4, _MOST_ITERATIONS + 1, jnp.int32),
        "sharpness": jax.random.uniform(keys[2], (), jnp.float32, 0.5, 1.0),
        "scale": scale * constants["side"],
    }


def _plasma_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    """Mixes the image with colours of coordinates that sines have warped several times."""
    side, time = constants["side"], draws["time"]
    position = jnp.arange(side, dtype=jnp.float32) / draws["scale"]
    x = jnp.broadcast_to(position[None, :], (side, side))
    y = jnp.broadcast_to(position[:, None], (side, side))
    frequency, slowness, divisor = 1.0, 1.0, jnp.float32(1.0)
    for iteration in range(_MOST_ITERATIONS):
        # The generator also subtracts a phase that it updates by multiplying: it stays 0.
        right = jnp.cos(y * frequency + time / slowness) / divisor
        down = jnp.sin(x * frequency + time / slowness) / divisor
        go_on = iteration < draws["iterations"]
        x = jnp.where(go_on, x + right - 0.3 * down, x)
        y = jnp.where(go_on, y + down + 0.3 * right, y)
        frequency, slowness = frequency * 1.93, slowness * 1.15
        divisor = divisor * (2.25 - draws["sharpness"])
    # Red, green, blue; the generator computes them in another order.
    colours = (jnp.sin(x - time), jnp.sin((x + y + jnp.sin(time)) * 0.5), jnp.sin(y + time))
    strength = 6.4 * constants["level"]
    return (1.0 - strength / 255.0) * image + strength * jnp.stack(colours, axis=-1)


# --- Perlin ---

_CELL = 32 / 224  # side of the coarsest cell relative to the image's
_OCTAVES = (1, 2, 4, 8, 16)


def _draw_perlin(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del shape, constants
    keys = jax.random.split(key)
    whole = jax.random.randint(keys[1], (256, 2), -256, 256, jnp.int32).astype(jnp.float32)
    # (0, 0) has no direction; the generator would divide 0 by 0.
    length = jnp.maximum(jnp.linalg.norm(whole, axis=1, keepdims=True), 1.0)
    return {
        "order": jax.random.permutation(keys[0], jnp.arange(256, dtype=jnp.int32)),
        "gradients": whole / length,
    }


def _perlin(order: jax.Array, gradients: jax.Array, side: int, octave: int) -> jax.Array:
    """Perlin's gradient noise at one scale, [side, side] float32."""
    position = np.arange(side) / (_CELL * side) * octave
    cell = np.floor(position).astype(np.int64)
    rest = (position - cell).astype(np.float32)
    corner = order[jnp.arange(cell[-1] + 2) % 256]
    lattice = gradients[order[(corner[:, None] + jnp.arange(cell[-1] + 2)[None, :]) % 256]]
    smooth = rest**2 * (3.0 - 2.0 * rest)

    def mixed_along_columns(below: int) -> jax.Array:
        values = []
        for right in (0, 1):
            near = jnp.take(jnp.take(lattice, cell + right, axis=0), cell + below, axis=1)
            along, across = (rest - right)[:, None], (rest - below)[None, :]
            values.append(near[..., 0] * along + near[..., 1] * across)
        return values[0] + smooth[:, None] * (values[1] - values[0])

    first, second = mixed_along_columns(0), mixed_along_columns(1)
    return 1.5 * (first + smooth[None, :] * (second - first))


def _perlin_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    turbulence = sum(
        jnp.abs(_perlin(draws["order"], draws["gradients"], constants["side"], octave)) / octave
        for octave in _OCTAVES
    )
    noise = jnp.clip(0.5 * turbulence + 0.5, 0.0, 1.0)
    weight = 0.05 * constants["level"]
    return (1.0 - weight) * image + 255.0 * weight * noise[..., None]


BLUE_NOISE_SAMPLE = Corruption(
    "blue_noise_sample", "bar", _blue_constants, _blue_noise_sample, _draw_blue
)
BROWNISH_NOISE = Corruption(
    "brownish_noise", "bar", _brownish_constants, _brownish_noise, _draw_brownish
)
SINGLE_FREQUENCY_GREYSCALE = Corruption(
    "single_frequency_greyscale", "bar", level, _single_frequency_greyscale, _draw_frequency
)
COCENTRIC_SINE_WAVES = Corruption(
    "cocentric_sine_waves", "bar", level, _cocentric_sine_waves, _draw_rings
)
PLASMA_NOISE = Corruption("plasma_noise", "bar", level, _plasma_noise, _draw_plasma)
PERLIN_NOISE = Corruption("perlin_noise", "bar", level, _perlin_noise, _draw_perlin)
