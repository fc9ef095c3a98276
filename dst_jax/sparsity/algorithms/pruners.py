"""No pruning, and pruning from dense: weights are scored, the lowest are removed.

Masks here only depend on scores and the schedule's sparsity. The same scores serve the global and
the straight-through variants beside this file; random scores also serve the sparse trainers.
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.sparsity import base_updater
from dst_jax.sparsity.param_paths import PyTree


@dataclasses.dataclass
class NoPruning(base_updater.BaseUpdater):
    """Dense training: no masks, nothing changes."""

    sparsity_distribution_fn: base_updater.SparsityDistributionFnType | None = None

    is_dense: ClassVar[bool] = True
    changes_masks: ClassVar[bool] = False
    changes_density: ClassVar[bool] = False
    patterns: ClassVar[tuple[type, ...]] = ()

    def get_initial_masks(self, params: PyTree, target_sparsities: PyTree) -> PyTree:
        """Returns a tree of None."""
        del target_sparsities
        return jax.tree.map(lambda p: None, params)

    def _choose_masks(
        self, sparse_state: base_updater.SparseState, params: PyTree, grads: PyTree, **kwargs: Any
    ) -> tuple[base_updater.SparseState, Any]:
        del params, grads, kwargs
        return sparse_state, None

    def instant_sparsify(
        self, params: PyTree, grads: PyTree = None, **kwargs: Any
    ) -> tuple[PyTree, PyTree]:
        """Returns the params unchanged, and a tree of None."""
        del grads, kwargs
        return params, self.get_initial_masks(params, None)


@dataclasses.dataclass
class MagnitudePruning(base_updater.BaseUpdater):
    """Keeps the weights with the largest magnitude."""

    def calculate_scores(
        self, params: PyTree, sparse_state: Any = None, grads: PyTree = None, **kwargs: Any
    ) -> PyTree:
        """Returns `|w|`."""
        del sparse_state, grads, kwargs
        return jax.tree.map(abs, params)


@dataclasses.dataclass
class SaliencyPruning(base_updater.BaseUpdater):
    """Keeps the weights whose removal changes the loss most, to first order (Lee et al. 2019)."""

    dense_gradients: ClassVar[str] = "updates"

    def calculate_scores(
        self, params: PyTree, sparse_state: Any = None, grads: PyTree = None, **kwargs: Any
    ) -> PyTree:
        """Returns `|w * gradient|`.

        Raises:
          ValueError: without gradients.
        """
        del sparse_state, kwargs
        if grads is None:
            raise ValueError("saliency: found no gradients; expected `grads` like the params")
        return jax.tree.map(lambda p, g: abs(p * g), params, grads)


def generate_random_scores(params: PyTree, rng_seed: jax.Array) -> PyTree:
    """Draws a score in [0, 1) for every weight.

    Args:
      params: a tree of arrays; only shapes are read.
      rng_seed: a PRNG key.

    Returns:
      A tree of float32 arrays, whatever the dtype of the params, as 16-bit scores would tie by
      the thousand and tied weights are not chosen at random.
    """
    treedef: Any
    leaves, treedef = jax.tree.flatten(params)
    ends = np.cumsum([math.prod(leaf.shape) for leaf in leaves])
    # One draw cut into pieces: a generator a leaf would take most of the time to compile.
    draw = jax.random.uniform(rng_seed, (int(ends[-1]) if leaves else 0,), jnp.float32)
    pieces = jnp.split(draw, ends[:-1])
    scores = [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=False)]
    return treedef.unflatten(scores)


@dataclasses.dataclass
class RandomPruning(base_updater.BaseUpdater):
    """Removes random weights, which stay removed."""

    def calculate_scores(
        self, params: PyTree, sparse_state: Any = None, grads: PyTree = None, **kwargs: Any
    ) -> PyTree:
        """Returns random scores, 0 for weights that are masked already."""
        del grads, kwargs
        if sparse_state is None:
            return generate_random_scores(params, self.rng_seed)
        key = jax.random.fold_in(self.rng_seed, sparse_state.count)
        scores = generate_random_scores(params, key)
        return self.apply_masks(scores, sparse_state.masks, is_packed=None)
