"""Finds the moments inside any optax state by their structure, to reset or to freeze them.

Moments are the parts of an optimizer state that look like the params: momentum, Adam's two
moments, accumulated gradients. Called by the updaters; knows no optimizer by name, so chains,
`masked`, `multi_transform`, `MultiSteps`, `inject_hyperparams` and optimizers of tomorrow work.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def _is_masked_node(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _flatten(node: Any) -> tuple[list[Any], Any]:
    return jax.tree.flatten(node, is_leaf=_is_masked_node)


def _is_moments(node: Any, template: Any) -> bool:
    """Returns whether `node` has the tree structure of `template`, whatever its shapes.

    `optax.MaskedNode` may stand for any part of the template, a None in the template for an array.
    """
    leaves, treedef = _flatten(node)
    try:
        parts = treedef.flatten_up_to(template)
    except ValueError:
        return False
    if hasattr(node, "shape"):
        # One array alone: only its shape tells a moment from a counter.
        return hasattr(template, "shape") and node.shape == template.shape
    arrays = [part for leaf, part in zip(leaves, parts, strict=True) if not _is_masked_node(leaf)]
    return bool(arrays) and all(part is None or hasattr(part, "shape") for part in arrays)


def reset_moments(state: Any, reset: Any) -> Any:
    """Sets moments to zero at the marked positions; counters and all else stay as they are.

    Args:
      state: any optax state, or None.
      reset: a tree like the params with a mask [...] (not 0: reset) or None (leave alone).

    Returns:
      The state with the same structure, shapes and dtypes. Moments that do not have the shape of
      their parameter (Adafactor's factored ones) are left alone.
    """

    def is_moments(node: Any) -> bool:
        return _is_moments(node, reset)

    def zero_leaf(leaf: Any, mark: Any) -> Any:
        if _is_masked_node(leaf) or mark is None or leaf.shape != mark.shape:
            return leaf
        return jnp.where(mark != 0, jnp.zeros_like(leaf), leaf)

    def zero(node: Any) -> Any:
        if not is_moments(node):
            return node
        leaves, treedef = _flatten(node)
        marks = treedef.flatten_up_to(reset)
        return treedef.unflatten([zero_leaf(a, m) for a, m in zip(leaves, marks, strict=True)])

    return jax.tree.map(zero, state, is_leaf=is_moments)


def _children(node: Any) -> list[Any]:
    return jax.tree.leaves(node, is_leaf=lambda child: child is not node)


def freeze_moments(is_frozen: Any, before: Any, after: Any, params: Any) -> Any:
    """Undoes one optimizer step in the moments, but lets schedules move on.

    A state that holds moments (Adam's, say) goes back as a whole, with its own counter and all
    that it wraps, because that counter says how many gradients the moments have seen. Everything
    else, above all the counters of learning-rate schedules, keeps its new value.

    Args:
      is_frozen: bool scalar, may be traced.
      before: the optax state before the step.
      after: the state after it, of the same structure.
      params: the params, for their structure.

    Returns:
      The state to go on with.
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
