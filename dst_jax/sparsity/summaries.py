"""What to log about sparsity: how sparse a tree is, and how much two sets of masks share.

Pure functions of trees, used by training loops and notebooks. JaxPruner has them in its `utils`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.sparsity import maskable, param_paths, sparse_state
from dst_jax.sparsity.param_paths import PyTree


def _add(counts: Any) -> jax.Array:
    """Adds integer counts in float32, which neither wraps around nor overflows."""
    return sum((jnp.float32(count) for count in jax.tree.leaves(counts)), jnp.float32(0))


def summarize_sparsity(param_tree: PyTree, only_total_sparsity: bool = False) -> dict[str, Any]:
    """Counts exact zeros.

    Args:
      param_tree: any tree of arrays (params or masks) and None, or one array.
      only_total_sparsity: leave the layers out.

    Returns:
      Float32 scalars by '/'-joined path, the fraction of zeros (None stays None), and
      `_total_sparsity`, `_nparams_nnz`, `_nparams` over all arrays.
    """
    nonzeros = jax.tree.map(jnp.count_nonzero, param_tree)
    nnz, size = _add(nonzeros), _add(jax.tree.map(jnp.size, param_tree))
    summary: dict[str, Any] = {}
    if not only_total_sparsity:
        summary = param_paths.by_text(
            jax.tree.map(lambda n, p: 1 - jnp.float32(n) / p.size, nonzeros, param_tree)
        )
    return summary | {"_total_sparsity": 1 - nnz / size, "_nparams_nnz": nnz, "_nparams": size}


def summarize_intersection(
    mask_tree1: PyTree, mask_tree2: PyTree, only_total_intersection: bool = False
) -> dict[str, Any]:
    """Measures how much of one set of masks is also active in another.

    Args:
      mask_tree1: a tree of 0/1 masks and None.
      mask_tree2: the same structure.
      only_total_intersection: leave the layers out.

    Returns:
      Float32 scalars by '/'-joined path, `|A and B| / max(|A|, 1)` with A from the first tree
      (None stays None), and `_total_intersection` over all layers.
    """
    both = jax.tree.map(lambda a, b: jnp.sum((a == 1) & (b == 1)), mask_tree1, mask_tree2)
    ones = jax.tree.map(lambda a: jnp.sum(a, dtype=jnp.int32), mask_tree1)
    summary: dict[str, Any] = {}
    if not only_total_intersection:
        summary = param_paths.by_text(jax.tree.map(lambda b, n: b / jnp.maximum(n, 1), both, ones))
    return summary | {"_total_intersection": _add(both) / jnp.maximum(_add(ones), 1)}


def layer_table(params: PyTree, masks: Any) -> str:
    """Lists the layers with a mask: path, shape, active weights and density, with their sum.

    Args:
      params: a tree of arrays.
      masks: a tree of unpacked 0/1 masks and None; or the state of an optimizer around
        `wrap_optax`, an `nnx.Optimizer` or a TrainState, packed or not.

    Returns:
      Lines of text without a newline at the end; one line if no layer is maskable. The last line
      names parameters of two or more dimensions without a mask, where there are any.
    """
    states = sparse_state.find_states(masks) if masks is not None else []
    trees = [state.masks for state in states] or [masks]
    paths, leaves, _ = param_paths.flatten(params)
    rows, without = [], []
    found = zip(*(param_paths.parts(tree, params) for tree in trees), strict=True)
    for path, leaf, of_layer in zip(paths, leaves, found, strict=True):
        name, shape = param_paths.text(path), " x ".join(map(str, np.shape(leaf)))
        mask = next((mask for mask in of_layer if mask is not None), None)
        if mask is None:
            why = maskable.why_dense(path, leaf)
            if np.ndim(leaf) > 1:
                without.append(f"{name} ({shape}{f', {why}' if why else ''})")
            continue
        if mask.shape != leaf.shape:
            mask = jnp.unpackbits(mask, count=leaf.size)
        rows.append((name, shape, int(mask.sum(dtype=jnp.int32)), mask.size))
    rest = f"without a mask: {', '.join(without)}" if without else ""
    if not rows:
        return "\n".join(["No layer has a mask.", *([rest] if rest else [])])
    active, size = sum(row[2] for row in rows), sum(row[3] for row in rows)
    rows.append(("all maskable layers", "", active, size))
    width, middle = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    lines = [
        f"{name:<{width}}  {shape:>{middle}}  {n:>12,} of {of:>12,}  density {n / of:.4f}"
        for name, shape, n, of in rows
    ]
    return "\n".join(lines + ([rest] if rest else []))
