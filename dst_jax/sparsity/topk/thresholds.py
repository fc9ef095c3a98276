"""Keys in whose order scores rank, and the search for the key from which on k of them lie.

The search knows its entries by counts alone, so it serves packed layers, ranks that break ties and
arrays of any sharding alike. Called by `ranking`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def ranking_key(scores: jax.Array) -> jax.Array:
    """Maps scores to uint32 so that a larger score has a larger key.

    Floats are ranked in float32 (float16 and bfloat16 convert exactly) with -0 equal to 0 and NaN
    equal to -inf; integers up to 32 bits are ranked exactly.

    Args:
      scores: [...] of any real dtype.

    Returns:
      uint32 keys [...].
    """
    if scores.dtype == jnp.uint32:
        return scores
    sign = jnp.uint32(0x80000000)
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        return jax.lax.bitcast_convert_type(scores.astype(jnp.int32), jnp.uint32) ^ sign
    # Integer tests, not float ones: accelerators may flush denormals to zero in comparisons.
    bits = jax.lax.bitcast_convert_type(scores.astype(jnp.float32), jnp.uint32)
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    bits = jnp.where(is_nan, jnp.uint32(0xFF800000), bits)
    bits = jnp.where(bits == sign, jnp.uint32(0), bits)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def search(
    count_from: Callable[[jax.Array], jax.Array], start: jax.Array, k: jax.Array
) -> jax.Array:
    """Finds each group's largest uint32 t with count_from(t) >= k, bit by bit from the top.

    At most 32 passes, whatever the entries; stops as soon as every group has exactly k left.

    Args:
      count_from: t [groups] -> how many entries of each group are at least t.
      start: count_from(0); where it is not above k the answer is 0.
      k: how many are wanted, at least 1.
    """

    def body(state):
        bit, threshold, count = state
        candidate = threshold | (jnp.uint32(1) << bit.astype(jnp.uint32))
        n = count_from(candidate)
        enough = n >= k
        return bit - 1, jnp.where(enough, candidate, threshold), jnp.where(enough, n, count)

    def unfinished(state):
        bit, _, count = state
        return (bit >= 0) & jnp.any(count > k)

    zero = jnp.zeros(k.shape, jnp.uint32)
    return jax.lax.while_loop(unfinished, body, (jnp.int32(31), zero, start))[1]
