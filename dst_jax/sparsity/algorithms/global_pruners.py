"""Global pruning: all layers share one ranking, so layers choose their own sparsity.

The scores come from `pruners`; the single ranking over many arrays is `exact_topk`'s. Only
unstructured sparsity makes sense here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.traverse_util
import jax.numpy as jnp

from dst_jax.sparsity import (
    base_updater,
    mask_calculator,
    sparsity_distributions,
    sparsity_types,
    topk,
)
from dst_jax.sparsity.algorithms import pruners


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

    custom_sparsity_map: Mapping[tuple[str, ...], float] | None = None
    filter_fn: sparsity_distributions.FilterFnType = sparsity_distributions.NOT_DIM_ONE_FILTER_FN
    normalization_eps: float = 1e-8
    use_normalization: bool = True
    sparsity: float = 0.0

    has_distribution: ClassVar[bool] = False
    ranks_layers_together: ClassVar[bool] = True
    patterns: ClassVar[tuple[type, ...]] = ()

    def init_state(self, params: Any) -> base_updater.SparseState:
        """Returns the first state: dense masks, and the one overall sparsity as the target.

        Raises:
          AttributeError: for structured sparsity.
        """
        sparsity_type = self.sparsity_type  # type: ignore[attr-defined]
        if not isinstance(sparsity_type, sparsity_types.Unstructured):
            raise AttributeError(
                f"Sparsity type {type(sparsity_type)} is not supported for GlobalPruningMixin."
            )
        custom = self.custom_sparsity_map or {}
        flat = flax.traverse_util.flatten_dict(params)
        masks = {
            key: jnp.ones(param.shape, mask_calculator.MASK_DTYPE)
            if key in custom or self.filter_fn(key, param)
            else None
            for key, param in flat.items()
        }
        return base_updater.SparseState(
            masks=self._store(sparsity_distributions.unflatten_like(params, masks)),  # type: ignore[attr-defined]
            target_sparsities=self.sparsity,
            count=jnp.zeros([], jnp.int32),
        )

    def create_masks(self, scores: Any, target_sparsity: Any) -> Any:
        """Returns masks that keep the highest scores of all layers together.

        Ties go to the earlier layer in sorted path order, then to the lower index.
        """
        custom = self.custom_sparsity_map or {}
        flat = flax.traverse_util.flatten_dict(scores)
        ranked = {
            key: self._normalised(flat[key])
            for key in sorted(flat)
            if key not in custom and self.filter_fn(key, flat[key])
        }
        size = sum(score.size for score in ranked.values())
        k = mask_calculator.number_active(size, target_sparsity)
        chosen = topk.topk_masks(list(ranked.values()), k, joint=True)
        masks: dict[tuple[str, ...], Any] = dict.fromkeys(flat)
        masks.update(zip(ranked, chosen, strict=True))
        for key in custom.keys() & flat.keys():
            masks[key] = mask_calculator.topk_mask_calculator(flat[key], custom[key])
        return sparsity_distributions.unflatten_like(scores, masks)

    def instant_sparsify(self, params: Any, grads: Any = None, **kwargs: Any) -> tuple[Any, Any]:
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
