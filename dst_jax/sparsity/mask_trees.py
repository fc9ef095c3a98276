"""Trees of masks: mapping over them, drawing, packing and applying them.

A tree of masks looks like the params, with None for every layer that has no mask; None is a leaf
here, never an empty subtree. Used by the updaters; how a mask is chosen is in `topk`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dst_jax.sparsity import param_paths, topk
from dst_jax.sparsity.param_paths import PyTree


def map_masks(function: Callable[..., Any], masks: PyTree, *trees: PyTree) -> PyTree:
    """Maps over trees of masks (or sparsities), giving None leaves to the function as well.

    Args:
      function: called with a leaf of `masks` (maybe None, also where `optax.masked` has hidden a
        part of the tree) and the matching part of each tree.
      masks: the tree whose leaves, None included, decide the structure.
      *trees: trees with at least that structure.
    """

    def call(leaf: Any, *rest: Any) -> Any:
        return function(None if param_paths.is_missing(leaf) else leaf, *rest)

    return jax.tree.map(call, masks, *trees, is_leaf=param_paths.is_missing)


def apply_masks(tree: PyTree, masks: PyTree, is_packed: bool | None = False) -> PyTree:
    """Multiplies a tree like the params by its masks, found by path where the boxes differ.

    Args:
      tree: params, gradients, or an average of the weights.
      masks: uint8 masks and None; or None.
      is_packed: whether they are packed; None: found out from the shapes.
    """

    def apply(leaf: Any, mask: Any) -> Any:
        if is_packed is not None or mask is None:
            return apply_mask(leaf, mask, bool(is_packed))
        return apply_mask(leaf, mask, True) if mask.shape != leaf.shape else leaf * (mask != 0)

    leaves, treedef = param_paths.leaves_and_structure(tree)
    return treedef.unflatten(map(apply, leaves, param_paths.parts(masks, tree)))


def magnitudes(tree: PyTree) -> PyTree:
    """Returns the tree of absolute values; random keys stay what they are."""
    return jax.tree.map(lambda leaf: leaf if _is_key(leaf) else abs(leaf), tree)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", jnp.float32), jax.dtypes.extended)


def topk_tree(scores: PyTree, counts: PyTree, tie_key: jax.Array | None = None) -> PyTree:
    """Marks the highest scores of every layer, all layers in one search.

    Args:
      scores: a tree of arrays.
      counts: the same tree with the number to mark, or None for no mask.
      tie_key: see `topk.topk_masks`.

    Returns:
      The tree of uint8 masks and None.
    """
    treedef: Any
    wanted, treedef = jax.tree.flatten(counts, is_leaf=lambda k: k is None)
    layers = [
        (s, k) for s, k in zip(treedef.flatten_up_to(scores), wanted, strict=True) if k is not None
    ]
    masks = iter(topk.topk_masks([s for s, _ in layers], [k for _, k in layers], tie_key=tie_key))
    return treedef.unflatten([None if k is None else next(masks) for k in wanted])


def topk_jointly(scores: list[Any], k: Any, candidates: list[Any] | None = None) -> list[Any]:
    """Marks the k highest scores of all layers together, but at least one in every layer.

    Args:
      scores: [...] a layer.
      k: how many in all, at least the number of layers; may be traced.
      candidates: one mask a layer; only where it is not 0 may be chosen.

    Returns:
      One uint8 mask a layer.
    """
    # Each layer's best stays in any case; its score of infinity costs others their place.
    best = topk.topk_masks(scores, [1] * len(scores), candidates=candidates)
    raised = [
        jnp.where(mark != 0, jnp.inf, jnp.asarray(score, jnp.float32))
        for mark, score in zip(best, scores, strict=True)
    ]
    return topk.topk_masks(raised, k, candidates=candidates, joint=True)


def pack_masks(masks: PyTree) -> PyTree:
    """Packs eight mask entries into a byte, first entry in the highest bit; None stays None."""
    return jax.tree.map(jnp.packbits, masks)


def unpack_masks(masks: PyTree, params: PyTree) -> PyTree:
    """Undoes `pack_masks`; the params give the shapes."""
    return map_masks(lambda m, p: None if m is None else _unpack(m, p), masks, params)


def _unpack(mask: jax.Array, param: Any) -> jax.Array:
    return jnp.unpackbits(mask, count=param.size).reshape(param.shape)


def apply_mask(param: jax.Array, mask: jax.Array | None, is_packed: bool = False) -> jax.Array:
    """Multiplies a parameter [...] by its mask; a mask of None returns the parameter itself."""
    if mask is None:
        return param
    return param * (_unpack(mask, param) if is_packed else mask)


def zero_weights(params: PyTree, reinit_masks: PyTree) -> PyTree:
    """Sets the weights to zero where the masks are 1; None marks none."""
    return map_masks(lambda r, p: p if r is None else p * (1 - r), reinit_masks, params)
