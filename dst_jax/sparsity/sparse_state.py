"""The state of an updater, and how to find it in whatever holds it.

Used by the updaters; `find_state`, `masked` and `check` are for training loops and notebooks.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from dst_jax.sparsity import mask_trees, param_paths, told
from dst_jax.sparsity.param_paths import PyTree


class SparseState(NamedTuple):
    """The state of an updater.

    Attributes:
      masks: a tree like the params: uint8 0/1 [shape of the param], bit-packed [bytes] if the
        updater packs, None for layers without a mask; or None for no masks at all.
      inner_state: the state of the wrapped optimizer.
      target_sparsities: a tree like the params of floats and None.
      count: int32 scalar, completed steps.
      backward_masks: like `masks`, the weights that train, where those are not the active ones
        (Top-KAST); else None.
    """

    masks: Any
    inner_state: Any = None
    target_sparsities: Any = None
    count: Any = None
    backward_masks: Any = None

    def __repr__(self) -> str:
        masks = [mask for mask in jax.tree.leaves(self.masks) if hasattr(mask, "shape")]
        parts = [f"{len(masks)} layer{'' if len(masks) == 1 else 's'} with a mask"]
        if masks and all(map(_is_readable, masks)):
            ones = sum(np.unpackbits(np.asarray(m, np.uint8)).sum(dtype=np.int64) for m in masks)
            parts.append(f"{int(ones):,} weights active")
        inner = self.inner_state
        kind = "none" if inner is None else type(inner).__name__
        if type(inner) is tuple:
            kind = f"({', '.join(type(part).__name__ for part in inner)})"
        step = "none" if self.count is None else self.count
        return f"SparseState(count={step}, {', '.join(parts)}, inner_state={kind})"


def _is_readable(mask: Any) -> bool:
    """Whether the values of a mask are here: not of a shape, in a trace, or on other hosts."""
    if isinstance(mask, jax.core.Tracer) or not isinstance(mask, (jax.Array, np.ndarray)):
        return False
    return bool(getattr(mask, "is_fully_addressable", True))


def _is_state(node: Any) -> bool:
    return isinstance(node, SparseState) or (
        isinstance(node, tuple) and {"masks", "inner_state"} <= set(getattr(node, "_fields", ()))
    )


def _is_box(node: Any) -> bool:
    return type(node).__module__.startswith("flax.nnx") and hasattr(node, "get_value")


def find_states(holder: Any) -> list[SparseState]:
    """Returns every `SparseState` in an optimizer state, a TrainState or an `nnx.Optimizer`.

    Args:
      holder: the state of any optax transformation, whatever is around `wrap_optax`, or an object
        with it in `opt_state`. What NNX puts around arrays is taken off.
    """
    if _is_state(holder):
        found = [holder]
    else:
        holder = getattr(holder, "opt_state", holder)
        nodes = jax.tree.leaves(holder, is_leaf=_is_state)
        found = [node for node in nodes if _is_state(node)]
    return [
        jax.tree.map(
            lambda node: node.get_value() if _is_box(node) else node, state, is_leaf=_is_box
        )
        for state in found
    ]


def find_state(holder: Any) -> SparseState:
    """Returns the one `SparseState` in an optimizer state, a TrainState or an `nnx.Optimizer`.

    Raises:
      ValueError: there is none, or several (one for each group of `optax.multi_transform`).
    """
    found = find_states(holder)
    if len(found) != 1:
        raise ValueError(
            f"state: found {len(found) or 'no'} SparseState in {type(holder).__name__}; expected "
            "one, as the state of updater.wrap_optax(...) holds"
            + (" (find_states gives them all)" if found else "")
        )
    return found[0]


def masked(tree: PyTree, holder: Any) -> PyTree:
    """Masks a tree like the params, such as a running average of the weights.

    After every step: `ema = masked(optax.incremental_update(params, ema, 0.001), opt_state)`. The
    average of a weight that was dropped is 0, and of one that is grown starts from 0.

    Args:
      tree: a tree like the params.
      holder: what `find_states` takes.

    Raises:
      ValueError: there is no `SparseState` in it.
    """
    states = find_states(holder) or [find_state(holder)]
    for state in states:
        tree = mask_trees.apply_masks(tree, state.masks, is_packed=None)
    return tree


def of(holder: Any) -> Any:
    """Returns the state of an updater's method: as it is, or the one in what holds it."""
    if hasattr(holder, "masks") and hasattr(holder, "count"):
        return holder
    return find_state(holder)


def unmasked_weights(params: PyTree, holder: Any) -> dict[str, int]:
    """Returns, for each layer, how many weights are not 0 where its mask is 0; {} if all are.

    Args:
      params: the params.
      holder: what `find_states` takes.
    """
    wrong: dict[str, int] = {}
    for state in find_states(holder) or [find_state(holder)]:
        kept = param_paths.by_text(mask_trees.apply_masks(params, state.masks, is_packed=None))
        for path, leaf in param_paths.by_text(params).items():
            if hasattr(leaf, "shape") and (count := int((leaf != kept[path]).sum())):
                wrong[path] = count
    return wrong


def check(updater: Any, params: PyTree, holder: Any) -> list[str]:
    """Says what of a training is not as its algorithm's name promises, and warns of each once.

    For the end of a training, or any time in it; arrays are read, so not inside `jax.jit`.

    Args:
      updater: the updater.
      params: the params as they are trained.
      holder: what `find_states` takes.

    Returns:
      One line for each finding; none if all is well.
    """
    name, state, found = type(updater).__name__, find_state(holder), []
    steps = int(state.count)
    if updater.changes_masks and not any(map(updater.is_mask_update, range(steps))):
        found.append(
            f"{name}: found no mask update in {steps} steps (its schedule is {updater.scheduler}); "
            "expected one, or the training is not what its name says"
        )
    if updater._masks_weights() and (wrong := unmasked_weights(params, holder)):
        path, count = next(iter(wrong.items()))
        found.append(
            f"{name}: found {sum(wrong.values()):,} weights that are masked but not 0 ({count:,} "
            f"of {path}); expected optax.apply_updates of all that tx.update returns"
        )
    if not updater.is_dense and updater._masks_weights() and not jax.tree.leaves(state.masks):
        found.append(f"{name}: found no layer with a mask; expected one")
    for line in found:
        told.once(line)
    return found
