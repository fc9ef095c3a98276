"""Gradients of a batch from several micro-batches, one after the other, to save memory.

Called by `step`, inside the compiled program (`train.grad_accum_steps`).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any


def accumulate(
    gradients_of: Callable[..., tuple[jax.Array, jax.Array, Tree, Tree]],
    batch: Tree,
    batch_stats: Tree,
    dropout: jax.Array,
    parts: int,
) -> tuple[jax.Array, jax.Array, Tree, Tree]:
    """What `gradients_of` gives for the whole batch.

    BatchNorm normalises each micro-batch by itself and updates its running statistics once each, as
    PyTorch's does under accumulation; without BatchNorm and dropout the result is that of the whole
    batch up to rounding. Every `parts`-th row makes a micro-batch, so devices keep their own rows.

    Args:
      gradients_of: (batch, batch_stats, dropout key) -> (mean loss, correct classes, new
        batch_stats, gradient of the mean loss).
      batch: a tree of arrays [B, ...].
      batch_stats: BatchNorm's running statistics.
      dropout: key of the step; with several parts, each gets its own from it.
      parts: number of micro-batches, a divisor of B.
    """
    if parts == 1:
        return gradients_of(batch, batch_stats, dropout)
    micro = jax.tree.map(
        lambda leaf: leaf.reshape(len(leaf) // parts, parts, *leaf.shape[1:]).swapaxes(0, 1), batch
    )

    def add(total: tuple[Any, ...], item: tuple[jax.Array, Tree]) -> tuple[Any, None]:
        number, part = item
        found = gradients_of(part, total[2], jax.random.fold_in(dropout, number))
        return (
            total[0] + found[0] / parts,
            total[1] + found[1],
            found[2],
            jax.tree.map(lambda sum_, gradient: sum_ + gradient / parts, total[3], found[3]),
        ), None

    first = jax.tree.map(lambda leaf: leaf[0], micro)
    shapes = jax.eval_shape(gradients_of, first, batch_stats, dropout)[3]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    start = (jnp.float32(0), jnp.int32(0), batch_stats, zeros)
    return jax.lax.scan(add, start, (jnp.arange(parts), micro))[0]
