"""Noise, one independent draw per pixel and channel: Gaussian, shot, impulse and speckle noise.

Called through the registry only.
"""

import jax
import jax.numpy as jnp

from dst_jax.corruptions.base import Constants, Corruption, Draws, columns


def _draw_normal(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del constants
    return {"n": jax.random.normal(key, (*shape, 3), jnp.float32)}


def _gaussian_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    return image + 255.0 * constants["std"] * draws["n"]


def _draw_impulse(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    del constants
    flip_key, salt_key = jax.random.split(key)
    return {
        "u_flip": jax.random.uniform(flip_key, (*shape, 3), jnp.float32),
        "u_salt": jax.random.uniform(salt_key, (*shape, 3), jnp.float32),
    }


def _impulse_noise(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    extreme = jnp.where(draws["u_salt"] <= 0.5, 255.0, 0.0)
    return jnp.where(draws["u_flip"] <= constants["amount"], extreme, image.astype(jnp.float32))


GAUSSIAN_NOISE = Corruption(
    "gaussian_noise", "noise", columns("std"), _gaussian_noise, _draw_normal
)
IMPULSE_NOISE = Corruption("impulse_noise", "noise", columns("amount"), _impulse_noise, _draw_impulse)
