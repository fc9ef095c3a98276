"""Sparse from the start to the end: static random masks, SET and RigL.

`SET` is also the engine of every algorithm that drops and grows: a subclass overrides the scores
(`_get_drop_scores`, `_get_grow_scores`) or the counts (`_layer_counts`). Called by training code
through the methods of `BaseUpdater`.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dst_jax.sparsity import (
    base_updater,
    mask_calculator,
    optimizer_state,
    sparsity_distributions,
)
from dst_jax.sparsity.algorithms import pruners

# What a random key is for; folded into `rng_seed` so that no two uses share a key.
_INITIAL_MASKS, _INITIAL_TIES, _GROWTH, _GROWTH_TIES = range(4)


def _requested_sparsity(distribution_fn: Any) -> float | None:
    """Returns the one overall sparsity that a distribution function was bound to, if any."""
    try:
        parameters = inspect.signature(distribution_fn).parameters
    except (TypeError, ValueError):
        return None
    bound = {name: parameter.default for name, parameter in parameters.items()}
    sparsity = bound.get("sparsity")
    if bound.get("custom_sparsity_map") or not isinstance(sparsity, (int, float)):
        return None
    return float(sparsity)


@dataclasses.dataclass
class StaticRandomSparse(base_updater.BaseUpdater):
    """Random masks that never change.

    With unstructured sparsity the numbers of active weights are exact integers that add up to the
    requested sparsity (`sparsity_distributions.active_counts`).
    """

    is_sparse_gradients: bool = True

    def _is_unstructured(self) -> bool:
        return self.topk_fn is mask_calculator.topk_mask_calculator

    def update_state(
        self, sparse_state: base_updater.SparseState, params: Any, grads: Any, **kwargs: Any
    ) -> base_updater.SparseState:
        """Returns the state unchanged."""
        del params, grads, kwargs
        return sparse_state

    def get_initial_masks(self, params: Any, target_sparsities: Any) -> Any:
        """Returns random masks of the target sparsities; None where the target is None."""
        scores = pruners.generate_random_scores(params, self._key(_INITIAL_MASKS))
        targets = jax.tree.leaves(target_sparsities)
        if not self._is_unstructured() or not all(isinstance(t, (int, float)) for t in targets):
            return self.create_masks(scores, target_sparsities)
        counts = sparsity_distributions.active_counts(
            params, target_sparsities, _requested_sparsity(self.sparsity_distribution_fn)
        )
        tie_key = self._key(_INITIAL_TIES)
        return base_updater.map_masks(
            lambda k, s: None if k is None else mask_calculator.exact_topk(s, k, tie_key=tie_key),
            counts,
            scores,
        )

    def instant_sparsify(self, params: Any, grads: Any = None, **kwargs: Any) -> tuple[Any, Any]:
        """Not available: these methods train sparse networks, they do not sparsify dense ones.

        Raises:
          RuntimeError: always.
        """
        raise RuntimeError("instant_sparsify function is not supported in sparse training methods.")

    def _key(self, purpose: int) -> jax.Array:
        return jax.random.fold_in(self.rng_seed, purpose)


def _restart_using_mask(target_tree: Any, masks: Any) -> Any:
    """Sets the leaves of a tree to zero where the mask is 1; a mask of None changes nothing."""
    return base_updater.map_masks(
        lambda m, leaf: leaf if m is None else jnp.where(jnp.asarray(m) != 0, 0, leaf),
        masks,
        target_tree,
    )


def restart_inner_state(state: Any, masks_activated: Any) -> Any:
    """Sets an optimizer's moments to zero where the masks are 1; see `reset_moments`."""
    return optimizer_state.reset_moments(state, masks_activated)


def _constant_drop_fraction(step: Any) -> float:
    """The fraction of JaxPruner's constructor; the config API puts a cosine in its place."""
    del step
    return 0.3


def _assert_nested(kept: Any, old: Any, new: Any) -> None:
    if (kept > old).any() or (kept > new).any():
        raise AssertionError("a mask update kept a weight that was inactive, or lost a kept one")


