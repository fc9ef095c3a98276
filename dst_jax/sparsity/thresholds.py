"""Keys in whose order scores rank, and the search for the key from which on k of them lie.

The search knows its entries by counts alone, so it serves packed layers, ranks that break ties and
arrays of any sharding alike. Called by `ranking`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Passes that aim; those after them halve.
_AIMED = 24


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


def value_of_key(key: jax.Array) -> jax.Array:
    """Undoes `ranking_key` of floats."""
    sign = jnp.uint32(0x80000000)
    return jax.lax.bitcast_convert_type(jnp.where(key >= sign, key ^ sign, ~key), jnp.float32)


def search(
    count_from: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    k: jax.Array,
    low: jax.Array,
    last: jax.Array,
    of_floats: bool = False,
) -> jax.Array:
    """Finds for each group a uint32 t with count_from(t) == k, or else the largest with more.

    Each pass counts from one t between the ends, aimed at k as if the entries lay evenly there
    (regula falsi; an end that stays weighs a quarter next time, as in the Illinois method). Normal
    scores of several layers take 10 to 22 passes, where bit by bit they take 30. From `_AIMED` on
    the distance is halved instead, whatever the entries, so 32 more are the most: many ties away
    from the lowest score need them. Stops when every group is done.

    Args:
      count_from: t [groups] -> how many entries of each group are at least t.
      start: count_from(low); where it is not above k the answer is low.
      k: how many are wanted, at least 1.
      low: uint32 [groups], below which there is nothing.
      last: uint32 [groups], above which there is nothing.
      of_floats: whether the entries are keys of floats, which lie more evenly than their keys.
    """

    def aimed(low, last, below, beyond):
        low, last = (value_of_key(x) if of_floats else x.astype(jnp.float32) for x in (low, last))
        value = last - beyond / (below + beyond) * (last - low)
        if of_floats:
            return ranking_key(value)
        return jnp.clip(value, 0, 2.0**32 - 256).astype(jnp.uint32)

    def body(state):
        index, low, last, n_low, below, beyond, moved = state
        halfway = last - (last - low) // 2
        t = jnp.where(index < _AIMED, aimed(low, last, below, beyond), halfway)
        # Is it already the end? Gradients of dead units are all 0, the lowest there is.
        t = jnp.where((index < _AIMED) & (index % 8 == 7), low + 1, t)
        is_open = (n_low > k) & (low < last)
        t = jnp.where(is_open, jnp.clip(t, low + 1, last), low)
        n = count_from(t)
        enough = n >= k
        stays = jnp.where(moved == jnp.where(enough, 1, -1), 0.25, 1.0)
        return (
            index + 1,
            jnp.where(enough, t, low),
            jnp.where(enough, last, t - 1),
            jnp.where(enough, n, n_low),
            jnp.where(enough, (n - k).astype(jnp.float32) + 0.5, below * stays),
            jnp.where(enough, beyond * stays, (k - n).astype(jnp.float32)),
            jnp.where(enough, 1, -1),
        )

    def unfinished(state):
        _, low, last, n_low, *_ = state
        return jnp.any((n_low > k) & (low < last))

    below, beyond = (start - k).astype(jnp.float32) + 0.5, k.astype(jnp.float32)
    state = (jnp.int32(0), low, last, start, below, beyond, jnp.zeros_like(k))
    return jax.lax.while_loop(unfinished, body, state)[1]
