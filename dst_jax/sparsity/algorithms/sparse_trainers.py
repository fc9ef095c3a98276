"""Sparse from the start to the end, with masks that change: SET and RigL.

`SET` is also the engine of every algorithm that drops and grows: a subclass overrides the scores
(`_get_drop_scores`, `_get_grow_scores`) or the counts (`_layer_counts`). Training code calls
them through the methods of `BaseUpdater`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dst_jax.sparsity import (
    base_updater,
    mask_calculator,
    mask_trees,
    optimizer_state,
    sparsity_types,
    topk,
    uneven_blocks,
)
from dst_jax.sparsity.algorithms import pruners, random_masks
from dst_jax.sparsity.algorithms.random_masks import StaticRandomSparse
from dst_jax.sparsity.param_paths import PyTree


def _restart_using_mask(target_tree: PyTree, masks: PyTree) -> Any:
    """Sets the leaves of a tree to zero where the mask is 1; a mask of None changes nothing."""
    return mask_trees.map_masks(
        lambda m, leaf: leaf if m is None else jnp.where(jnp.asarray(m) != 0, 0, leaf),
        masks,
        target_tree,
    )


def restart_inner_state(state: Any, masks_activated: Any) -> Any:
    """Sets an optimizer's moments to zero where the masks are 1; see `reset_moments`."""
    return optimizer_state.reset_moments(state, masks_activated)