@dataclasses.dataclass
class SET(StaticRandomSparse):
    """Drops the smallest weights and grows random ones (Mocanu et al. 2018).

    Per layer with n active weights and drop fraction a: the round(n * (1 - a)) largest |w| stay (at
    least one), then the growth scores choose among all other positions until n are active again,
    those just dropped included. Counts are int32 and never drift; layers without a mask are never
    touched. Ties among drop scores go to the lower index; ties among growth scores are broken at
    random, because a dead unit's gradients are all exactly 0 and growth would clump.

    Afterwards moments are 0 at every position that is not active both before and after. New
    weights are 0 because inactive weights are 0.

    Attributes:
      eps: accepted for JaxPruner's sake; nothing is shifted by an epsilon any more.
      drop_fraction_fn: step -> fraction of the active weights to drop, in [0, 1]; traceable.
      is_debug: check on the host that what is kept was active and stays active.
      skip_gradients: True: a mask update replaces that batch's optimizer step. False: the step is
        taken too, with the new masks.
      regrow_same: what a weight dropped and regrown at once goes on with: 'keep' its value and
        moments, or 'zero'. With 'zero' use `wrap_optax` or `update_params_and_state`: the state
        alone cannot change weights. Layers without an inactive weight are left alone.
    """

    eps: float = 1e-5
    drop_fraction_fn: Callable[[Any], Any] = _constant_drop_fraction
    is_debug: bool = False
    skip_gradients: bool = True
    regrow_same: str = "keep"

    def __post_init__(self):
        super().__post_init__()
        if self.regrow_same not in ("keep", "zero"):
            raise ValueError(f"regrow_same: found {self.regrow_same!r}; expected 'keep' or 'zero'")

    def _get_drop_scores(self, sparse_state: Any, params: Any, grads: Any) -> Any:
        """Returns the tree of scores whose lowest are dropped: |w|."""
        del sparse_state, grads
        return jax.tree.map(jnp.abs, params)

    def _get_grow_scores(self, sparse_state: Any, params: Any, grads: Any) -> Any:
        """Returns the tree of scores whose highest are grown: random."""
        del grads
        key = jax.random.fold_in(self._key(_GROWTH), sparse_state.count)
        return pruners.generate_random_scores(params, key)

    def _layer_counts(self, n_active: jax.Array, drop_fraction: Any) -> tuple[Any, Any]:
        """Returns how many weights of a layer stay, and how many are active after growth.

        Args:
          n_active: int32 scalar, active weights now.
          drop_fraction: fraction of them to drop, in [0, 1].
        """
        kept = jnp.round(n_active.astype(jnp.float32) * (1 - jnp.float32(drop_fraction)))
        return jnp.clip(kept.astype(jnp.int32), jnp.minimum(1, n_active), n_active), n_active

    def _drop_and_grow(
        self,
        old_mask: jax.Array,
        drop_score: jax.Array,
        grow_score: jax.Array,
        drop_fraction: Any,
        tie_key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """One layer's update.

        Args:
          old_mask: uint8 [...].
          drop_score: [...]; the lowest of the active ones are dropped.
          grow_score: [...]; the highest of all that is not kept are grown.
          drop_fraction: fraction of the active weights to drop.
          tie_key: breaks ties among growth scores at random; None takes the lower index.

        Returns:
          The mask of what was kept and the new mask, uint8 [...].
        """
        old_mask = jnp.asarray(old_mask)
        n_active = jnp.sum(old_mask, dtype=jnp.int32)
        n_kept, n_new = self._layer_counts(n_active, drop_fraction)
        if self._is_unstructured():
            topk = mask_calculator.exact_topk
            kept = topk(drop_score, n_kept, candidates=old_mask)
            grown = topk(grow_score, n_new - n_kept, candidates=kept == 0, tie_key=tie_key)
            new_mask = kept | grown
        else:
            # A pattern counts in blocks or channels: ask it for sparsities, and let scores of
            # infinity say what must not (or must) be chosen.
            of_size = jnp.float32(old_mask.size)
            dropped = jnp.where(old_mask == 0, -jnp.inf, drop_score)
            kept = self.topk_fn(dropped, 1 - n_kept / of_size)  # type: ignore[misc]
            grow_score = jnp.where(kept != 0, jnp.inf, grow_score)
            new_mask = self.topk_fn(grow_score, 1 - n_new / of_size)  # type: ignore[misc]
        if self.is_debug:
            jax.debug.callback(_assert_nested, kept, old_mask, new_mask)
        return kept, new_mask

    def _update_masks(
        self, old_mask: Any, drop_score: Any, grow_score: Any, drop_fraction: Any
    ) -> jax.Array:
        """Returns one layer's new mask, all ties to the lower index; JaxPruner's extension point.

        A subclass that overrides this is used in place of `_drop_and_grow`.
        """
        return self._drop_and_grow(old_mask, drop_score, grow_score, drop_fraction)[1]

    def _update_and_restarts(
        self, sparse_state: base_updater.SparseState, params: Any, grads: Any, **kwargs: Any
    ) -> tuple[base_updater.SparseState, Any]:
        if self.regrow_same == "keep":
            return self.update_state(sparse_state, params, grads, **kwargs), None
        return self._updated(sparse_state, params, grads)

    def update_state(
        self, sparse_state: base_updater.SparseState, params: Any, grads: Any, **kwargs: Any
    ) -> base_updater.SparseState:
        """Returns the state with new masks and moments; see `BaseUpdater.update_state`."""
        del kwargs
        return self._updated(sparse_state, params, grads)[0]

    def _updated(
        self, sparse_state: base_updater.SparseState, params: Any, grads: Any
    ) -> tuple[base_updater.SparseState, Any]:
        """Drops and grows in every layer; also returns masks of regrown weights to set to zero."""
        old_masks = sparse_state.masks
        if self.use_packed_masks:
            old_masks = base_updater.unpack_masks(old_masks, params)
        drop_scores = self._get_drop_scores(sparse_state, params, grads)
        grow_scores = self._get_grow_scores(sparse_state, params, grads)
        # Compiled by itself on purpose: fused into its surroundings the last bit of the fraction,
        # and with it a count, could differ between programs.
        fraction = jax.lax.optimization_barrier(jax.jit(self.drop_fraction_fn)(sparse_state.count))
        tie_key = jax.random.fold_in(self._key(_GROWTH_TIES), sparse_state.count)

        treedef: Any
        olds, treedef = jax.tree.flatten(old_masks, is_leaf=lambda m: m is None)
        drops, grows = treedef.flatten_up_to(drop_scores), treedef.flatten_up_to(grow_scores)
        news: list[Any] = []
        sames: list[Any] = []
        for index, (old, drop, grow) in enumerate(zip(olds, drops, grows, strict=True)):
            if old is None:
                kept, new = None, None
            elif type(self)._update_masks is not SET._update_masks:
                new = self._update_masks(old, drop, grow, drop_fraction=fraction)
                kept = old & new
            else:
                key = jax.random.fold_in(tie_key, index)
                kept, new = self._drop_and_grow(old, drop, grow, fraction, key)
            news.append(new)
            sames.append(self._regrown_to_zero(old, kept, new))
        resets = [self._moments_to_reset(*masks) for masks in zip(olds, news, sames, strict=True)]
        inner_state = restart_inner_state(sparse_state.inner_state, treedef.unflatten(resets))
        state = sparse_state._replace(
            masks=self._store(treedef.unflatten(news)), inner_state=inner_state
        )
        return state, None if self.regrow_same == "keep" else treedef.unflatten(sames)

    def _no_restarts(self, sparse_state: base_updater.SparseState, params: Any) -> Any:
        if self.regrow_same == "keep":
            return None
        return base_updater.map_masks(
            lambda m, p: None if m is None else jnp.zeros(p.shape, mask_calculator.MASK_DTYPE),
            sparse_state.masks,
            params,
        )

    def _regrown_to_zero(self, old: Any, kept: Any, new: Any) -> Any:
        """Marks weights that were dropped and regrown at once and must go on from zero."""
        if old is None or self.regrow_same == "keep":
            return None
        # A full layer can only regrow what it drops: nothing is explored, so nothing is reset.
        has_room = jnp.any(old == 0)
        return (old & new & (1 - kept)) * has_room.astype(old.dtype)

    def _moments_to_reset(self, old: Any, new: Any, restarted: Any) -> Any:
        """Marks where moments go to zero: wherever a weight was not active all along."""
        if old is None:
            return None
        reset = 1 - (old & new)
        return reset if restarted is None else reset | restarted


@dataclasses.dataclass
class RigL(SET):
    """Drops the smallest weights and grows where the gradient is largest (Evci et al. 2020)."""

    def _get_grow_scores(self, sparse_state: Any, params: Any, grads: Any) -> Any:
        """Returns |gradient|."""
        del sparse_state, params
        return jax.tree.map(jnp.abs, grads)
