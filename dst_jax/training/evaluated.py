"""What is evaluated of a saved state: weights, BatchNorm statistics and masks, as NumPy arrays.

The running average where there is one, masked; of algorithms that keep dense weights the network of
the next forward pass. Called by `saved_run` and `initial_weights`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dst_jax import sparsity
from dst_jax.training import build
from dst_jax.training import step as step_lib


def network(config: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The network of a checkpoint.

    Args:
      config: the resolved config of its run.
      state: what `runtime.checkpoint.read` returns.

    Returns:
      (params, batch_stats, masks), nested dicts: float32 weights, masked; {} without BatchNorm;
      uint8 masks, only where a leaf is maskable.
    """
    found = state.get("ema") or state
    params, masks = _masked_network(config, found["params"], state)
    return params, found.get("batch_stats", {}), masks


def _masked_network(
    config: Mapping[str, Any], params: Any, state: Mapping[str, Any]
) -> tuple[Any, Any]:
    sparse = state["sparse"]
    masks = sparse.get("masks", {})
    if not build.algorithm_of(config).keeps_dense_weights:
        return _masked(params, masks), masks
    # JaxPruner's own updaters are refused with these algorithms, so ours it was.
    updater = build.updater(config)
    found = sparsity.SparseState(
        masks=_with_none(params, masks),
        target_sparsities=_with_none(params, sparse.get("target_sparsities", {})),
    )
    forward = jax.jit(lambda *trees: step_lib.forward_network(updater, *trees))
    params, masks = jax.tree.map(np.asarray, forward(params, found, state["step"]))
    return params, _without_none(masks)


def _with_none(params: Any, tree: Any) -> Any:
    """A tree of a checkpoint, which holds no None leaves, in the structure of params."""
    if not isinstance(params, Mapping):
        return tree
    return {name: _with_none(part, (tree or {}).get(name)) for name, part in params.items()}


def _without_none(tree: Any) -> Any:
    """The reverse of `_with_none`; dictionaries that become empty go as well."""
    if not isinstance(tree, Mapping):
        return tree
    parts = {name: _without_none(part) for name, part in tree.items()}
    return {name: part for name, part in parts.items() if jax.tree.leaves(part)}


def _masked(params: Any, masks: Any) -> Any:
    """Multiplies weights by their masks."""
    if not isinstance(params, Mapping):
        return params * masks
    return {
        name: _masked(part, masks[name]) if name in masks else part for name, part in params.items()
    }
