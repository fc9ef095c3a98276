"""Glass blur: pixels take the places of near ones, between two Gaussian blurs.

The published script visits pixels one after another. Here the same result comes from following
pointers, all pixels at once. Called through the registry only.
"""

from typing import Any

import jax
import jax.numpy as jnp

from dst_jax.corruptions import random_arrays
from dst_jax.corruptions.base import Constants, Corruption, Draws, by_severity, look_up
from dst_jax.corruptions.blur import gaussian_smoothing, smooth
from dst_jax.corruptions.constants import Rows


def _glass_constants(rows: Rows, shape: tuple[int, int], severity: Any) -> dict[str, Any]:
    sigmas, deltas, sweeps = zip(*rows, strict=True)
    return {
        **gaussian_smoothing(sigmas, shape, severity),
        "delta": by_severity(deltas, severity),
        "sweeps": by_severity(sweeps, severity),
        "most_sweeps": max(sweeps),
    }


def _draw_offsets(key: jax.Array, shape: tuple[int, int], constants: Constants) -> dict:
    """Offsets (dx, dy) in -delta..delta-1 (the script's upper end is exclusive)."""
    delta = constants["delta"]
    # One 23-bit uniform each: half the cost of randint, and as even over at most 10 values.
    u = random_arrays.uniform(key, (constants["most_sweeps"], *shape, 2))
    return {"offsets": jnp.floor(u * (2 * delta)).astype(jnp.int32) - delta}


def _sources_of_sweep(offsets: jax.Array, delta: jax.Array) -> jax.Array:
    """Where each pixel's value comes from after one sweep.

    The script runs from the last row and column to the first, `delta` pixels inside the border, and
    means to swap two pixels; since its arrays are views, it copies the other pixel into the visited
    one. A pixel that copies from an already visited one therefore gets the *new* value there, and
    chains of such copies end at the first pixel that was still old. Each round below doubles the
    length of the chains that are resolved.

    Args:
      offsets: [H, W, 2] int32 (dx, dy).
      delta: int32, the largest offset.

    Returns:
      [H * W] int32 flat positions.
    """
    H, W, _ = offsets.shape
    rows = jnp.arange(H, dtype=jnp.int32)[:, None]
    cols = jnp.arange(W, dtype=jnp.int32)[None, :]

    def visited(row: jax.Array, col: jax.Array) -> jax.Array:
        return (row > delta) & (row <= H - delta) & (col > delta) & (col <= W - delta)

    here = rows * W + cols
    from_row, from_col = rows + offsets[..., 1], cols + offsets[..., 0]
    there = from_row * W + from_col
    # Positions of old values carry + H * W: they are resolved.
    already_new = visited(from_row, from_col) & (there > here)
    there = jnp.where(already_new, there, there + H * W)
    pointers = jnp.where(visited(rows, cols), there, here + H * W).reshape(-1)

    def follow(pointers: jax.Array) -> jax.Array:
        return jnp.where(
            pointers < H * W, look_up(pointers, jnp.minimum(pointers, H * W - 1)), pointers
        )

    pointers = jax.lax.while_loop(lambda p: jnp.any(p < H * W), follow, pointers)
    return pointers - H * W


def _glass_blur(image: jax.Array, draws: Draws, constants: Constants) -> jax.Array:
    H, W, _ = image.shape
    blurred = smooth(image.astype(jnp.float32), constants)
    blurred = jnp.floor(jnp.clip(blurred, 0.0, 255.0))

    def sweep(i: jax.Array, sources: jax.Array) -> jax.Array:
        return look_up(sources, _sources_of_sweep(draws["offsets"][i], constants["delta"]))

    start = jnp.arange(H * W, dtype=jnp.int32)
    sources = jax.lax.fori_loop(0, constants["sweeps"], sweep, start)
    shuffled = look_up(blurred.reshape(H * W, 3), sources).reshape(H, W, 3)
    return smooth(shuffled, constants)


GLASS_BLUR = Corruption("glass_blur", "blur", _glass_constants, _glass_blur, _draw_offsets)
