"""Random keys of a run: one for each purpose, so that no two draws share one.

A purpose is a text, such as `data/order` or `train/dropout`. Keys of masks are made in
`sparsity.algorithms.random_masks`, which imports nothing of ours. Called by `data` and `training`.
"""

import zlib

import jax
import numpy as np


def for_purpose(seed: jax.Array | int, purpose: str) -> jax.Array:
    """The key from which all randomness of one purpose, such as `data/order`, is derived."""
    return jax.random.fold_in(jax.random.key(seed), np.uint32(zlib.crc32(purpose.encode())))


def for_examples(
    seed: jax.Array | int,
    step: jax.Array | int,
    positions: jax.Array,
    purpose: str = "data/augment",
) -> jax.Array:
    """One key an example.

    Args:
      seed: seed of the run.
      step: completed batches, may be traced.
      positions: int [B], place of each example in the global batch.
      purpose: what the keys are for.

    Returns:
      keys [B], a function of (seed, purpose, step, position) alone.
    """
    key = jax.random.fold_in(for_purpose(seed, purpose), step)
    return jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)