def check_choice(field: str, found: Any, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless a field holds one of its choices."""
    if found not in choices:
        raise ValueError(f"{field}: found {found!r}; expected one of {', '.join(choices)}")


def _constant_drop_fraction(step: Any) -> float:
    """The fraction of JaxPruner's constructor; the config API puts a cosine in its place."""
    del step
    return 0.3


def _assert_nested(kept: Any, old: Any, new: Any) -> None:
    if any((k > o).any() or (k > n).any() for k, o, n in zip(kept, old, new, strict=True)):
        raise AssertionError("a mask update kept a weight that was inactive, or lost a kept one")


def _count_active(masks: list[jax.Array]) -> jax.Array:
    """Returns int32 [layers]."""
    return jnp.array([mask.sum(dtype=jnp.int32) for mask in masks], jnp.int32)


@dataclasses.dataclass
class SET(StaticRandomSparse):
    """Drops the smallest weights and grows random ones (Mocanu et al. 2018).

    Per layer with n active weights and drop fraction a: the round(n * (1 - a)) largest `|w|` stay
    (at least one), then the growth scores choose among all other positions until n are active
    again, those just dropped included. Counts are int32 and never drift; layers without a mask are
    never touched. Ties among drop scores go to the lower index; ties among growth scores are broken
    at random, because a dead unit's gradients are all exactly 0 and growth would clump.

    Afterwards moments are 0 at every position that is not active both before and after. New
    weights are 0 because inactive weights are 0.

    Attributes:
      eps: accepted for JaxPruner's sake; nothing is shifted by an epsilon any more.
      drop_fraction_fn: step -> fraction of the active weights to drop, in [0, 1]; traceable.
      is_debug: check on the host that what is kept was active and stays active.
      skip_gradients: True: a mask update replaces that batch's optimizer step. False: the step is
        taken too, with the new masks.
      regrow_same: what a weight dropped and regrown at once starts from: 'keep' its value and
        moments, or 'zero'. With 'zero' use `wrap_optax` or `update_params_and_state`: the state
        alone cannot change weights. Layers without an inactive weight are left alone.
      adam_fresh: what second moments (Adam's v) of new weights start from: 'zero', or 'mean_v', the
        layer's mean over the weights that stayed. With 'zero' and Adam's usual coefficients the
        first steps of a new weight are up to 6.6 times as long as those of others.
    """

    eps: float = 1e-5
    drop_fraction_fn: Callable[[Any], Any] = _constant_drop_fraction
    is_debug: bool = False
    skip_gradients: bool = True
    regrow_same: str = "keep"
    adam_fresh: str = "zero"

    changes_masks: ClassVar[bool] = True
    drops_a_fraction: ClassVar[bool] = True
    # Not n:m: what stays of a group is all that was active in it, so nothing would ever change.
    patterns: ClassVar[tuple[type, ...]] = (sparsity_types.Block, sparsity_types.Channel)

    # Whether moments of weights that were not active all along go to zero.
    _resets_moments: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        check_choice("regrow_same", self.regrow_same, ("keep", "zero"))
        check_choice("adam_fresh", self.adam_fresh, ("zero", "mean_v"))

    def _has_reinit(self) -> bool:
        """Whether an update may set weights to zero that are active before and after it."""
        return self.regrow_same == "zero"

    def _prune(self, masks: list[Any], drop_scores: list[Any], sparse_state: Any) -> list[Any]:
        """Returns the masks that dropping and growing start from; here, the masks themselves.

        What is removed here and grown again starts from zero, whatever `regrow_same` says; such a
        subclass says so in `_has_reinit`.
        """
        del drop_scores, sparse_state
        return masks

    def _get_drop_scores(self, sparse_state: Any, params: PyTree, grads: PyTree) -> Any:
        """Returns the tree of scores whose lowest are dropped: `|w|`."""
        del sparse_state, grads
        return mask_trees.magnitudes(params)

    def _get_grow_scores(self, sparse_state: Any, params: PyTree, grads: PyTree) -> Any:
        """Returns the tree of scores whose highest are grown: random."""
        del grads
        key = jax.random.fold_in(self._key(random_masks.GROWTH), sparse_state.count)
        return pruners.generate_random_scores(params, key)

    def _layer_counts(
        self,
        n_active: jax.Array,
        drop_fraction: Any,
        sparse_state: Any = None,
        params: PyTree = None,
    ) -> tuple[Any, Any]:
        """Returns how many weights of each layer stay, and how many are active after growth.

        Layers are those with a mask, in the order of the tree's leaves.

        Args:
          n_active: int32 [layers], active weights now.
          drop_fraction: fraction of them to drop, in [0, 1].
          sparse_state: the state, for subclasses whose counts depend on the step.
          params: the params, for subclasses whose counts follow from the target sparsities.
        """
        del sparse_state, params
        kept = jnp.round(n_active.astype(jnp.float32) * (1 - jnp.float32(drop_fraction)))
        return jnp.clip(kept.astype(jnp.int32), jnp.minimum(1, n_active), n_active), n_active

    def count_grown(self, sparse_state: Any, params: PyTree) -> jax.Array:
        """Counts the weights that the last update grew, those that it had just dropped included.

        Less the number that is newly active, these were dropped and regrown at once.

        Args:
          sparse_state: the state right after the update, `count` being the step of the update.
          params: the params.

        Returns:
          int32 [].
        """
        masks = sparse_state.masks
        if self.use_packed_masks:
            masks = mask_trees.unpack_masks(masks, params)
        active = _count_active(jax.tree.leaves(masks))
        fraction = jax.lax.optimization_barrier(jax.jit(self.drop_fraction_fn)(sparse_state.count))
        kept, new = self._layer_counts(active, fraction, sparse_state, params)
        return jnp.sum(new - kept, dtype=jnp.int32)

    def _drop_and_grow(
        self,
        old_masks: list[jax.Array],
        drop_scores: list[jax.Array],
        grow_scores: list[jax.Array],
        n_kept: Any,
        n_new: Any,
        tie_key: jax.Array | None = None,
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """Updates the masks of all layers that have one.

        Args:
          old_masks: uint8 [...] a layer.
          drop_scores: [...] a layer; the lowest of the active ones are dropped.
          grow_scores: [...] a layer; the highest of all that is not kept are grown.
          n_kept: int32 [layers], how many stay.
          n_new: int32 [layers], how many are active afterwards.
          tie_key: breaks ties among growth scores at random; None takes the lower index.

        Returns:
          The masks of what was kept and the new masks, uint8 [...] a layer.
        """
        if self._is_unstructured():
            kept, new_masks = topk.drop_and_grow(
                old_masks, drop_scores, grow_scores, n_kept, n_new, tie_key=tie_key
            )
        else:
            # A pattern counts in blocks or channels: ask it for sparsities, and let scores of
            # infinity say what must not (or must) be chosen.
            kept, new_masks = [], []
            for index, old in enumerate(old_masks):
                if self._is_uneven(old.shape):
                    pattern: Any = self.sparsity_type
                    share = n_kept[index] / jnp.maximum(_count_active([old])[0], 1)
                    found = uneven_blocks.drop_and_grow(
                        pattern,
                        old,
                        drop_scores[index],
                        grow_scores[index],
                        share,
                        tie_key,
                    )
                    kept.append(found[0])
                    new_masks.append(found[1])
                    continue
                size = jnp.float32(old.size)
                dropped = jnp.where(old == 0, -jnp.inf, drop_scores[index])
                kept.append(self.topk_fn(dropped, 1 - n_kept[index] / size))  # type: ignore[misc]
                allowed = jnp.where(kept[-1] != 0, jnp.inf, grow_scores[index])
                new_masks.append(self.topk_fn(allowed, 1 - n_new[index] / size))  # type: ignore[misc]
        if self.is_debug:
            jax.debug.callback(_assert_nested, kept, old_masks, new_masks)
        return kept, new_masks

    def _update_masks(
        self, old_mask: Any, drop_score: Any, grow_score: Any, drop_fraction: Any
    ) -> jax.Array:
        """Returns one layer's new mask, all ties to the lower index; JaxPruner's extension point.

        A subclass that overrides this is asked layer by layer in place of `_drop_and_grow`.
        """
        old, drop, grow = (jnp.asarray(a) for a in (old_mask, drop_score, grow_score))
        counts = self._layer_counts(_count_active([old]), drop_fraction)
        return self._drop_and_grow([old], [drop], [grow], *counts)[1][0]

    def _choose_masks(
        self, sparse_state: base_updater.SparseState, params: PyTree, grads: PyTree, **kwargs: Any
    ) -> tuple[base_updater.SparseState, Any]:
        """Drops and grows in every layer."""
        del kwargs
        old_masks = self._unpacked(sparse_state.masks, params)
        drop_scores = self._get_drop_scores(sparse_state, params, grads)
        grow_scores = self._get_grow_scores(sparse_state, params, grads)
        # Compiled by itself on purpose: fused into its surroundings the last bit of the fraction,
        # and with it a count, could differ between programs.
        fraction = jax.lax.optimization_barrier(jax.jit(self.drop_fraction_fn)(sparse_state.count))
        tie_key = jax.random.fold_in(self._key(random_masks.GROWTH_TIES), sparse_state.count)

        treedef: Any
        masks, treedef = jax.tree.flatten(old_masks, is_leaf=lambda m: m is None)
        trees = [treedef.flatten_up_to(tree) for tree in (drop_scores, grow_scores)]
        layers = [row for row in zip(masks, *trees, strict=True) if row[0] is not None]
        olds, drops, grows = ([row[i] for row in layers] for i in range(3))
        pruned = olds
        if type(self)._update_masks is SET._update_masks:
            pruned = self._prune(olds, drops, sparse_state)
            counts = self._layer_counts(_count_active(pruned), fraction, sparse_state, params)
            kept, news = self._drop_and_grow(pruned, drops, grows, *counts, tie_key)
        else:
            news = [self._update_masks(m, d, g, drop_fraction=fraction) for m, d, g in layers]
            kept = [old & new for old, new in zip(olds, news, strict=True)]

        def tree_of(leaves: Any) -> Any:
            of_layer = iter(leaves)
            return treedef.unflatten([None if m is None else next(of_layer) for m in masks])

        reinit_masks = None
        if self._has_reinit():
            # Removed and regrown at once. A full layer can do nothing else, so let it be.
            staying = kept if self.regrow_same == "zero" else pruned
            reinit_masks = tree_of(
                old & new & (1 - stay) & (left == 0).any().astype(old.dtype)
                for old, new, stay, left in zip(olds, news, staying, pruned, strict=True)
            )
        return sparse_state._replace(masks=self._store(tree_of(news))), reinit_masks

    def _reset_moments(
        self,
        before: base_updater.SparseState,
        chosen: base_updater.SparseState,
        reinit_masks: PyTree,
        params: PyTree,
        is_update: Any = True,
    ) -> base_updater.SparseState:
        """Sets moments to zero wherever a weight was not active all along."""
        fills = self.adam_fresh == "mean_v"
        if not self._resets_moments and not fills:
            return chosen
        treedef: Any
        olds, treedef = jax.tree.flatten(self._unpacked(before.masks, params))
        news = jax.tree.leaves(self._unpacked(chosen.masks, params))
        resets = list(map(self._moments_to_reset, olds, news))
        if reinit_masks is not None:
            again = jax.tree.leaves(reinit_masks)
            resets = [reset | mark for reset, mark in zip(resets, again, strict=True)]
        inner_state = chosen.inner_state
        if self._resets_moments:
            marks = treedef.unflatten(resets)
            first = self._initial_moments(chosen, params, reinit_masks)
            inner_state = optimizer_state.reset_moments(inner_state, marks, is_update, first)
        if fills:
            fresh = [new & reset for new, reset in zip(news, resets, strict=True)]
            settled = [1 - reset for reset in resets]
            inner_state = optimizer_state.fill_second_moments(
                inner_state, treedef.unflatten(fresh), treedef.unflatten(settled), is_update
            )
        return chosen._replace(inner_state=inner_state)

    def _no_reinit(self, sparse_state: base_updater.SparseState, params: PyTree) -> Any:
        if not self._has_reinit():
            return None
        return mask_trees.map_masks(
            lambda m, p: None if m is None else jnp.zeros(p.shape, mask_calculator.MASK_DTYPE),
            sparse_state.masks,
            params,
        )

    def _moments_to_reset(self, old: Any, new: Any) -> Any:
        """Marks where moments go to zero: wherever a weight was not active all along."""
        return (old & new) ^ 1


@dataclasses.dataclass
class RigL(SET):
    """Drops the smallest weights and grows where the gradient is largest (Evci et al. 2020)."""

    dense_gradients: ClassVar[str] = "updates"

    def _get_grow_scores(self, sparse_state: Any, params: PyTree, grads: PyTree) -> Any:
        """Returns `|gradient|`."""
        del sparse_state, params
        return mask_trees.magnitudes(grads)
