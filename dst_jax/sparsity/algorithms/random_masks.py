"""Random masks of exact numbers of weights: where every sparse trainer starts, and one stays.

Training code calls it through the methods of `BaseUpdater`; `sparse_trainers` builds on it.
"""

import dataclasses
from typing import Any, ClassVar

import jax

from dst_jax.sparsity import base_updater, mask_trees, sparsity_distributions, uneven_blocks
from dst_jax.sparsity.algorithms import pruners
from dst_jax.sparsity.param_paths import PyTree

# What a random key is for; folded into `rng_seed` so that no two uses share a key.
_INITIAL_MASKS, _INITIAL_TIES, GROWTH, GROWTH_TIES = range(4)


@dataclasses.dataclass
class StaticRandomSparse(base_updater.BaseUpdater):
    """Random masks that never change.

    With unstructured sparsity the numbers of active weights are exact integers that add up to the
    requested sparsity (`sparsity_distributions.active_counts`).
    """

    is_sparse_gradients: bool = True

    is_sparse_at_start: ClassVar[bool] = True
    changes_masks: ClassVar[bool] = False
    changes_density: ClassVar[bool] = False

    def _choose_masks(
        self, sparse_state: base_updater.SparseState, params: PyTree, grads: PyTree, **kwargs: Any
    ) -> tuple[base_updater.SparseState, Any]:
        del params, grads, kwargs
        return sparse_state, None

    def get_initial_masks(self, params: PyTree, target_sparsities: PyTree) -> PyTree:
        """Returns random masks of the target sparsities; None where the target is None."""
        targets = jax.tree.leaves(target_sparsities)
        if not self._is_unstructured() or not all(isinstance(t, (int, float)) for t in targets):
            scores = pruners.generate_random_scores(params, self._key(_INITIAL_MASKS))
            if not any(isinstance(t, jax.Array) for t in targets):
                return self._pattern_masks(scores, target_sparsities)
            return self.create_masks(scores, target_sparsities)
        counts = sparsity_distributions.active_counts(
            params, target_sparsities, self._distribution().requested
        )
        return self._random_masks(params, counts)

    def _is_uneven(self, shape: tuple[int, ...]) -> bool:
        """Whether the pattern cuts blocks off at the edge of such a layer."""
        return uneven_blocks.is_uneven(self.sparsity_type, shape)

    def _pattern_masks(self, scores: PyTree, sparsities: PyTree) -> PyTree:
        """Returns masks that follow the pattern."""

        def create(sparsity: Any, score: Any) -> Any:
            if sparsity is None:
                return None
            if sparsity and self._is_uneven(score.shape):
                return uneven_blocks.random_mask(self.sparsity_type, score, sparsity)  # type: ignore[arg-type]
            return self.topk_fn(score, sparsity)  # type: ignore[misc]

        return mask_trees.map_masks(create, sparsities, scores)

    def _random_masks(self, params: PyTree, counts: PyTree) -> Any:
        """Returns random masks with these numbers of ones; None where the number is None."""
        scores = pruners.generate_random_scores(params, self._key(_INITIAL_MASKS))
        return mask_trees.topk_tree(scores, counts, self._key(_INITIAL_TIES))

    def instant_sparsify(
        self, params: PyTree, grads: PyTree = None, **kwargs: Any
    ) -> tuple[PyTree, PyTree]:
        """Not available: these methods train sparse networks, they do not sparsify dense ones.

        Raises:
          RuntimeError: always.
        """
        raise RuntimeError("instant_sparsify function is not supported in sparse training methods.")

    def _key(self, purpose: int) -> jax.Array:
        return jax.random.fold_in(self.rng_seed, purpose)
