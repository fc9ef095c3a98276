"""Any params tree by the paths of its arrays: nested dicts, Flax NNX, Equinox, lists, tuples.

A path is a tuple of names, as JaxPruner's filters and maps have it: `("layer1", "kernel")` of a
nested dict, `("layers", "0", "weight")` of an Equinox module. Positions of a list are text; a key
of a dict is the key itself. Boxes of one array (an NNX Param, Flax's Partitioned) add no name.
Called by distributions, masks and summaries; knows no framework.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
import optax

PyTree: TypeAlias = Any
"""A tree of arrays of any framework; what a function returns of it has the same structure."""
Path: TypeAlias = tuple[Any, ...]

# What a single array as params is called.
_SINGLE = ("kernel",)


def is_missing(node: Any) -> bool:
    """Whether a node stands for no array: None, or what `optax.masked` leaves behind."""
    return node is None or isinstance(node, optax.MaskedNode)


def leaves_and_structure(
    tree: PyTree, is_leaf: Callable[[Any], bool] | None = None
) -> tuple[list[Any], Any]:
    """Returns what `jax.tree.flatten` does, in types that type checkers know."""
    leaves: Any
    treedef: Any
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_leaf)
    return leaves, treedef


def _name(key: Any) -> Any:
    if isinstance(key, jax.tree_util.DictKey):
        return key.key
    if isinstance(key, jax.tree_util.SequenceKey):
        return str(key.idx)
    if isinstance(key, jax.tree_util.GetAttrKey):
        return key.name
    return str(getattr(key, "key", key))


def _is_of_box(key: Any) -> bool:
    return isinstance(key, jax.tree_util.FlattenedIndexKey) or (
        isinstance(key, jax.tree_util.GetAttrKey) and key.name in ("value", "raw_value")
    )


def flatten(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> tuple[Any, Any, Any]:
    """Returns the paths of the leaves, the leaves, and the structure of a tree."""
    found, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    below: dict[Any, int] = {}
    for keys, _ in found:
        for length in range(len(keys)):
            below[keys[:length]] = below.get(keys[:length], 0) + 1
    paths = []
    for keys, _ in found:
        # A last `value` is a box only where its parent holds nothing else.
        while len(keys) > 1 and _is_of_box(keys[-1]) and below[keys[:-1]] == 1:
            keys = keys[:-1]
        paths.append(tuple(map(_name, keys)) or _SINGLE)
    return paths, [leaf for _, leaf in found], treedef


def text(path: Path) -> str:
    """Returns a path as text, such as `layer1/kernel`."""
    return "/".join(map(str, path))


def map_with_path(function: Callable[[Path, Any], Any], tree: PyTree) -> PyTree:
    """Maps (path, array) over a tree."""
    paths, leaves, treedef = flatten(tree)
    return treedef.unflatten([function(p, leaf) for p, leaf in zip(paths, leaves, strict=True)])


def by_text(tree: PyTree) -> dict[str, Any]:
    """Returns path as text -> leaf, None among the leaves, in the tree's order."""
    paths, leaves, _ = flatten(tree, is_leaf=is_missing)
    return {text(p): leaf for p, leaf in zip(paths, leaves, strict=True)}


def check_arrays(tree: PyTree) -> None:
    """Refuses leaves that are neither arrays nor numbers.

    Raises:
      ValueError: naming the first of them.
    """
    paths, leaves, _ = flatten(tree)
    for path, leaf in zip(paths, leaves, strict=True):
        if not hasattr(leaf, "shape") and not isinstance(leaf, (bool, int, float, np.number)):
            raise ValueError(
                f"params: found {type(leaf).__name__} at {text(path)}; expected a tree of arrays "
                "alone (of an Equinox module: eqx.filter(model, eqx.is_inexact_array))"
            )


def normalised_map(custom: Mapping[Any, float] | None, tree: PyTree) -> dict[str, float]:
    """Returns a map of paths, tuples of names or text, by text.

    Args:
      custom: path -> sparsity.
      tree: the params.

    Raises:
      ValueError: a path that the params do not have.
    """
    if not custom:
        return {}
    wanted = {key if isinstance(key, str) else text(key): s for key, s in custom.items()}
    check_known("custom_sparsity_map", wanted, by_text(tree))
    return wanted


def check_known(option: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    """Refuses a path as text that is not among the known ones, or above one of them."""
    known = list(known)
    for path in wanted:
        above = any(other.startswith(f"{path}/") for other in known)
        if path not in known and not above:
            near = difflib.get_close_matches(path, known, n=3, cutoff=0.3) or known[:3]
            raise ValueError(
                f"{option}: found {path}, which is no path of the params; expected one such as "
                + ", ".join(near)
            )


def parts(tree: PyTree, params: PyTree) -> list[Any]:
    """Returns the leaf of a tree like the params for each array of the params, None for none.

    Args:
      tree: None may stand for any part of it; its boxes may be other than those of the params.
      params: the params.
    """
    if is_missing(tree):
        return [None] * len(jax.tree.leaves(params))
    leaves, treedef = leaves_and_structure(tree, is_missing)
    try:
        groups = treedef.flatten_up_to(params)
    except ValueError:
        named = by_text(tree)
        paths, _, _ = flatten(params)
        if not {text(path) for path in paths} & named.keys():
            raise
        return [None if is_missing(named.get(text(p))) else named[text(p)] for p in paths]
    found: list[Any] = []
    for leaf, group in zip(leaves, groups, strict=True):
        count = len(jax.tree.leaves(group))
        found += [None] * count if is_missing(leaf) else [leaf] * count
    return found


def map_like(function: Callable[[Path, Any], Any], params: PyTree, tree: PyTree) -> PyTree:
    """Maps (path, leaf of a tree like the params or None) over the params."""
    paths, _, treedef = flatten(params)
    return treedef.unflatten(list(map(function, paths, parts(tree, params))))


def without_mask(masks: PyTree, params: PyTree) -> list[Path]:
    """Returns the paths of the params that have no mask."""
    paths, _, _ = flatten(params)
    return [path for path, mask in zip(paths, parts(masks, params), strict=True) if mask is None]
