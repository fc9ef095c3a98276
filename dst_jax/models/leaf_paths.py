"""The leaves of a params tree by their paths as text, such as `layer1_0/conv1/kernel`.

Called by everything that names a leaf: checks before a training, runs that are read, analyses.
"""

import re
from typing import Any

import jax


def text(path: tuple[Any, ...]) -> str:
    """A path of JAX's, as `jax.tree.leaves_with_path` gives it, as text."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def by_path(tree: Any) -> dict[str, Any]:
    """Path -> leaf, in the tree's order; leaves that are None are left out."""
    return {text(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def natural_order(path: str) -> list[tuple[int, str]]:
    """A key that sorts `blocks_2` before `blocks_10`."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)]
