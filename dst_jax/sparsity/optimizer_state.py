"""Finds the moments inside any optax state by their structure, to reset or to freeze them.

Moments are the parts of an optimizer state that look like the params: momentum, Adam's two
moments, accumulated gradients. Called by the updaters; knows no optimizer by name, so chains,
`masked`, `multi_transform`, `MultiSteps`, `inject_hyperparams` and new optimizers work.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dst_jax.sparsity import param_paths
from dst_jax.sparsity.param_paths import PyTree


def _is_masked_node(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _flatten(node: Any) -> tuple[list[Any], Any]:
    return jax.tree.flatten(node, is_leaf=_is_masked_node)


def _is_moments(node: Any, template: Any) -> bool:
    """Returns whether `node` has the tree structure of `template`, whatever its shapes.

    `optax.MaskedNode` may stand for any part of the template, a None in the template for an array.
    """
    if hasattr(node, "shape"):
        # One array alone: only its shape tells a moment from a counter.
        return hasattr(template, "shape") and node.shape == template.shape
    leaves, treedef = _flatten(node)
    try:
        parts = treedef.flatten_up_to(template)
    except ValueError:
        return False
    arrays = [part for leaf, part in zip(leaves, parts, strict=True) if not _is_masked_node(leaf)]
    return bool(arrays) and all(part is None or hasattr(part, "shape") for part in arrays)


def _gated(mark: Any, when: Any) -> Any:
    """Returns where a mask [...] counts, bool [...]: nowhere unless `when`."""
    return mark != 0 if when is True else (mark != 0) & when


def reset_moments(state: Any, reset: PyTree, when: Any = True, initial: Any = None) -> Any:
    """Starts moments anew at the marked positions; counters and all else stay as they are.

    Args:
      state: any optax state, or None.
      reset: a tree like the params with a mask [...] (not 0: reset) or None (leave alone).
      when: bool scalar, may be traced; False changes nothing.
      initial: a state of the same structure with what moments start from; None: zeros.

    Returns:
      The state with the same structure, shapes and dtypes. Moments that do not end in the shape of
      their parameter (Adafactor's factored ones) are left alone; a history of several steps
      (L-BFGS's) is reset in all of them.
    """
    # Shapes alone: a structure that does not fit is told by an error that prints its arrays.
    template = jax.tree.map(lambda mark: jax.ShapeDtypeStruct(mark.shape, mark.dtype), reset)

    def is_moments(node: Any) -> bool:
        return _is_moments(node, template)

    def start_leaf(leaf: Any, mark: Any, first: Any) -> Any:
        if _is_masked_node(leaf) or mark is None:
            return leaf
        if leaf.shape[max(leaf.ndim - mark.ndim, 0) :] != mark.shape:
            return leaf
        return jnp.where(_gated(mark, when), jnp.asarray(first, leaf.dtype), leaf)

    def start(node: Any, *first: Any) -> Any:
        if not is_moments(node):
            return node
        leaves, treedef = _flatten(node)
        marks = treedef.flatten_up_to(reset)
        firsts = treedef.flatten_up_to(first[0]) if first else [0] * len(leaves)
        return treedef.unflatten(map(start_leaf, leaves, marks, firsts))

    structures = [param_paths.leaves_and_structure(tree)[1] for tree in (initial, state)]
    given = [initial] if initial is not None and structures[0] == structures[1] else []
    return jax.tree.map(start, state, *given, is_leaf=is_moments)


def _is_named(field: str) -> Any:
    """Returns a function that tells whether a node of a state has a field of that name."""
    return lambda node: isinstance(node, tuple) and field in getattr(node, "_fields", ())


def fill_second_moments(state: Any, fresh: PyTree, settled: PyTree, when: Any = True) -> Any:
    """Starts the second moments of new weights at their layer's mean over settled ones.

    Second moments are the trees named `nu`, as in all of optax (Adam, LAMB, RMSProp, ...).

    Args:
      state: any optax state, or None.
      fresh: a tree like the params with a mask [...] of the new weights, or None.
      settled: the same tree, the weights that keep their moments.
      when: bool scalar, may be traced; False changes nothing.

    Returns:
      The state with the same structure.
    """
    has_nu = _is_named("nu")

    def fill_leaf(leaf: Any, new: Any, old: Any) -> Any:
        if _is_masked_node(leaf) or new is None or leaf.shape != new.shape:
            return leaf
        mean = (leaf * old).sum() / jnp.maximum(old.sum(dtype=jnp.int32), 1)
        return jnp.where(_gated(new, when), mean.astype(leaf.dtype), leaf)

    def fill(node: Any) -> Any:
        if not has_nu(node) or not _is_moments(node.nu, fresh):
            return node
        leaves, treedef = _flatten(node.nu)
        rows = zip(
            leaves, treedef.flatten_up_to(fresh), treedef.flatten_up_to(settled), strict=True
        )
        return node._replace(nu=treedef.unflatten([fill_leaf(*row) for row in rows]))

    return jax.tree.map(fill, state, is_leaf=has_nu)


def find_moments(state: Any, params: PyTree, field: str | None = None) -> PyTree:
    """Finds moments in a state.

    Args:
      state: any optax state, or None.
      params: the params, for their structure.
      field: the name of the field, such as 'nu'; None takes the first tree of moments, which is
        the momentum (`trace` of SGD, `mu` of Adam).

    Returns:
      A tree like the params, put together from the groups of `optax.multi_transform`, with zeros
      where there are none; None if the state holds none at all.
    """
    found: list[Any] = []

    def look(node: Any) -> bool:
        if field is not None:
            node = getattr(node, field) if _is_named(field)(node) else None
        is_one = node is not None and _is_moments(node, params)
        if is_one:
            found.append(node)
        return is_one

    jax.tree.flatten(state, is_leaf=look)
    if not found or not any(map(_is_masked_node, _flatten(found[0])[0])):
        return found[0] if found else None
    # Groups of `multi_transform` hold the moments of their own layers each.
    leaves, treedef = param_paths.leaves_and_structure(params)
    rows = zip(*(param_paths.parts(tree, params) for tree in found), strict=True)
    return treedef.unflatten(
        [
            next((part for part in row if part is not None), jnp.zeros_like(leaf))
            for row, leaf in zip(rows, leaves, strict=True)
        ]
    )


def _children(node: Any) -> list[Any]:
    return jax.tree.leaves(node, is_leaf=lambda child: child is not node)


def freeze_moments(is_frozen: Any, before: Any, after: Any, params: PyTree) -> Any:
    """Undoes one optimizer step in the moments, but not in the schedules.

    A state that holds moments (Adam's, say) goes back as a whole, with its own counter and all
    that it wraps, because that counter says how many gradients the moments have seen. Everything
    else, above all the counters of learning-rate schedules, keeps its new value.

    Args:
      is_frozen: bool scalar, may be traced.
      before: the optax state before the step.
      after: the state after it, of the same structure.
      params: the params, for their structure.

    Returns:
      The combined state.
    """

    def holds_moments(node: Any) -> bool:
        if _is_moments(node, params):
            return True
        # A plain container (the tuple of a chain) keeps independent states side by side.
        is_container = node is None or type(node) in (tuple, list, dict) or hasattr(node, "shape")
        return not is_container and any(_is_moments(child, params) for child in _children(node))

    def pick(old: Any, new: Any) -> Any:
        if not holds_moments(old):
            return new
        return jax.tree.map(lambda o, n: jnp.where(is_frozen, o, n), old, new)

    return jax.tree.map(pick, before, after, is_leaf=holds_moments)
