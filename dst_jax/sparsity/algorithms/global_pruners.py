"""Global pruning: all layers share one ranking, so layers choose their own sparsity.

The scores come from `pruners`; the single ranking over many arrays is `exact_topk`'s. Only
unstructured sparsity makes sense here.
"""

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import optax

from dst_jax.sparsity import (
    base_updater,
    mask_calculator,
    maskable,
    param_paths,
    sparsity_distributions,
    sparsity_types,
    topk,
)
from dst_jax.sparsity.algorithms import pruners
from dst_jax.sparsity.param_paths import PyTree


@dataclasses.dataclass
class GlobalPruningMixin:
    """Ranks the scores of all selected layers together.

    Attributes:
      custom_sparsity_map: path (tuple of names) -> sparsity of layers that are ranked alone.
      filter_fn: (path, score) -> whether a layer takes part.
      normalization_eps: added to a layer's norm before dividing by it.
      use_normalization: divide each layer's scores by their L2 norm first.
      sparsity: share of weights to remove over all layers that take part.
    """

    custom_sparsity_map: Mapping[Any, float] | None = None
    filter_fn: sparsity_distributions.FilterFnType = sparsity_distributions.MASKABLE_FILTER_FN
    normalization_eps: float = 1e-8
    use_normalization: bool = True
    sparsity: float = 0.0

    has_distribution: ClassVar[bool] = False
    ranks_layers_together: ClassVar[bool] = True
    patterns: ClassVar[tuple[type, ...]] = ()

    def init_state(self, params: PyTree) -> base_updater.SparseState:
        """Returns the first state: dense masks, and the one overall sparsity as the target.

        Raises:
          AttributeError: for structured sparsity.
        """
        sparsity_type = self.sparsity_type  # type: ignore[attr-defined]
        if not isinstance(sparsity_type, sparsity_types.Unstructured):
            raise AttributeError(
                f"Sparsity type {type(sparsity_type)} is not supported for GlobalPruningMixin."
            )
        custom = param_paths.normalised_map(self.custom_sparsity_map, params)

        def ones(path: Any, param: Any) -> Any:
            if param_paths.text(path) not in custom and not self.filter_fn(path, param):
                return None
            return jnp.ones(param.shape, mask_calculator.MASK_DTYPE)

        return base_updater.SparseState(
            masks=self._store(param_paths.map_with_path(ones, params)),  # type: ignore[attr-defined]
            target_sparsities=self.sparsity,
            count=jnp.zeros([], jnp.int32),
        )

    def leaving_dense(self, paths: Iterable[Any]) -> Self:
        """Returns a copy that leaves the layers at these paths without a mask."""
        other = copy.copy(self)
        other.filter_fn = maskable.without(self.filter_fn, paths)
        return other

    def _choose_masks(self, sparse_state: Any, params: PyTree, grads: PyTree, **kwargs: Any) -> Any:
        """Ranks the layers that have a mask."""
        if sparse_state.masks is None:
            return super()._choose_masks(sparse_state, params, grads, **kwargs)  # type: ignore[misc]
        hidden = set(param_paths.without_mask(sparse_state.masks, params))
        sparsity = self.scheduler.get_sparsity_at_step(  # type: ignore[attr-defined]
            sparse_state.target_sparsities, sparse_state.count
        )
        scores = self.calculate_scores(  # type: ignore[attr-defined]
            params, sparse_state=sparse_state, grads=grads, **kwargs
        )
        seen = param_paths.map_with_path(
            lambda path, score: optax.MaskedNode() if path in hidden else score, scores
        )
        chosen = self._store(self.create_masks(seen, sparsity))  # type: ignore[attr-defined]
        return sparse_state._replace(masks=chosen), None

    def create_masks(self, scores: PyTree, target_sparsity: Any) -> PyTree:
        """Returns masks that keep the highest scores of all layers together.

        Ties go to the earlier layer in the order of the tree, then to the lower index.
        """
        custom = param_paths.normalised_map(self.custom_sparsity_map, scores)
        paths, leaves, treedef = param_paths.flatten(scores)
        own = [custom.get(param_paths.text(path)) for path in paths]
        ranked = [
            target is None and self.filter_fn(path, leaf)
            for path, leaf, target in zip(paths, leaves, own, strict=True)
        ]
        normal = [
            self._normalised(leaf) for leaf, is_in in zip(leaves, ranked, strict=True) if is_in
        ]
        k = mask_calculator.number_active(sum(score.size for score in normal), target_sparsity)
        chosen = iter(topk.topk_masks(normal, k, joint=True))

        def mask(leaf: Any, target: Any, is_in: bool) -> Any:
            if is_in:
                return next(chosen)
            return None if target is None else mask_calculator.topk_mask_calculator(leaf, target)

        return treedef.unflatten(list(map(mask, leaves, own, ranked)))

    def instant_sparsify(
        self, params: PyTree, grads: PyTree = None, **kwargs: Any
    ) -> tuple[PyTree, PyTree]:
        """Returns the masked params and the masks, at once and without a state."""
        scores = self.calculate_scores(params, grads=grads, **kwargs)  # type: ignore[attr-defined]
        masks = self.create_masks(scores, self.sparsity)
        masked = self.apply_masks(params, masks, is_packed=False)  # type: ignore[attr-defined]
        return masked, self._store(masks)  # type: ignore[attr-defined]

    def _normalised(self, score: Any) -> Any:
        if not self.use_normalization:
            return score
        return score / (jnp.linalg.norm(score) + self.normalization_eps)


@dataclasses.dataclass
class GlobalMagnitudePruning(GlobalPruningMixin, pruners.MagnitudePruning):
    """Keeps the weights with the largest (normalised) magnitude of the whole network."""


@dataclasses.dataclass
class GlobalSaliencyPruning(GlobalPruningMixin, pruners.SaliencyPruning):
    """Keeps the weights with the largest (normalised) `|w * gradient|` of the whole network."""
