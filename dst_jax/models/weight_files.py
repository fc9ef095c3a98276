"""Our own layouts of a file of weights: dense with zeros, and compact. Both are `.safetensors`.

Arrays have the paths of our leaves: `params/conv1/kernel`, `batch_stats/bn1/mean`. In the compact
layout a masked leaf is two arrays: `PATH.values`, its active weights in the order of C, and
`PATH.mask`, one bit a weight, the first in a byte's highest bit; its shape is in the metadata. A
weight takes 32 bits dense and 1 + 32 x density compact, so compact is the smaller file below a
density of 31/32 = 0.97. Called by `models.load_weights`, `export` and `initial_weights`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from dst_jax.errors import UserError
from dst_jax.models import safetensors_files

BREAK_EVEN = 31 / 32  # density of float32 weights at which both layouts take the same room
COLLECTIONS = ("params", "batch_stats")
_LAYOUT, _SHAPES = "layout", "shapes"  # in the metadata
_VALUES, _MASK = ".values", ".mask"


def dense(params: Any, batch_stats: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of the dense layout; inactive weights are zeros.

    Args:
      params: nested dicts of arrays, masked.
      batch_stats: the same, or {}.
    """
    trees = {"params": params, "batch_stats": batch_stats}
    leaves = traverse_util.flatten_dict(trees, sep="/")
    return {path: np.asarray(leaf) for path, leaf in leaves.items()}, {_LAYOUT: "dense"}


def compact(
    params: Any, batch_stats: Any, masks: Any
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of the compact layout.

    Args:
      params: nested dicts of arrays, masked.
      batch_stats: the same, or {}.
      masks: uint8 0/1, nested like params; layers without a mask are None or not there.
    """
    leaves, _ = dense(params, batch_stats)
    shapes = {}
    for path, mask in traverse_util.flatten_dict(masks, sep="/").items():
        if mask is None:
            continue
        name, chosen = f"params/{path}", np.asarray(mask) != 0
        weights = leaves.pop(name)
        shapes[name] = list(weights.shape)
        leaves[name + _VALUES] = weights[chosen]
        leaves[name + _MASK] = np.packbits(chosen)
    return leaves, {_LAYOUT: "compact", _SHAPES: json.dumps(shapes)}


def load(path: str | Path) -> dict[str, Any]:
    """See `models.load_weights`."""
    arrays, metadata = safetensors_files.read(path)
    if not is_ours(arrays):
        raise UserError(
            str(path),
            f"tensors such as {min(arrays, default='none')}",
            "a file of run.export",
            "Weights of a PyTorch network: dst_jax.models.load_torch",
        )
    return decoded(arrays, metadata, str(path))


def is_ours(arrays: Mapping[str, Any]) -> bool:
    """Whether the arrays of a file are in one of these layouts."""
    return bool(arrays) and all(name.partition("/")[0] in COLLECTIONS for name in arrays)


def decoded(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], where: str
) -> dict[str, Any]:
    """{"params", "batch_stats", "masks"} of the arrays of a file.

    Args:
      arrays: of either layout.
      metadata: of the file.
      where: its path, for the text of an error.

    Raises:
      UserError: masks, values and shapes do not fit each other.
    """
    leaves = {path: np.array(array) for path, array in arrays.items()}
    masks = {}
    try:
        shapes = json.loads(metadata.get(_SHAPES, "{}"))
        for name, shape in shapes.items():
            bits, values = leaves.pop(name + _MASK), leaves.pop(name + _VALUES)
            count = int(np.prod(shape))
            if bits.dtype != np.uint8 or len(bits) != -(-count // 8):
                raise ValueError(f"{name}: {bits.size} bytes of mask for {shape}")
            mask = np.unpackbits(bits, count=count).reshape(shape)
            weights = np.zeros(shape, values.dtype)
            weights[mask != 0] = values
            leaves[name], masks[name.partition("/")[2]] = weights, mask
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(where, f"a damaged file ({error})", "a file of run.export") from None
    trees = traverse_util.unflatten_dict(leaves, sep="/")
    return {
        **{name: trees.get(name, {}) for name in COLLECTIONS},
        "masks": traverse_util.unflatten_dict(masks, sep="/"),
    }
