"""Whether a pattern of masks (`sparsity.sparsity_type`) fits a network and the sparsity asked for.

A pattern that a layer cannot hold, or that would remove another share of the weights than the
config says, is refused; a layer can be left dense by `sparsity.exclude`. How masks of a pattern are
chosen is in `sparsity.mask_calculator`. Called by `algorithm_checks`.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax

from dst_jax import sparsity
from dst_jax.errors import UserError
from dst_jax.sparsity import config_keys, mask_calculator
from dst_jax.sparsity.sparsity_types import Block, Channel, NByM, SparsityType, Unstructured

# By how much the share of the removed weights may miss `sparsity.sparsity`, since blocks and
# channels are removed whole.
_TOLERANCE = 0.02
_WHERE = "config.sparsity.sparsity_type"


def check(
    algorithm: Any,
    options: Mapping[str, Any],
    layers: Mapping[str, tuple[int, ...]],
    updater: sparsity.BaseUpdater,
) -> None:
    """Checks the pattern of a config.

    Args:
      algorithm: the class of the updater.
      options: the section `sparsity` of the resolved config.
      layers: path -> shape of the maskable layers.
      updater: the config's updater.

    Raises:
      UserError: the algorithm needs another pattern, a layer does not fit it, or it contradicts
        `sparsity.sparsity` or `sparsity.dist_type`.
    """
    text, name = options.get("sparsity_type", ""), options["algorithm"]
    pattern = config_keys.sparsity_type(text)
    if algorithm.needs_pattern and not isinstance(pattern, algorithm.needs_pattern):
        kind = config_keys.type_name(algorithm.needs_pattern)
        raise UserError(_WHERE, repr(text), f"{kind} with {name}, such as nm_2,4")
    if isinstance(pattern, Unstructured):
        return
    misfits = {path: why for path, shape in layers.items() if (why := _misfit(pattern, shape))}
    if misfits:
        path, why = next(iter(misfits.items()))
        shape = " x ".join(map(str, layers[path]))
        more = f" and {len(misfits) - 1} more layers" if len(misfits) > 1 else ""
        dense = "|".join(f"^{re.escape(path)}" for path in misfits)
        raise UserError(
            _WHERE,
            f"{text} with {path} ({shape}){more}",
            why,
            f"Leave them dense with --config.sparsity.exclude='{dense}'"
            if len(misfits) <= 3 and len(misfits) < len(layers)
            else "Use another pattern, or leave such layers dense with config.sparsity.exclude",
        )
    if isinstance(pattern, NByM):
        _check_n_by_m(pattern, options)
    else:
        _check_share(pattern, options, layers, updater)


def _misfit(pattern: SparsityType, shape: tuple[int, ...]) -> str:
    """What a layer would need for the pattern; "" if it fits."""
    if isinstance(pattern, NByM):
        length = shape[pattern.axis]
        return f"a last axis of a multiple of {pattern.m}" if length % pattern.m else ""
    if isinstance(pattern, Block):
        height, width = pattern.block_shape
        if shape[0] % height or shape[1] % width:
            return f"first two axes of multiples of {height} and {width}"
        count = (shape[0] // height) * (shape[1] // width)
        return "several blocks in a layer (all later axes belong to the block)" if count < 2 else ""
    assert isinstance(pattern, Channel)
    if not -len(shape) <= pattern.axis < len(shape):
        return f"an axis from {-len(shape)} to {len(shape) - 1}"
    return "an axis of several channels" if shape[pattern.axis] < 2 else ""


def _check_n_by_m(pattern: NByM, options: Mapping[str, Any]) -> None:
    """n:m leaves nothing to choose: each layer loses 1 - n/m."""
    implied, text = 1 - pattern.n / pattern.m, options["sparsity_type"]
    if abs(options["sparsity"] - implied) > 1e-6:
        raise UserError(
            "config.sparsity.sparsity",
            options["sparsity"],
            f"{implied:g} with sparsity_type {text}",
            f"Set --config.sparsity.sparsity={implied:g}",
        )
    if options["dist_type"] != "uniform":
        raise UserError(
            "config.sparsity.dist_type",
            options["dist_type"],
            f"uniform with sparsity_type {text}, which gives all layers the same sparsity",
            "Set --config.sparsity.dist_type=uniform",
        )


def _check_share(
    pattern: Block | Channel,
    options: Mapping[str, Any],
    layers: Mapping[str, tuple[int, ...]],
    updater: sparsity.BaseUpdater,
) -> None:
    """Compares what whole blocks or channels can remove with what the config asks for."""
    nested: dict[str, Any] = {}
    for path, shape in layers.items():
        *parents, leaf = path.split("/")
        node = nested
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = jax.ShapeDtypeStruct(shape, "float32")
    targets = jax.tree.leaves_with_path(updater.sparsity_distribution_fn(nested))  # type: ignore[misc]
    total, removed = 0, 0.0
    for keys, target in targets:
        shape = layers[jax.tree_util.keystr(keys, simple=True, separator="/")]
        if isinstance(pattern, Block):
            height, width = pattern.block_shape
            count = (shape[0] // height) * (shape[1] // width)
        else:
            count = shape[pattern.axis]
        size = 1
        for length in shape:
            size *= length
        active = mask_calculator.number_active(count, target)
        total, removed = total + size, removed + size * (1 - active / count)
    if abs(removed / total - options["sparsity"]) > _TOLERANCE:
        raise UserError(
            _WHERE,
            f"{options['sparsity_type']}, which can remove {removed / total:.3f} of the weights in "
            "whole blocks or channels",
            f"a pattern that comes within {_TOLERANCE:g} of config.sparsity.sparsity, "
            f"{options['sparsity']:g}",
        )
