"""What to log about sparsity: how sparse a tree is, and how much two sets of masks share.

Pure functions of trees, used by training loops and notebooks. JaxPruner has them in its `utils`.
"""

from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp


def _by_path(tree: Any) -> dict[str, Any]:
    """Flattens a nested dict to 'a/b' -> leaf, a list to '0' -> leaf."""
    if isinstance(tree, list):
        return {str(index): leaf for index, leaf in enumerate(tree)}
    return dict(flax.traverse_util.flatten_dict(tree, sep="/"))


def _add(counts: Any) -> jax.Array:
    """Adds integer counts in float32, which neither wraps around nor overflows."""
    return sum((jnp.float32(count) for count in jax.tree.leaves(counts)), jnp.float32(0))


def summarize_sparsity(param_tree: Any, only_total_sparsity: bool = False) -> dict[str, Any]:
    """Counts exact zeros.

    Args:
      param_tree: a nested dict of arrays (params or masks) and None, a list, or one array.
      only_total_sparsity: leave the layers out.

    Returns:
      Float32 scalars by '/'-joined path, the fraction of zeros (None stays None), and
      `_total_sparsity`, `_nparams_nnz`, `_nparams` over all arrays.
    """
    nonzeros = jax.tree.map(jnp.count_nonzero, param_tree)
    nnz, size = _add(nonzeros), _add(jax.tree.map(jnp.size, param_tree))
    summary: dict[str, Any] = {}
    if not only_total_sparsity:
        summary = _by_path(
            jax.tree.map(lambda n, p: 1 - jnp.float32(n) / p.size, nonzeros, param_tree)
        )
    return summary | {"_total_sparsity": 1 - nnz / size, "_nparams_nnz": nnz, "_nparams": size}


def summarize_intersection(
    mask_tree1: Any, mask_tree2: Any, only_total_intersection: bool = False
) -> dict[str, Any]:
    """Measures how much of one set of masks is also active in another.

    Args:
      mask_tree1: a nested dict of 0/1 masks and None, or a list.
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
        summary = _by_path(jax.tree.map(lambda b, n: b / jnp.maximum(n, 1), both, ones))
    return summary | {"_total_intersection": _add(both) / jnp.maximum(_add(ones), 1)}


def layer_table(params: Any, masks: Any) -> str:
    """Lists the maskable layers: path, shape, active weights and density, with their sum.

    Args:
      params: a tree of arrays.
      masks: a tree of unpacked 0/1 masks and None, or None.

    Returns:
      Lines of text without a newline at the end; one line if no layer is maskable.
    """
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(params)
    }
    rows = []
    for path, mask in jax.tree.leaves_with_path(masks):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        shape = " x ".join(map(str, shapes[name]))
        rows.append((name, shape, int(mask.sum(dtype=jnp.int32)), mask.size))
    if not rows:
        return "No layer has a mask."
    active, size = sum(row[2] for row in rows), sum(row[3] for row in rows)
    rows.append(("all maskable layers", "", active, size))
    width, middle = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    return "\n".join(
        f"{name:<{width}}  {shape:>{middle}}  {n:>12,} of {of:>12,}  density {n / of:.4f}"
        for name, shape, n, of in rows
    )
