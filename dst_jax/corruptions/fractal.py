"""A plasma fractal by the diamond-square algorithm (Fournier, Fussell & Carpenter 1982).

On a torus, so that borders need no rule. Called by `weather.fog` and `weather.frost_procedural`.
"""

import jax
import jax.numpy as jnp


def plasma(uniforms: jax.Array, decay: jax.Array, size: int) -> jax.Array:
    """A cloud of random relief, rough at all scales.

    Each level adds the centres of the squares, then the middles of their horizontal and of their
    vertical edges: the mean of the four nearest points and a random displacement.

    Args:
      uniforms: [size**2 - 1] float32 in [-1, 1): per level 3 arrays of side 1, 2, 4, ..
      decay: how much the displacements' scale shrinks per level.
      size: the side, a power of two.

    Returns:
      [size, size] float32 in [0, 1].
    """
    relief = jnp.zeros((1, 1), jnp.float32)
    scale = jnp.float32(100.0)
    used = 0
    while (side := relief.shape[0]) < size:
        noise = uniforms[used : used + 3 * side * side].reshape(3, side, side)
        used += 3 * side * side
        # The published script scales twice: the range by `scale`, and the sample again.
        noise = noise * scale * scale
        down, right = jnp.roll(relief, -1, axis=0), jnp.roll(relief, -1, axis=1)
        centres = (relief + down + right + jnp.roll(right, -1, axis=0)) / 4 + noise[0]
        horizontal = (relief + right + centres + jnp.roll(centres, 1, axis=0)) / 4 + noise[1]
        vertical = (relief + down + centres + jnp.roll(centres, 1, axis=1)) / 4 + noise[2]
        even = jnp.stack([relief, horizontal], axis=2).reshape(side, 2 * side)
        odd = jnp.stack([vertical, centres], axis=2).reshape(side, 2 * side)
        relief = jnp.stack([even, odd], axis=1).reshape(2 * side, 2 * side)
        scale = scale / decay
    relief = relief - relief.min()
    return relief / relief.max()
