"""Random masks of exact numbers of weights: where every sparse trainer starts, and one stays.

Training code calls it through the methods of `BaseUpdater`; `sparse_trainers` builds on it.
"""

import dataclasses
from typing import Any, ClassVar

import jax

from dst_jax.sparsity import base_updater, mask_trees, sparsity_distributions
from dst_jax.sparsity.algorithms import pruners

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
        self, sparse_state: base_updater.SparseState, params: Any, grads: Any, **kwargs: Any
    ) -> tuple[base_updater.SparseState, Any]:
        del params, grads, kwargs
        return sparse_state, None

    def get_initial_masks(self, params: Any, target_sparsities: Any) -> Any:
        """Returns random masks of the target sparsities; None where the target is None."""
        targets = jax.tree.leaves(target_sparsities)
        if not self._is_unstructured() or not all(isinstance(t, (int, float)) for t in targets):
            scores = pruners.generate_random_scores(params, self._key(_INITIAL_MASKS))
            return self.create_masks(scores, target_sparsities)
        counts = sparsity_distributions.active_counts(
            params, target_sparsities, self._distribution().requested
        )
        return self._random_masks(params, counts)

    def _random_masks(self, params: Any, counts: Any) -> Any:
        """Returns random masks with these numbers of ones; None where the number is None."""
        scores = pruners.generate_random_scores(params, self._key(_INITIAL_MASKS))
        return mask_trees.topk_tree(scores, counts, self._key(_INITIAL_TIES))

    def instant_sparsify(self, params: Any, grads: Any = None, **kwargs: Any) -> tuple[Any, Any]:
        """Not available: these methods train sparse networks, they do not sparsify dense ones.

        Raises:
          RuntimeError: always.
        """
        raise RuntimeError("instant_sparsify function is not supported in sparse training methods.")

    def _key(self, purpose: int) -> jax.Array:
        return jax.random.fold_in(self.rng_seed, purpose)
