"""Whether a layer can hold a pattern of masks: n:m, blocks, channels.

Called by the updaters, which leave dense what cannot, and by trainings, which refuse it.
"""

from typing import Any

import numpy as np

from dst_jax.sparsity import param_paths, told
from dst_jax.sparsity.param_paths import PyTree
from dst_jax.sparsity.sparsity_types import Block, Channel, NByM, SparsityType


def misfit(pattern: SparsityType, shape: tuple[int, ...]) -> str:
    """Returns what a layer would need to hold a pattern; "" if it can.

    Blocks may be cut off at the edge of a layer.
    """
    if isinstance(pattern, NByM | Channel) and not -len(shape) <= pattern.axis < len(shape):
        return f"an axis {pattern.axis}"
    if isinstance(pattern, NByM):
        length = shape[pattern.axis]
        where = "a last axis" if pattern.axis in (-1, len(shape) - 1) else f"an axis {pattern.axis}"
        return f"{where} of a multiple of {pattern.m}" if length % pattern.m else ""
    if isinstance(pattern, Block):
        rows, columns = (1, *shape)[-2:] if len(shape) < 2 else shape[:2]
        height, width = pattern.block_shape
        count = -(-rows // height) * -(-columns // width)
        return "several blocks in a layer (all later axes belong to the block)" if count < 2 else ""
    if isinstance(pattern, Channel):
        return "an axis of several channels" if shape[pattern.axis] < 2 else ""
    return ""


def fitting(pattern: SparsityType, targets: PyTree, params: PyTree) -> PyTree:
    """Returns the target sparsities, None for layers that cannot hold a pattern; warns of them.

    Args:
      pattern: the pattern.
      targets: a tree like the params of sparsities and None.
      params: the params.
    """
    shapes = {p: np.shape(leaf) for p, leaf in param_paths.by_text(params).items()}
    dense: list[str] = []

    def keep(path: Any, target: Any) -> Any:
        name = param_paths.text(path)
        if target is None or not (why := misfit(pattern, shapes[name])):
            return target
        dense.append(f"{name} {list(shapes[name])} needs {why}")
        return None

    kept = param_paths.map_like(keep, params, targets)
    if dense:
        more = f"; and {len(dense) - 3} more" if len(dense) > 3 else ""
        told.once(
            f"sparsity_type: found layers that cannot hold {pattern}, left dense: "
            f"{'; '.join(dense[:3])}{more}"
        )
    return kept
