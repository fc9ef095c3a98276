"""Methods that keep a dense state: sparse momentum (SNFS) and Top-KAST; first masks by SNIP.

SNFS keeps the momentum of inactive weights and grows where it is largest; Top-KAST keeps the
inactive weights themselves. Both need the memory of a dense network; the methods of
`sparse_trainers` do not.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dst_jax.sparsity import (
    base_updater,
    mask_trees,
    optimizer_state,
)
from dst_jax.sparsity.algorithms import sparse_trainers
from dst_jax.sparsity.param_paths import PyTree


def _share_out(total: jax.Array, shares: jax.Array, room: jax.Array) -> jax.Array:
    """Divides `total` in proportion to shares, up to the capacity of each layer.

    Args:
      total: int32 scalar, at most the sum of `room`.
      shares: float32 [layers], not negative.
      room: int32 [layers].

    Returns:
      int32 [layers] with the sum `total`.
    """

    def give(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        given, left = state
        is_open = given < room
        weight = jnp.where(is_open, shares, 0)
        weight = jnp.where(weight.sum() > 0, weight, is_open.astype(jnp.float32))
        more = jnp.floor(left * (weight / weight.sum())).astype(jnp.int32)
        more = jnp.minimum(more, room - given)
        more = jnp.clip(left - (jnp.cumsum(more) - more), 0, more)  # rounding may overdraw
        # The last few: one each to the first layers with room.
        single = (is_open & (jnp.cumsum(is_open) <= left)).astype(jnp.int32)
        more = jnp.where(more.sum() > 0, more, single)
        return given + more, left - more.sum()

    start = (jnp.zeros_like(room), total)
    return jax.lax.while_loop(lambda state: state[1] > 0, give, start)[0]


@dataclasses.dataclass
class SNFS(sparse_trainers.SET):
    """Sparse momentum (Dettmers & Zettlemoyer 2019): grows where the momentum is largest.

    What all layers together dropped is shared out in proportion to the mean `|momentum|` of their
    active weights, so layers change their density while the total stays exact. The optimizer sees
    dense gradients and its momentum is never reset. With Adam the momentum is m / sqrt(v).
    """

    is_sparse_gradients: bool = False
    skip_gradients: bool = False

    patterns: ClassVar[tuple[type, ...]] = ()  # shares out single weights among the layers
    needs_moments: ClassVar[str] = "mu"
    dense_gradients: ClassVar[str] = "always"

    _resets_moments: ClassVar[bool] = False

    def _momentum(self, sparse_state: Any, params: PyTree) -> Any:
        state = sparse_state.inner_state
        first = optimizer_state.find_moments(state, params, "mu")
        second = optimizer_state.find_moments(state, params, "nu")
        if first is not None and second is not None:
            return jax.tree.map(lambda m, v: abs(m) / (jnp.sqrt(v) + 1e-8), first, second)
        found = optimizer_state.find_moments(state, params)
        if found is None:
            raise ValueError("snfs: found no momentum; expected an optimizer with it")
        return jax.tree.map(abs, found)

    def _get_grow_scores(self, sparse_state: Any, params: PyTree, grads: PyTree) -> Any:
        """Returns `|momentum|`."""
        del grads
        return self._momentum(sparse_state, params)

    def _layer_counts(
        self, n_active: Any, drop_fraction: Any, sparse_state: Any = None, params: PyTree = None
    ) -> tuple[Any, Any]:
        """Returns the counts: each layer drops its fraction, growth is shared among all layers."""
        kept, _ = super()._layer_counts(n_active, drop_fraction, sparse_state, params)
        masks = self._unpacked(sparse_state.masks, params)
        momentum = self._momentum(sparse_state, params)
        sums = mask_trees.map_masks(
            lambda m, v: None if m is None else (m * v).sum(), masks, momentum
        )
        means = jnp.stack(jax.tree.leaves(sums)).astype(jnp.float32) / jnp.maximum(n_active, 1)
        sizes = jnp.array([mask.size for mask in jax.tree.leaves(masks)], jnp.int32)
        freed = (n_active - kept).sum()
        # Kept apart so that no fusion changes the last bit of a share, and with it a count.
        means = jax.lax.optimization_barrier(means)
        return kept, kept + _share_out(freed, means, sizes - kept)


@dataclasses.dataclass
class TopKAST(base_updater.BaseUpdater):
    """Top-KAST (Jayakumar et al. 2020): the largest weights are active, more of them are trained.

    The params stay dense. The forward pass uses the weights A with the largest `|w|` of each layer
    (`pre_forward_update`), and a larger set B is trained; the other weights keep their value, and
    join B when their `|w|` is large enough. `masks` holds A, `backward_masks` holds B. Both are
    chosen anew at every mask update. Evaluate with `pre_forward_update(params, state)`.

    Attributes:
      backward_ratio: size of B over that of A, per layer and at most all its weights.
      penalty: L2 coefficient of the exploration loss: `penalty / 2` times the squared weights of A,
        plus that of B without A divided by the layer's density. 0 leaves it out.
    """

    is_sparse_gradients: bool = True
    backward_ratio: float = 2.0
    penalty: float = 0.0

    changes_density: ClassVar[bool] = False
    keeps_dense_weights: ClassVar[bool] = True
    patterns: ClassVar[tuple[type, ...]] = ()

    def __post_init__(self):
        super().__post_init__()
        if self.backward_ratio < 1:
            raise ValueError(f"backward_ratio: found {self.backward_ratio}; expected at least 1")

    def _choose(self, params: PyTree, masks: PyTree = None) -> tuple[Any, Any]:
        """Returns A and B as the state holds them, for the layers that have masks already."""
        counts = self._distribution().counts(params, masks)
        wider = mask_trees.map_masks(
            lambda n, p: None if n is None else min(round(n * self.backward_ratio), p.size),
            counts,
            params,
        )
        scores = jax.tree.map(abs, params)
        chosen = (mask_trees.topk_tree(scores, n) for n in (counts, wider))
        forward, backward = (self._store(masks) for masks in chosen)
        return forward, backward

    def init_state(self, params: PyTree) -> base_updater.SparseState:
        """Returns the first state: A and B by the initial `|w|`."""
        state = super().init_state(params)
        forward, backward = self._choose(params)
        return state._replace(masks=forward, backward_masks=backward)

    def _choose_masks(
        self, sparse_state: base_updater.SparseState, params: PyTree, grads: PyTree, **kwargs: Any
    ) -> tuple[base_updater.SparseState, Any]:
        """Chooses A and B anew."""
        del grads, kwargs
        forward, backward = self._choose(params, sparse_state.masks)
        return sparse_state._replace(masks=forward, backward_masks=backward), None

    def _reset_moments(
        self,
        before: base_updater.SparseState,
        chosen: base_updater.SparseState,
        reinit_masks: PyTree,
        params: PyTree,
        is_update: Any = True,
    ) -> base_updater.SparseState:
        """Sets the moments of the weights that are new in B to zero."""
        pairs = (self._unpacked(s.backward_masks, params) for s in (before, chosen))
        resets = mask_trees.map_masks(
            lambda old, new: None if old is None else 1 - (old & new), *pairs
        )
        first = self._initial_moments(chosen, params, reinit_masks)
        inner_state = optimizer_state.reset_moments(chosen.inner_state, resets, is_update, first)
        return chosen._replace(inner_state=inner_state)

    def pre_forward_update(self, params: PyTree, opt_state: Any) -> PyTree:
        """Returns the weights of A: what the forward pass should use."""
        return self.apply_masks(params, opt_state.masks, is_packed=None)

    def mask_gradients(
        self, grads: PyTree, sparse_state: base_updater.SparseState, params: PyTree
    ) -> PyTree:
        """Returns the gradients of B, with those of the exploration loss."""
        if self.penalty:
            masks = self._unpacked(sparse_state.masks, params)

            def explore(mask: Any, grad: Any, param: Any) -> Any:
                if mask is None:
                    return grad
                density = mask.sum(dtype=jnp.int32) / mask.size
                return grad + self.penalty * param * jnp.where(mask != 0, 1.0, 1.0 / density)

            grads = mask_trees.map_masks(explore, masks, grads, params)
        return self.apply_masks(grads, sparse_state.backward_masks, is_packed=None)

    def mask_updates(self, updates: PyTree, sparse_state: base_updater.SparseState) -> PyTree:
        """Returns the updates of B: weights outside keep their value."""
        return self.apply_masks(updates, sparse_state.backward_masks, is_packed=None)

    def post_gradient_update(
        self, params: PyTree, sparse_state: base_updater.SparseState
    ) -> PyTree:
        """Returns the params unchanged: all weights are kept."""
        del sparse_state
        return params


def snip_masks(params: PyTree, grads: PyTree, masks: PyTree) -> PyTree:
    """Initial masks by connection sensitivity, `|w * gradient|` (SNIP, Lee et al. 2019).

    All layers are ranked together, but each keeps at least one weight.

    Args:
      params: the dense initial weights.
      grads: their gradients, of one batch or the mean over several.
      masks: masks as `init_state` made them: which layers to rank, and how many weights in all.

    Returns:
      Masks with the same total number of active weights, None where `masks` has None.
    """
    treedef: Any
    leaves, treedef = jax.tree.flatten(masks, is_leaf=lambda m: m is None)
    pairs = zip(treedef.flatten_up_to(params), treedef.flatten_up_to(grads), strict=True)
    rows = [
        (mask, abs(w * g)) for mask, (w, g) in zip(leaves, pairs, strict=True) if mask is not None
    ]
    total = sum((mask.sum(dtype=jnp.int32) for mask, _ in rows), start=jnp.int32(0))
    chosen = iter(mask_trees.topk_jointly([score for _, score in rows], total))
    return treedef.unflatten([None if mask is None else next(chosen) for mask in leaves])
