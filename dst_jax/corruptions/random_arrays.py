"""Large arrays of random numbers: one counter hashed per number, with the generator of JAX's keys.

`jax.random` gives the same laws and hashes 64-bit counters, so that an array may be split over
devices; here an image is never split, batches are. With it, 18 corruptions at 32 pixels took 1.23
times the processor's time (1.11 to 1.42) on 2 CPU cores: `python -m benchmarks.draws --only
rendering`. Called by every corruption that draws a number per pixel; single numbers come from
`jax.random`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32


def uniform(
    key: jax.Array, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0
) -> jax.Array:
    """[*shape] float32, uniform in [low, high), in steps of (high - low) / 2**23.

    Args:
      key: a random key, typed or raw.
      shape: of the result; fewer than 2**32 numbers.
      low: the least number.
      high: what every number stays below.
    """
    # Two words of any kind of key.
    words = threefry_2x32(
        jax.random.bits(key, (2,), jnp.uint32), jnp.arange(math.prod(shape), dtype=jnp.uint32)
    )
    # The upper 23 bits become the mantissa of a number in [1, 2).
    mantissa = (words >> 9) | np.uint32(0x3F800000)
    unit = jax.lax.bitcast_convert_type(mantissa, jnp.float32) - 1.0
    low_32, width = np.float32(low), np.float32(high) - np.float32(low)
    return jnp.maximum(unit * width + low_32, low_32).reshape(shape)


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[*shape] float32 of the standard normal law, by the inverse of its distribution function.

    As fine as `jax.random.normal`: 2**23 quantiles, the outermost at 5.4 deviations.
    """
    least = np.nextafter(np.float32(-1), np.float32(0))
    return np.float32(math.sqrt(2)) * jax.lax.erf_inv(uniform(key, shape, least, 1.0))
